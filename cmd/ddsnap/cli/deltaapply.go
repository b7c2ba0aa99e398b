// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/replica"
)

// deltaApplication is one run of delta apply.
type deltaApplication struct {
	app                  *app
	base, output         string
	content              contentFlags
	yes, dryRun, abandon bool
}

func (a *app) deltaApply() *cobra.Command {
	d := &deltaApplication{app: a}
	cmd := &cobra.Command{
		Use:   "apply [flags] SERVER|STORE FILE|-\n  ddsnap delta apply --output NEW [--base OLD] FILE|-\n  ddsnap delta apply --abandon SERVER|STORE",
		Short: "Make a volume, or a file, what a delta says",
		Long: `Apply makes the origin of a volume what the delta FILE, or with "-" the one on standard
input, says, and a snapshot of it with the sender's tag and name. The newest snapshot of the
volume must be the one that the delta leads from, known by where it was made first and
not by its name, and the origin must hold the same; a volume without snapshots takes a
delta of all of one. Nobody else may write to the origin.

A delta that can be read twice, which a pipe cannot, is verified as a whole, and against
the base, before the first byte is written. At any crash or cut the older snapshot is
what it was, and the newer one is there whole or not at all. In between, the same delta
goes on where it was; no other is taken, and no snapshot, until --abandon gives the origin
the older content back.

With --output it makes the file NEW, which must not exist, of OLD, which stays as it is.
Where the file system can, they share what is the same.

A running server is written to over NBD; of a store that no server has open, --origin names
the origin.`,
		Example: `  ddsnap delta apply /srv/copy.store tuesday.delta
  ssh origin ddsnap delta create /srv/vm.store 1 2 - | ddsnap delta apply /srv/copy.store -
  ddsnap delta apply --base monday.img --output tuesday.img tuesday.delta`,
	}
	fl := cmd.Flags()
	fl.StringVar(&d.base, "base", "", "with --output, the `file` that has the older content")
	fl.StringVarP(&d.output, "output", "o", "", "the `file` to make")
	fl.BoolVar(&d.abandon, "abandon", false, "give the origin the content of the older snapshot back")
	fl.BoolVar(&d.dryRun, "dry-run", false, "verify, print what would be done, and do nothing")
	fl.BoolVarP(&d.yes, "yes", "y", false, "don't ask before all of an origin is overwritten")
	d.content.add(cmd)
	f := a.targetFlags(cmd)
	a.progressFlag(cmd)
	cmd.Args = func(cmd *cobra.Command, got []string) error {
		switch {
		case d.output != "":
			return args(1, 1, "FILE|-")(cmd, got)
		case d.base != "":
			return usageError{errors.New("--base is for --output: a volume has its base")}
		case d.abandon:
			return args(1, 1, "SERVER|STORE")(cmd, got)
		}
		return args(2, 2, "SERVER|STORE", "FILE|-")(cmd, got)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		if d.output != "" {
			return d.toFile(ctx, args[0])
		}
		f.works = !d.dryRun
		t, err := a.open(ctx, args[0], f, d.dryRun)
		if err != nil {
			return err
		}
		if d.abandon {
			err = d.giveBack(ctx, t)
		} else {
			err = d.toVolume(ctx, t, args[1])
		}
		return errors.Join(err, t.close())
	}
	return cmd
}

func (d *deltaApplication) toFile(ctx context.Context, name string) error {
	from, done, err := d.app.openDelta(name)
	if err != nil {
		return err
	}
	defer done()
	o, finish := d.options()
	defer finish()
	if _, err := delta.ApplyToFile(ctx, from, d.base, d.output, o); err != nil {
		return fmt.Errorf("applying %s: %w", name, err)
	}
	return nil
}

// options has progress shown.
func (d *deltaApplication) options() (o delta.ApplyOptions, finish func()) {
	show, finish := d.app.progress("applying")
	if show != nil {
		o.Progress = func(done, total int64) { show(uint64(done), uint64(total)) }
	}
	return o, finish
}

func (d *deltaApplication) toVolume(ctx context.Context, t *target, name string) (err error) {
	from, done, err := d.app.openDelta(name)
	if err != nil {
		return err
	}
	defer done()
	v, closeVolume, err := d.content.replica(t, d.dryRun)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeVolume()) }()
	o, finish := d.options()
	defer finish()
	res, err := replica.Apply(ctx, from, v, replica.Options{ApplyOptions: o, DryRun: d.dryRun, Confirm: func(delta.Header) error {
		if d.yes {
			return nil
		}
		return d.app.confirm(fmt.Sprintf("What the origin on %s holds will be lost.", t.name))
	}})
	switch {
	case errors.Is(err, replica.ErrOther):
		return fmt.Errorf("applying %s to %s: %w with --abandon", name, t.name, err)
	case err != nil:
		return fmt.Errorf("applying %s to %s: %w", name, t.name, err)
	case d.app.json:
		return d.app.printJSON(appliedDelta{res.Header.To.Tag, res.Header.To.Name, res.Resumed, res.There, d.dryRun})
	case d.dryRun && res.There:
		fmt.Fprintf(d.app.Out, "snapshot %d is there already: nothing would be done\n", res.Header.To.Tag)
	case d.dryRun:
		fmt.Fprintf(d.app.Out, "would make %s\nnothing was done (--dry-run)\n", endText(&res.Header.To))
	}
	return nil
}

// appliedDelta is what apply --json prints.
type appliedDelta struct {
	Tag     block.Tag `json:"tag"`
	Name    string    `json:"name,omitempty"`
	Resumed bool      `json:"resumed"`
	There   bool      `json:"was_there"`
	DryRun  bool      `json:"dry_run,omitempty"`
}

// giveBack undoes a delta that was applied in part.
func (d *deltaApplication) giveBack(ctx context.Context, t *target) error {
	if d.dryRun {
		return usageError{errors.New("--dry-run is not for --abandon")}
	}
	base, err := replica.Abandon(ctx, t)
	switch {
	case err != nil:
		return fmt.Errorf("abandoning the delta that is being applied to %s: %w", t.name, err)
	case d.app.json:
		return d.app.printJSON(base)
	}
	return nil
}
