// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/delta"
)

// deltaApplication is one run of delta apply.
type deltaApplication struct {
	app          *app
	base, output string
}

func (a *app) deltaApply() *cobra.Command {
	d := &deltaApplication{app: a}
	cmd := &cobra.Command{
		Use:   "apply --output NEW [flags] FILE|-",
		Short: "Make the newer content of the older and a delta",
		Long: `Apply makes the file NEW, which must not exist, what the delta makes of the file or device
--base, which must hold what the snapshot FROM of the delta held and stays as it is;
a delta of all of a volume needs none. Where the file system can, NEW shares what is the
same. NEW is there only when it is complete, verified and durable.

A delta that can be read twice, which a pipe cannot, is verified as a whole, and
against the base, before anything is made. It is refused with 6 if the base is not the
right one.`,
		Example: `  ddsnap delta apply --base monday.img --output tuesday.img tuesday.delta
  ssh origin ddsnap delta create /srv/vm.store 1 - | ddsnap delta apply --output vm.img -`,
		Args: args(1, 1, "FILE|-"),
	}
	cmd.Flags().StringVar(&d.base, "base", "", "`file` that has the older content")
	cmd.Flags().StringVarP(&d.output, "output", "o", "", "the `file` to make")
	a.progressFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if d.output == "" {
			return usageError{errors.New("name the file to make with --output")}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		return d.toFile(ctx, args[0])
	}
	return cmd
}

func (d *deltaApplication) toFile(ctx context.Context, name string) error {
	from, done, err := d.app.openDelta(name)
	if err != nil {
		return err
	}
	defer done()
	show, finish := d.app.progress("applying")
	defer finish()
	var o delta.ApplyOptions
	if show != nil {
		o.Progress = func(done, total int64) { show(uint64(done), uint64(total)) }
	}
	if _, err := delta.ApplyToFile(ctx, from, d.base, d.output, o); err != nil {
		return fmt.Errorf("applying %s: %w", name, err)
	}
	return nil
}
