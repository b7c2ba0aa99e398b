// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// earlyInit mounts the root file system and gives way to the guest's init.
//
//go:embed guest/early-init
var earlyInit []byte

// earlyModules are what early user space needs to reach the root file system and
// the host's directories.
var earlyModules = []string{"virtio_pci", "virtio_blk", "virtio_console", "crc32c_generic", "ext4", "overlay", "9pnet_virtio", "9p"}

// initrd returns the early user space of the kernel unpacked in dir.
func (c *Cache) initrd(ctx context.Context, version, dir, release string) (string, error) {
	modules := filepath.Join(dir, "root/lib/modules", release)
	inputs := append([]string{dir, string(earlyInit)}, earlyModules...)
	made, err := c.build("initrd-"+version, inputs, func(part string) error {
		busybox, err := os.ReadFile(filepath.Join(dir, "root/bin/busybox"))
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := writeInitrd(ctx, &b, busybox, modules); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(part, "initrd"), b.Bytes(), 0o644)
	})
	return filepath.Join(made, "initrd"), err
}

func writeInitrd(ctx context.Context, b *bytes.Buffer, busybox []byte, modules string) error {
	text, err := os.ReadFile(filepath.Join(modules, "modules.dep"))
	if err != nil {
		return err
	}
	builtin, err := os.ReadFile(filepath.Join(modules, "modules.builtin"))
	if err != nil {
		return err
	}
	order, err := loadOrder(string(text), string(builtin), earlyModules)
	if err != nil {
		return err
	}
	w := &cpioWriter{w: b}
	for _, dir := range []string{"bin", "dev", "proc", "sys", "modules", "base", "lower", "root"} {
		w.add(dir, cpioDir, nil)
	}
	w.add("init", cpioExec, earlyInit)
	w.add("bin/busybox", cpioExec, busybox)
	var names []string
	for _, file := range order {
		content, err := readModule(ctx, filepath.Join(modules, file))
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(path.Base(file), ".xz")
		names = append(names, name)
		w.add("modules/"+name, cpioFile, content)
	}
	w.add("modules/order", cpioFile, []byte(strings.Join(names, "\n")+"\n"))
	return w.close()
}

// loadOrder returns the files of modules and of what they need, each after what
// it needs. Its arguments are modules.dep and modules.builtin.
func loadOrder(dep, builtin string, modules []string) ([]string, error) {
	needs := map[string][]string{}
	file := map[string]string{}
	for line := range strings.Lines(dep) {
		name, list, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		file[moduleName(name)] = name
		needs[name] = strings.Fields(list)
	}
	var order []string
	for _, m := range modules {
		name, ok := file[m]
		if !ok {
			if hasModule(builtin, m) {
				continue
			}
			return nil, fmt.Errorf("the kernel has no module %s", m)
		}
		// modules.dep lists all that is needed, the first needed last.
		for _, f := range slices.Backward(append([]string{name}, needs[name]...)) {
			if !slices.Contains(order, f) {
				order = append(order, f)
			}
		}
	}
	return order, nil
}

// moduleName is what lsmod calls a module file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func hasModule(list, module string) bool {
	for line := range strings.Lines(list) {
		if moduleName(strings.TrimSpace(line)) == module {
			return true
		}
	}
	return false
}

// readModule returns a module, which busybox cannot load if it is compressed.
func readModule(ctx context.Context, name string) ([]byte, error) {
	if strings.HasSuffix(name, ".xz") {
		return command(ctx, filepath.Dir(name), "xz", "-dc", name)
	}
	return os.ReadFile(name)
}
