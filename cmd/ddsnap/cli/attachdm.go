// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/ring"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

// kernelServed reports whether a server runs for what name names that serves the
// kernel's targets.
func (a *app) kernelServed(ctx context.Context, name string) bool {
	if os.Geteuid() != 0 || !ring.Present() || attach.DM.Probe() != nil {
		return false
	}
	err := a.withServer(ctx, name, func(_ context.Context, _ *target, st *admin.Status) error {
		if st.Kernel == nil {
			return attach.ErrNotSupported
		}
		return nil
	})
	return err == nil
}

// processServes reports whether a process makes block devices of the store's volumes.
func (a *app) processServes(ctx context.Context, name string) bool {
	process := func(d admin.Device) bool { return d.Backend != string(attach.DM) }
	err := a.withServer(ctx, name, func(_ context.Context, _ *target, st *admin.Status) error {
		if !slices.ContainsFunc(st.Devices, process) {
			return store.ErrNoOrigin
		}
		return nil
	})
	return err == nil
}

// withServer calls do with the server of what name names, and its status.
func (a *app) withServer(ctx context.Context, name string, do func(context.Context, *target, *admin.Status) error) error {
	return a.with(ctx, name, &targetFlags{}, true, func(ctx context.Context, t *target) error {
		if t.offline != nil {
			return codeError{fmt.Errorf("%w: no server has the store on %s: start \"ddsnap server %s\", which serves the kernel's targets", device.ErrInUse, name, name), exitWrong}
		}
		r, err := t.ask(ctx, admin.VerbStatus)
		if err != nil {
			return err
		}
		return do(ctx, t, r.Status)
	})
}

// attachDM has the kernel make the origin, or a snapshot, a block device.
func (x *attaching) attachDM(ctx context.Context, args []string) error {
	return x.app.withServer(ctx, args[0], func(ctx context.Context, t *target, st *admin.Status) error {
		switch {
		case st.Kernel == nil:
			return codeError{fmt.Errorf("the server of %s does not serve the kernel's targets: load module dm-ddsnap, and start \"ddsnap server --takeover %s\"", args[0], args[0]), exitWrong}
		case st.Placement != layout.PlacementInline.String():
			return codeError{fmt.Errorf("the store has placement %s, and the kernel's targets know %v only: choose another --backend", st.Placement, layout.PlacementInline), exitWrong}
		}
		table := attach.Table{ChunkSize: st.ChunkSize, Size: st.OriginSize, DataOffset: st.DataOffset, Features: x.features()}
		table.UUID = st.UUID
		if err := x.describe(ctx, t, args, &table); err != nil {
			return err
		}
		path, err := mapTarget(table, args[0])
		if err != nil {
			return fmt.Errorf("attaching with dm: %w", err)
		}
		if x.app.json {
			d := admin.Device{Path: path, Backend: string(attach.DM), Writable: table.Writable}
			if !table.Origin {
				d.Snapshot = &table.Tag
			}
			return x.app.printJSON(&d)
		}
		fmt.Fprintln(x.app.Out, path)
		return nil
	})
}

// features are those of the origin's target that were asked for.
func (x *attaching) features() (list []string) {
	if x.batchKiB != 0 {
		list = append(list, "batch_kib", strconv.Itoa(x.batchKiB))
	}
	if x.holdTimeout != 0 {
		list = append(list, "hold_timeout", strconv.Itoa(int(x.holdTimeout/time.Second)))
	}
	if x.flags.onUnreadable != volume.LoseChunk.String() {
		list = append(list, "unreadable", x.flags.onUnreadable)
	}
	return list
}

// checkFeatures returns an error if the kernel would not take them.
func (x *attaching) checkFeatures() error {
	if _, err := volume.ParseUnreadablePolicy(x.flags.onUnreadable); err != nil {
		return usageError{fmt.Errorf("--unreadable: %w", err)}
	}
	switch {
	case x.batchKiB == 0 && x.holdTimeout == 0:
		return nil
	case x.snapshot != "":
		return usageError{errors.New("--batch-kib and --hold-timeout are for the origin, and not for snapshots")}
	case x.batchKiB != 0 && (x.batchKiB < 64 || x.batchKiB > 65536):
		return usageError{fmt.Errorf("--batch-kib %d is not within 64 and 65536", x.batchKiB)}
	case x.holdTimeout < 0 || x.holdTimeout > 24*time.Hour || x.holdTimeout%time.Second != 0:
		return usageError{fmt.Errorf("--hold-timeout %v is not some whole seconds, nor up to a day", x.holdTimeout)}
	}
	return nil
}

