// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/store"
)

// resizing is one run of resize.
type resizing struct {
	app                 *app
	origin, store, meta size
	device              string
	deviceBytes         int64 // of device
	yes, dryRun         bool
}

// longTimeout is for requests that take as long as it takes to copy a store.
const longTimeout = 30 * 24 * time.Hour

func (a *app) resize() *cobra.Command {
	r := &resizing{app: a}
	cmd := &cobra.Command{
		Use:   "resize [flags] SERVER|STORE",
		Short: "Change the size of the origin or the store",
		Long: `Resize makes the origin, the store or its metadata larger or smaller, while they are
in use. To grow, make the device or file larger first; to shrink, make it smaller
when resize has returned. Each snapshot keeps its size and its content.

To shrink the origin, what snapshots share with its end is copied out first. To
shrink the store, what lies beyond its new end is moved. NBD clients see a new size
when they connect again, block devices at once. If resize is interrupted, a running
server goes on with it.

A "ddsnap server" asks the process that has the origin open whether its device is
large enough. While there is none, or no server, name the device of an origin that
is to grow with --origin-device.

On a terminal it asks before it shrinks something; elsewhere that needs --yes.`,
		Example: `  lvextend -L 20g vg/origin && ddsnap resize --origin 20g /dev/vg/store
  ddsnap resize --dry-run --store 5g /srv/vm.store`,
		Args: args(1, 1, "SERVER|STORE"),
	}
	f := a.targetFlags(cmd)
	fl := cmd.Flags()
	fl.VarP(&r.origin, "origin", "o", "new size of the origin")
	fl.StringVar(&r.device, "origin-device", "", "`device` of the origin, where no process has it open")
	fl.VarP(&r.store, "store", "s", "new size of the store device")
	fl.Var(&r.meta, "metadata", "new size of the metadata device")
	fl.BoolVar(&r.dryRun, "dry-run", false, "print what would be done, and do nothing")
	fl.BoolVarP(&r.yes, "yes", "y", false, "don't ask before shrinking")
	a.progressFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if r.origin == 0 && r.store == 0 && r.meta == 0 {
			return usageError{errors.New("name a new size: --origin, --store or --metadata")}
		}
		if err := r.checkDevice(args[0]); err != nil {
			return err
		}
		if !cmd.Flags().Changed("timeout") {
			a.timeout = longTimeout
		}
		return a.with(cmd.Context(), args[0], f, r.dryRun, r.run)
	}
	return cmd
}

// checkDevice looks whether the origin's device, if it is named, is large enough.
func (r *resizing) checkDevice(target string) (err error) {
	switch {
	case r.device == "":
		return nil
	case r.origin == 0:
		return usageError{errors.New("--origin-device is for --origin")}
	}
	if err := distinct(target, r.device); err != nil {
		return err
	}
	if r.deviceBytes, err = sizeOf(r.device); err != nil {
		return err
	}
	if r.deviceBytes < int64(r.origin) {
		return fmt.Errorf("%w: origin %s has %d bytes, and not %d: make it larger first", block.ErrGeometry, r.device, r.deviceBytes, int64(r.origin))
	}
	return nil
}

func (r *resizing) run(ctx context.Context, t *target) error {
	want := admin.Resize{Origin: int64(r.origin), Store: int64(r.store), Meta: int64(r.meta), Device: r.deviceBytes, DryRun: true}
	plan, err := r.request(ctx, t, want)
	switch {
	case err != nil:
		return err
	case r.dryRun && r.app.json:
		return r.app.printJSON(plan)
	case r.dryRun:
		return r.print(plan)
	case t.offline != nil && plan.NewOrigin > plan.Origin && r.device == "":
		return fmt.Errorf("%w: whether the origin's device has %d bytes is not known without a server: name the device with --origin-device",
			block.ErrGeometry, plan.NewOrigin)
	case plan.Shrinks() && !r.yes:
		loss := fmt.Sprintf("The store on %s will be shrunk.", t.name)
		if plan.NewOrigin < plan.Origin {
			loss = fmt.Sprintf("What the origin on %s holds beyond %s will be lost.", t.name, formatSize(plan.NewOrigin))
		}
		if err := r.app.confirm(loss); err != nil {
			return err
		}
	}
	want.DryRun = false
	if plan, err = r.request(ctx, t, want); err == nil && r.app.json {
		return r.app.printJSON(plan)
	}
	return err
}

// request asks for a resize, and shows its progress where it is done by this process.
func (r *resizing) request(ctx context.Context, t *target, want admin.Resize) (*admin.ResizePlan, error) {
	m := t.Manager
	if t.offline != nil && !want.DryRun {
		show, finish := r.app.progress("resizing")
		defer finish()
		local := admin.Local{Store: t.offline}
		if show != nil {
			local.Progress = func(p store.Progress) { show(p.Done, p.Total) }
		}
		m = local
	}
	got, err := m.Do(ctx, admin.Request{Verb: admin.VerbResize, Resize: &want})
	switch {
	case errors.Is(err, store.ErrResizing):
		return nil, fmt.Errorf("%s: %w: try again when it has ended", t.name, err)
	case err != nil:
		return nil, fmt.Errorf("resizing %s: %w", t.name, err)
	}
	return got.Plan, nil
}

func (r *resizing) print(p *admin.ResizePlan) error {
	from := func(old, now int64) string {
		if old == now {
			return formatSize(old) + ", as it is"
		}
		return fmt.Sprintf("%s, and %s now", formatSize(now), formatSize(old))
	}
	fields := [][2]string{
		{"Origin", from(p.Origin, p.NewOrigin)},
		{"Store", fmt.Sprintf("%s; at least %s", from(p.Store, p.NewStore), formatSize(p.MinStore))},
	}
	if p.Meta > 0 {
		fields = append(fields, [2]string{"Metadata", fmt.Sprintf("%s; at least %s", from(p.Meta, p.NewMeta), formatSize(p.MinMeta))})
	}
	fields = append(fields, [][2]string{
		{"To copy out", formatCount(p.CopyOut) + " chunks"},
		{"To move", fmt.Sprintf("up to %s chunks and %s pages", formatCount(p.MoveChunks), formatCount(p.MovePages))},
	}...)
	if err := printFields(r.app.Out, fields); err != nil {
		return err
	}
	_, err := fmt.Fprintln(r.app.Out, "nothing was changed (--dry-run)")
	return err
}
