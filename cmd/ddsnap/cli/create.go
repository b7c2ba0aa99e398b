// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
)

// creation is one run of create.
type creation struct {
	app    *app
	new    admin.NewSnapshot
	parent string
	origin string
	freeze string
	limit  time.Duration
}

func (a *app) create() *cobra.Command {
	c := &creation{app: a}
	cmd := &cobra.Command{
		Use:   "create [flags] SERVER|STORE TAG",
		Short: "Take a snapshot",
		Long: `Create takes a snapshot of the origin as it is now, or with --parent one of a
snapshot, and calls it TAG, a number from 0 to 4294967295. With --name it can be
called by that too. It is durable when create returns, and takes no time to speak
of, however large the origin and however many the snapshots.

The first argument is the control socket of a running server, or a store that no
server has open. In the second case the origin must not be written to except
through a server from then on, and what is written to it must be durable before:
name it with --origin, or the whole system is flushed as by sync(1), which can take
long.

A file system that is mounted is as after a crash in the snapshot, unless --freeze
has it write all out and wait while the snapshot is taken.`,
		Example: `  ddsnap create /srv/vm.store 17
  ddsnap create --name before-upgrade --hold /srv/vm.store 18
  ddsnap create --parent before-upgrade /srv/vm.store 19
  ddsnap create --origin /srv/vm.img /srv/vm.store $(date +%s)`,
		Args: args(2, 2, "SERVER|STORE", "TAG"),
	}
	f := a.targetFlags(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&c.new.Name, "name", "n", "", "`name` for the snapshot, at most 64 bytes")
	fl.StringVar(&c.parent, "parent", "", "take a snapshot of the `snapshot` with this tag or name")
	fl.Int8VarP(&c.new.Priority, "priority", "p", 0, "what a full store gives up first: -128 to 126; 127 never")
	fl.BoolVar(&c.new.Held, "hold", false, "keep it from being deleted until \"hold --release\"")
	fl.StringVar(&c.origin, "origin", "", "`device` of the origin, to be flushed first; a running server knows it")
	fl.StringVar(&c.freeze, "freeze", "", "freeze what is mounted at `point`, or is on this block device")
	fl.DurationVar(&c.limit, "freeze-limit", 10*time.Second, "freeze for so long at most")
	cmd.ValidArgsFunction = a.completeTags(f, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.parse(args[1]); err != nil {
			return err
		}
		return a.with(cmd.Context(), args[0], f, false, c.run)
	}
	return cmd
}

// parse reads what is neither a number nor checked by the store.
func (c *creation) parse(tag string) (err error) {
	if c.new.Tag, err = parseTag(tag); err != nil {
		return err
	}
	if c.new.Name != "" {
		if err := checkName(c.new.Name); err != nil {
			return err
		}
	}
	if c.parent == "" {
		return nil
	}
	parent, err := parseRef(c.parent)
	c.new.Parent = &parent
	return err
}

func (c *creation) run(ctx context.Context, t *target) error {
	if t.offline != nil && c.new.Parent == nil {
		if err := flushOrigin(t, c.origin); err != nil {
			return err
		}
	}
	ref := admin.Ref{Tag: c.new.Tag}
	thaw, err := c.freezeFor(ctx)
	if err != nil {
		return err
	}
	r, err := t.Do(ctx, admin.Request{Verb: admin.VerbCreate, New: &c.new})
	thawed := thaw()
	switch {
	case err == nil && thawed != nil:
		return fmt.Errorf("snapshot %d was taken, but is consistent as after a crash only: %w", c.new.Tag, thawed)
	case errors.Is(err, store.ErrExists):
		return codeError{c.exists(ctx, t), exitExists}
	case c.new.Parent != nil && (errors.Is(err, store.ErrNoSnapshot) || errors.Is(err, store.ErrSquashed)):
		return explain(t, *c.new.Parent, "", err)
	case err != nil:
		return explain(t, ref, "creating", err)
	case c.app.json:
		return c.app.printJSON(r.Snapshot)
	}
	return nil
}

// exists says which of tag and name is taken.
func (c *creation) exists(ctx context.Context, t *target) error {
	if c.new.Name != "" {
		if other, err := find(ctx, t, admin.Ref{Name: c.new.Name}); err == nil && other.Tag != c.new.Tag {
			return fmt.Errorf("snapshot %d on %s has the name %s already: choose another", other.Tag, t.name, c.new.Name)
		}
	}
	return fmt.Errorf("snapshot %d exists already on %s: choose another tag, or delete it first", c.new.Tag, t.name)
}

// flushOrigin makes what was written to the origin as durable as the snapshot will
// be. If it is not named, that takes flushing everything.
func flushOrigin(t *target, origin string) error {
	if origin == "" {
		unix.Sync()
		return nil
	}
	f, err := device.OpenFile(origin, device.FileOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	if want := t.offline.Geometry().Size(); f.Size() < want {
		err = fmt.Errorf("%w: origin %s has %d bytes, and the store on %s is for one of %d: is it the right device?",
			block.ErrGeometry, origin, f.Size(), t.name, want)
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Flush(), f.Close())
}