// describe fills in what the origin's target, or the snapshot's, is about.
func (x *attaching) describe(ctx context.Context, t *target, args []string, table *attach.Table) error {
	found, err := attach.Targets(table.UUID)
	if err != nil {
		return err
	}
	origin := slices.IndexFunc(found, func(f attach.Target) bool { return f.Origin })
	if len(args) > 1 {
		table.OriginDevice = args[1]
	}
	if x.snapshot == "" {
		table.Origin, table.Writable = true, true
		if origin >= 0 {
			return codeError{fmt.Errorf("the origin: %w: it is attached as %s already", store.ErrInUse, found[origin].Path), exitInUse}
		}
		return nil
	}
	ref, err := parseRef(x.snapshot)
	if err != nil {
		return err
	}
	s, err := find(ctx, t, ref)
	if err != nil {
		return err
	}
	table.Tag, table.Size, table.Writable = s.Tag, s.Size, x.write
	if i := slices.IndexFunc(found, func(f attach.Target) bool { return !f.Origin && f.Tag == s.Tag }); i >= 0 {
		return codeError{fmt.Errorf("snapshot %v: %w: it is attached as %s already", ref, store.ErrInUse, found[i].Path), exitInUse}
	}
	switch {
	case table.OriginDevice == "" && origin < 0:
		return usageError{errors.New("missing argument: ORGDEV: the kernel does not have the origin, which tells it")}
	case table.OriginDevice == "":
		of, err := found[origin].Table()
		table.OriginDevice = of.OriginDevice
		return err
	}
	return nil
}

// mapTarget makes the target of a table whose devices may be files, and checks first
// what the kernel would not say clearly.
func mapTarget(table attach.Table, storePath string) (string, error) {
	for _, d := range []struct {
		path *string
		from string
	}{{&table.StoreDevice, storePath}, {&table.OriginDevice, table.OriginDevice}} {
		if _, err := os.Stat(d.from); errors.Is(err, os.ErrNotExist) && isNumber(d.from) {
			continue // a device's number, of another target
		}
		node, hold, err := attach.BlockDevice(d.from)
		if err != nil {
			return "", err
		}
		defer hold.Close()
		*d.path = node
	}
	if table.Origin {
		f, err := device.OpenFile(table.OriginDevice, device.FileOptions{ReadOnly: true})
		if err != nil {
			return "", err
		}
		size := f.Size()
		if err := f.Close(); err != nil {
			return "", err
		}
		if size < table.Size {
			return "", fmt.Errorf("%w: origin %s has %d bytes, and the store is for one of %d: is it the right device?", block.ErrGeometry, table.OriginDevice, size, table.Size)
		}
	}
	return attach.MapTarget(table)
}

// isNumber reports whether text is a device's number, such as 8:16.
func isNumber(text string) bool {
	major, minor, ok := strings.Cut(text, ":")
	return ok && major != "" && minor != "" && strings.Trim(major+minor, "0123456789") == ""
}

// detachDM removes the block device of the kernel's target that ref names, nil for the
// origin, and reports whether there was one. It needs no server.
func (a *app) detachDM(ctx context.Context, name string, f *targetFlags, ref *admin.Ref, force bool) (bool, error) {
	if !ring.Present() {
		return false, nil
	}
	uuid, tag, err := a.identify(ctx, name, f, ref)
	if err != nil {
		return false, nil // the server will say
	}
	found, err := attach.Targets(uuid)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(found, func(t attach.Target) bool { return t.Origin == (ref == nil) && (t.Origin || t.Tag == tag) })
	if i < 0 {
		return false, nil
	}
	err = attach.UnmapTarget(found[i], force)
	if errors.Is(err, device.ErrInUse) {
		err = codeError{fmt.Errorf("%w: unmount it first, or insist with --force", err), exitInUse}
	}
	return true, err
}

// identify returns which store name names, and the tag of the snapshot. The store's
// devices are asked where there is no server.
func (a *app) identify(ctx context.Context, name string, f *targetFlags, ref *admin.Ref) (uuid string, tag block.Tag, err error) {
	if ref != nil {
		tag = ref.Tag
	}
	err = a.withServer(ctx, name, func(ctx context.Context, t *target, st *admin.Status) error {
		uuid = st.UUID
		if ref == nil || ref.Name == "" {
			return nil
		}
		s, err := find(ctx, t, *ref)
		tag = s.Tag
		return err
	})
	if err == nil || ref != nil && ref.Name != "" {
		return uuid, tag, err
	}
	id, err := service.StoreUUID(service.Paths{Store: name, Meta: f.meta})
	return id.String(), tag, err
}
