// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/digest/compute"
)

// digestFlags say how digests are computed in the background.
type digestFlags struct {
	rate string
	age  time.Duration
}

// noDigests is the rate that turns it off.
const noDigests = "off"

func (f *digestFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.rate, "digest-rate", "",
		fmt.Sprintf("`size` a second to read for digests of snapshots, or off (default %s)", formatSize(compute.DefaultRate)))
	cmd.Flags().DurationVar(&f.age, "digest-age", 0, fmt.Sprintf("`time` before a snapshot's digest is computed (default %v)", compute.DefaultAge))
	_ = cmd.RegisterFlagCompletionFunc("digest-rate", cobra.FixedCompletions([]string{noDigests}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *digestFlags) given() bool { return f.rate != "" || f.age != 0 }

// config returns the rate of a service.
func (f *digestFlags) config() (int64, error) {
	switch {
	case f.age < 0:
		return 0, fmt.Errorf("--digest-age %v is less than nothing", f.age)
	case f.rate == noDigests:
		return service.NoDigests, nil
	case f.rate == "":
		return 0, nil
	}
	n, err := parseSize(f.rate)
	if err != nil {
		return 0, fmt.Errorf("--digest-rate: %w", err)
	}
	return n, nil
}
