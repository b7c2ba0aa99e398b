// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// requests is what the control socket of the process talks to: the store, and what
// the process knows beside it.
type requests struct {
	admin.Local
	service *service
}

// Do implements admin.Manager.
func (m requests) Do(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	if err := r.Check(); err != nil {
		return a, err
	}
	devices := m.service.devices
	switch {
	case r.Verb == admin.VerbResize:
		return m.resize(ctx, r)
	case r.Verb == admin.VerbCheck:
		a.Check, err = checkLive(ctx, m.service.server.Store, m.service.devs, r.Data)
		return a, err
	case r.Verb == admin.VerbDetach && devices != nil:
		return a, devices.detach(r.Snapshot, r.Force)
	case r.Verb == admin.VerbAttach && devices != nil:
		how := admin.Attach{}
		if r.Attach != nil {
			how = *r.Attach
		}
		a.Device, err = devices.attach(r.Snapshot, how)
		return a, err
	}
	a, err = m.Local.Do(ctx, r)
	if a.Status != nil && devices != nil {
		a.Status.Devices = devices.devices()
	}
	return a, err
}

// resize makes sure that devices have grown before they are used, and lets the
// origin's block device follow.
func (m requests) resize(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	if m.service.device == nil {
		return m.resizeAsServer(ctx, r)
	}
	devs := []device.Device{m.service.device, m.service.devs.Store}
	if m.service.devs.Meta != nil {
		devs = append(devs, m.service.devs.Meta)
	}
	for _, d := range devs {
		if err := device.Refresh(d); err != nil {
			return a, err
		}
	}
	want := r.Resize.Origin
	if have := m.service.device.Size(); want > have {
		return a, fmt.Errorf("%w: origin %s has %d bytes, and not %d: make it larger first", block.ErrGeometry, m.service.cfg.Origin, have, want)
	}
	now := m.service.server.Geometry().Size()
	var attached *attachment
	if m.service.devices != nil && want != 0 && !r.Resize.DryRun {
		attached = m.service.devices.find(nil)
	}
	if attached != nil && want < now { // what is cut off must not be in use
		if err := attached.Resize(want); err != nil {
			return a, err
		}
	}
	a, err = m.Local.Do(ctx, r)
	switch {
	case attached == nil:
	case err == nil && want > now:
		err = attached.Resize(want)
	case err != nil && want < now:
		_ = attached.Resize(now)
	}
	return a, err
}

// resizeAsServer is resize where the origin's device is another process's: nobody here
// can tell whether it is large enough.
func (m requests) resizeAsServer(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	if now := m.service.server.Geometry().Size(); r.Resize.Origin > now {
		return a, fmt.Errorf("%w: the origin cannot grow beyond %d bytes while its server is a process of its own, which does not know the device: stop it, and resize the store offline",
			block.ErrGeometry, now)
	}
	return m.Local.Do(ctx, r)
}
