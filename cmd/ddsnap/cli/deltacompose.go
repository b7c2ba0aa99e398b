// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/delta"
)

func (a *app) deltaCompose() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compose [flags] FIRST|- SECOND|- NEW|-",
		Short: "Make one delta of two that follow one another",
		Long: `Compose makes of the delta FIRST, from one snapshot to a second, and the delta SECOND,
from that to a third, the delta from the first to the third: as the file NEW, which must
not exist, or with "-" on standard output. It needs no volume, and decodes nothing: what
overlaps is kept and laid one over another when it is applied.

Where content would be needed that the deltas do not have, it is refused, with 5: make the
delta from the snapshots then. So it is if the volume's size changed, if SECOND uses the codec
similar, or changes what FIRST has once, coded against its base, and repeats.`,
		Example: `  ddsnap delta compose monday-tuesday.delta tuesday-wednesday.delta monday-wednesday.delta`,
		Args:    args(3, 3, "FIRST|-", "SECOND|-", "NEW|-"),
	}
	a.jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case args[0] == "-" && args[1] == "-":
			return usageError{errors.New("only one delta can come from standard input")}
		case args[2] == "-" && a.json:
			return usageError{errors.New("--json prints to where the delta goes with \"-\"")}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		first, closeFirst, err := a.openDelta(args[0])
		if err != nil {
			return err
		}
		defer closeFirst()
		second, closeSecond, err := a.openDelta(args[1])
		if err != nil {
			return err
		}
		defer closeSecond()
		var sum delta.Summary
		err = a.writeDelta(args[2], func(w io.Writer) (err error) {
			sum, err = delta.Compose(ctx, w, first, second)
			return err
		})
		switch {
		case err != nil:
			return fmt.Errorf("composing %s and %s: %w", args[0], args[1], err)
		case a.json:
			return a.printJSON(newDelta{sum.Records, sum.Content, sum.Bytes, hex.EncodeToString(sum.Digest[:])})
		}
		return nil
	}
	return cmd
}
