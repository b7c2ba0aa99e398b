// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"zumastor.org/zumastor/harness/lab"
	"zumastor.org/zumastor/harness/spec"
)

// parse puts flags that are lists or sizes into a machine.
func (f *labFlags) parse(cfg *lab.Config) error {
	var err error
	if f.nvdimm != "" {
		if cfg.NVDIMM, err = spec.ParseSize(strings.ToUpper(f.nvdimm)); err != nil {
			return fmt.Errorf("--nvdimm: %w", err)
		}
	}
	for _, text := range f.disks {
		d, err := parseDisk(text)
		if err != nil {
			return fmt.Errorf("--disk: %w", err)
		}
		cfg.Disks = append(cfg.Disks, d)
	}
	for _, text := range f.shares {
		s, err := parseShare(text)
		if err != nil {
			return fmt.Errorf("--share: %w", err)
		}
		cfg.Shares = append(cfg.Shares, s)
	}
	for _, e := range f.env {
		if !environmentName.MatchString(e) {
			return fmt.Errorf("--env: %q is not NAME=value", e)
		}
	}
	if f.accel != "" && f.accel != "kvm" && f.accel != "tcg" {
		return fmt.Errorf("--accel: %q is neither kvm nor tcg", f.accel)
	}
	return nil
}

var (
	environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	diskName        = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)
)

// parseDisk reads NAME=SIZE[,MODEL].
func parseDisk(text string) (lab.Disk, error) {
	name, rest, ok := strings.Cut(text, "=")
	size, model, _ := strings.Cut(rest, ",")
	if !ok || !diskName.MatchString(name) || name == "nvdimm" {
		return lab.Disk{}, fmt.Errorf("%q is not NAME=SIZE with a name of small letters and digits", text)
	}
	if model != "" && model != "hdd" && model != "ssd" {
		return lab.Disk{}, fmt.Errorf("model %q is neither hdd nor ssd", model)
	}
	n, err := spec.ParseSize(strings.ToUpper(size))
	return lab.Disk{Name: name, Size: n, Model: model}, err
}

// parseShare reads DIR[:MOUNT[:ro]].
func parseShare(text string) (lab.Share, error) {
	parts := strings.Split(text, ":")
	s := lab.Share{Mount: "/share"}
	if len(parts) > 1 {
		s.Mount = parts[1]
	}
	if len(parts) > 3 || !filepath.IsAbs(s.Mount) || strings.ContainsAny(s.Mount, " \n") || len(parts) == 3 && parts[2] != "ro" {
		return s, fmt.Errorf("%q is not DIR, DIR:MOUNT or DIR:MOUNT:ro with an absolute MOUNT", text)
	}
	s.ReadOnly = len(parts) == 3
	dir, err := filepath.Abs(parts[0])
	if err != nil {
		return s, err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return s, fmt.Errorf("%s is not a directory", parts[0])
	}
	s.Dir = dir
	return s, nil
}
