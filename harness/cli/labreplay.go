// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/harness/load"
	"zumastor.org/zumastor/harness/replay"
	"zumastor.org/zumastor/harness/spec"
)

// labReplayCommand runs inside a guest, called by the kernel tests.
func (a *app) labReplayCommand() *cobra.Command {
	var o replay.Options
	var origin, store, loaded string
	cmd := &cobra.Command{
		Use: "replay LOG DIR", Short: "Play a log of dm-log-writes, and recover from each power cut in it", Hidden: true,
		Long: "Replay takes the log of a device that is an origin with its store behind it, and the\n" +
			"directory of the load that was on the origin. Both held zeroes when the log began.",
		Args: between(2, 2, "a log, and a load's directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for text, to := range map[*string]*int64{&origin: &o.Origin, &store: &o.Store, &loaded: &o.Loaded} {
				n, err := spec.ParseSize(strings.ToUpper(*text))
				if err != nil {
					return fmt.Errorf("%w: %w", errUsage, err)
				}
				*to = n
			}
			o.Promise = func(tag block.Tag) (pattern.Bounds, error) {
				return load.ReadBounds(filepath.Join(args[1], fmt.Sprint(tag)))
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			l, err := replay.Read(f)
			if err != nil {
				return err
			}
			r, err := replay.Verify(l, o)
			fmt.Fprintf(a.out, "%d entries, %d power cuts, %d snapshots compared\n", r.Entries, 2*r.Points, r.Snapshots)
			return err
		},
	}
	cmd.Flags().StringVar(&origin, "origin", "8M", "`size` of the origin")
	cmd.Flags().StringVar(&store, "store", "32M", "`size` of the store")
	cmd.Flags().StringVar(&loaded, "loaded", "8M", "`bytes` of the origin that were loaded")
	cmd.Flags().IntVar(&o.Points, "points", 20, "`number` of power cuts, 0 for all")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 1, "`number` that decides which")
	return cmd
}
