// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/repair"
)

// repairing is one run of repair.
type repairing struct {
	app                *app
	old, new           service.Paths
	size               size
	tempDir            string
	yes, force, dryRun bool
}

func (a *app) repair() *cobra.Command {
	r := &repairing{app: a}
	cmd := &cobra.Command{
		Use:   "repair [flags] SNAPDEV NEWDEV\n  ddsnap repair --dry-run [flags] SNAPDEV",
		Short: "Make a new store of what can be read of a damaged one",
		Long: `Repair reads all that is left of the store on SNAPDEV, and makes a new store of it on
NEWDEV, with the same snapshots, tags and names. The old store is not written to.
What NEWDEV holds is lost. The old store must have its metadata and journal devices
named, as far as there are such.

What is known to be lost cannot be read in the new store: that is an error, never
other bytes. A snapshot that may have lost something unnoticed is listed as damaged.
Repair exits with 7 unless the new store has all that the old one had.

The origin need not be there, but must not have been written to since the damage,
except through a server of that store. Sorting takes temporary files, of 48 bytes a
copied chunk.`,
		Example: `  ddsnap repair --dry-run /dev/vg/store
  ddsnap repair --size 20g /srv/vm.store /srv/new.store`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.old.Store = args[0]; len(args) > 1 {
				r.new.Store = args[1]
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return r.run(ctx)
		},
	}
	cmd.Args = func(cmd *cobra.Command, got []string) error {
		least := 2
		if r.dryRun {
			least = 1 // it makes nothing
		}
		return args(least, 2, "SNAPDEV", "NEWDEV")(cmd, got)
	}
	fl := cmd.Flags()
	fl.StringVarP(&r.old.Meta, "metadev", "m", "", "metadata `device` of the old store, if it has one")
	fl.StringVarP(&r.old.Journal, "journal", "j", "", "journal `device` of the old store, if it has one")
	fl.StringVar(&r.new.Meta, "new-metadev", "", "metadata `device` for the new store (default on NEWDEV)")
	fl.StringVar(&r.new.Journal, "new-journal", "", "journal `device` for the new store, of placements nvram and pmem")
	fl.Var(&r.size, "size", "make NEWDEV, a new file, of this size")
	fl.StringVar(&r.tempDir, "temp", "", "`directory` for temporary files")
	fl.BoolVar(&r.dryRun, "dry-run", false, "print what could be repaired, and write nothing")
	fl.BoolVar(&r.force, "force", false, "overwrite what the new devices hold")
	fl.BoolVarP(&r.yes, "yes", "y", false, "don't ask")
	a.jsonFlag(cmd)
	a.progressFlag(cmd)
	return cmd
}

func (r *repairing) run(ctx context.Context) error {
	if err := distinct(r.old.Store, r.old.Meta, r.old.Journal, r.new.Store, r.new.Meta, r.new.Journal); err != nil {
		return err
	}
	if !r.dryRun {
		if err := r.checkNew(); err != nil {
			return err
		}
	}
	old, err := service.OpenDevices(r.old, service.Access{ReadOnly: true})
	if err != nil {
		return serverHint(r.old, err)
	}
	report, err := r.do(ctx, old)
	if err = errors.Join(err, old.Close()); err != nil {
		if errors.Is(err, repair.ErrNothing) {
			return codeError{fmt.Errorf("%s: %w: name its metadata device too, if it has one", r.old.Store, err), exitWrong}
		}
		return fmt.Errorf("repairing %s: %w", r.old.Store, err)
	}
	if err := r.print(report); err != nil || report.Whole() {
		return err
	}
	return codeError{fmt.Errorf("not all of the store on %s is left: see above", r.old.Store), exitDamaged}
}

// checkNew makes sure that the new devices may be overwritten.
func (r *repairing) checkNew() (err error) {
	i := &initialization{app: r.app, paths: r.new, size: r.size, force: r.force, yes: r.yes}
	_, statErr := os.Stat(r.new.Store)
	switch exists := !errors.Is(statErr, os.ErrNotExist); {
	case exists && r.size != 0:
		return refusal{fmt.Errorf("%s exists already: --size is for a new file", r.new.Store)}
	case !exists && r.size == 0:
		return codeError{fmt.Errorf("%s does not exist: name a device, or make a file with --size", r.new.Store), exitWrong}
	}
	if err := i.checkUnused(); err != nil {
		return err
	}
	sizes := &deviceSizes{store: int64(r.size)}
	for _, d := range []struct {
		path string
		size *int64
	}{{r.new.Store, &sizes.store}, {r.new.Meta, &sizes.meta}, {r.new.Journal, &sizes.journal}} {
		if d.path == "" || *d.size != 0 {
			continue
		}
		if *d.size, err = sizeOf(d.path); err != nil {
			return err
		}
	}
	if r.size != 0 {
		return nil // there is nothing to lose
	}
	return i.confirmLoss(sizes)
}

// do makes the new store, or the plan of it. A file that was made for it goes again
// if it cannot be made.
func (r *repairing) do(ctx context.Context, old *service.Devices) (report *repair.Report, err error) {
	from := repair.Devices{Store: old.Store}
	if old.Meta != nil {
		from.Meta = old.Meta
	}
	if old.Journal != nil {
		from.Journal = io.ReaderAt(old.Journal)
	}
	show, finish := r.app.progress("reading")
	defer finish()
	o := repair.Options{TempDir: r.tempDir}
	if show != nil {
		o.OnProgress = func(done, total int64) { show(uint64(done), uint64(total)) }
	}
	if r.dryRun {
		return repair.Plan(ctx, from, o)
	}
	access := service.Access{}
	if sb := old.Superblock(); sb != nil {
		access.Placement = sb.Placement
	}
	if r.size != 0 {
		if err := makeFile(r.new.Store, int64(r.size)); err != nil {
			return nil, err
		}
		defer func() {
			if report == nil {
				err = errors.Join(err, os.Remove(r.new.Store))
			}
		}()
	}
	to, err := service.OpenDevices(r.new, access)
	if err != nil {
		return nil, err
	}
	report, err = repair.Run(ctx, from, placement.Devices{Store: to.Store, Meta: to.Meta, Journal: to.Journal}, o)
	return report, errors.Join(err, to.Close())
}

// makeFile makes a sparse file.
func makeFile(path string, size int64) error {
	f, err := device.OpenFile(path, device.FileOptions{Create: size})
	if err != nil {
		return err
	}
	return f.Close()
}
