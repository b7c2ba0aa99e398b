// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// attachments are the block devices that the process makes of its volumes.
type attachments struct {
	service *service
	busy    sync.Mutex // one change at a time
	mu      sync.Mutex // guards list
	list    []*attachment
}

// attachment is one of them.
type attachment struct {
	*attach.Attached
	snapshot *volume.Snapshot // nil: the origin
	writable bool
	release  func() error
}

// describe returns what requests are answered with.
func (a *attachment) describe() admin.Device {
	d := admin.Device{Path: a.Path(), Backend: string(a.Backend()), Writable: a.writable}
	if a.snapshot != nil {
		tag := a.snapshot.Info().Tag
		d.Snapshot = &tag
	}
	return d
}

// name is what errors call it.
func (a *attachment) name() string {
	if a.snapshot == nil {
		return OriginExport
	}
	return SnapshotPrefix + formatTag(a.snapshot.Info().Tag)
}

// is reports whether ref names the attachment; nil is the origin.
func (a *attachment) is(ref *admin.Ref) bool {
	if ref == nil || a.snapshot == nil {
		return ref == nil && a.snapshot == nil
	}
	info := a.snapshot.Info()
	return ref.Name != "" && ref.Name == info.Name || ref.Name == "" && ref.Tag == info.Tag
}

// find returns what ref names, or nil.
func (x *attachments) find(ref *admin.Ref) *attachment {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.IndexFunc(x.list, func(a *attachment) bool { return a.is(ref) }); i >= 0 {
		return x.list[i]
	}
	return nil
}

// devices describes all of them.
func (x *attachments) devices() []admin.Device {
	x.mu.Lock()
	defer x.mu.Unlock()
	var list []admin.Device
	for _, a := range x.list {
		list = append(list, a.describe())
	}
	return list
}

// attach makes the origin, or a snapshot, a block device.
func (x *attachments) attach(ref *admin.Ref, how admin.Attach) (*admin.Device, error) {
	x.busy.Lock()
	defer x.busy.Unlock()
	if a := x.find(ref); a != nil {
		return nil, fmt.Errorf("%s: %w: it is attached as %s already", a.name(), store.ErrInUse, a.Path())
	}
	made, dev, err := x.open(ref, how.Write)
	if err != nil {
		return nil, err
	}
	backend := attach.Best
	if how.Backend != "" {
		backend = attach.Backend(how.Backend).Attach
	}
	made.Attached, err = backend(dev, attach.Options{
		Name: made.name(), ReadOnly: !made.writable, ChunkSize: x.service.catalogue().Geometry().ChunkSize(), Logger: x.service.cfg.Logger,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching %s: %w", made.name(), err), made.release())
	}
	x.mu.Lock()
	x.list = append(x.list, made)
	x.mu.Unlock()
	go x.watch(made)
	d := made.describe()
	return &d, nil
}

// open opens what is to be attached.
func (x *attachments) open(ref *admin.Ref, write bool) (*attachment, device.Device, error) {
	if ref == nil {
		return &attachment{writable: true, release: func() error { return nil }}, &x.service.counted, nil
	}
	r := wire.SnapshotRef{Tag: ref.Tag, Name: ref.Name}
	open := func() (*volume.Snapshot, error) { return volume.OpenSnapshotRef(x.service.exports.source, r, write) }
	if write {
		s, release, err := x.service.exports.writable.open(r, open)
		return &attachment{snapshot: s, writable: true, release: release}, s, err
	}
	s, err := open()
	if err != nil {
		return nil, nil, err
	}
	return &attachment{snapshot: s, release: s.Close}, s, nil
}

// watch notes the end of a device that nobody has detached.
func (x *attachments) watch(a *attachment) {
	err := a.Wait()
	if err != nil {
		x.service.cfg.Logger.Error("a block device has ended", "device", a.Path(), "of", a.name(), "error", err)
	}
	x.busy.Lock() // whoever detaches it flushes it first
	defer x.busy.Unlock()
	if err := x.forget(a); err != nil {
		x.service.cfg.Logger.Error("closing what was attached", "of", a.name(), "error", err)
	}
}

// end detaches a device and closes what it was made of.
func (x *attachments) end(a *attachment, force bool) error {
	err := a.Detach(force)
	if errors.Is(err, device.ErrInUse) {
		return err
	}
	return errors.Join(err, x.forget(a))
}

// forget closes what an ended device was made of, once. The lock busy is held.
func (x *attachments) forget(a *attachment) error {
	x.mu.Lock()
	n := len(x.list)
	x.list = slices.DeleteFunc(x.list, func(other *attachment) bool { return other == a })
	gone := len(x.list) == n
	x.mu.Unlock()
	if gone {
		return nil
	}
	return a.release()
}

// detach ends a block device. With force it does so under who uses it.
func (x *attachments) detach(ref *admin.Ref, force bool) error {
	x.busy.Lock()
	defer x.busy.Unlock()
	a := x.find(ref)
	if a == nil {
		return fmt.Errorf("%w: it is not attached", store.ErrNoSnapshot)
	}
	err := x.end(a, force)
	if errors.Is(err, device.ErrInUse) {
		err = fmt.Errorf("%w: %w", store.ErrInUse, err)
	}
	return err
}

// retryDetach is how long the end of the process waits between looks at whether
// its devices are still in use.
const retryDetach = time.Second

// detachAll ends all block devices, and waits while they are mounted or open.
func (x *attachments) detachAll() error {
	x.busy.Lock()
	defer x.busy.Unlock()
	x.mu.Lock()
	list := slices.Clone(x.list)
	x.mu.Unlock()
	var errs []error
	for _, a := range list {
		err := x.end(a, false)
		for said := false; errors.Is(err, device.ErrInUse); err = x.end(a, false) {
			if !said {
				x.service.cfg.Logger.Warn("waiting for a block device to be unmounted and closed; a second signal kills", "device", a.Path(), "of", a.name(), "error", err)
			}
			said = true
			time.Sleep(retryDetach)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// resized has the origin's block device follow the origin, which is to have, or has, a
// size: it is cut before the origin is, and grows after it.
func (x *attachments) resized(size int64) error {
	x.busy.Lock()
	defer x.busy.Unlock()
	a := x.find(nil)
	if a == nil {
		return nil
	}
	return a.Resize(min(size, x.service.origin.Size()))
}
