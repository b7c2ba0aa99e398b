// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// requests is what the control socket of the process talks to: the store, and what
// the process knows beside it.
type requests struct {
	admin.Local
	service *service
}

// How long a request waits at most for the origin client of the server before, which is
// back in no time unless it is stopped itself, if Config.Quiet does not say it; and how
// long until it is tried again.
const (
	comeBackLimit = 10 * time.Second
	comeBackPause = 20 * time.Millisecond
)

// Do implements admin.Manager. What cannot be done before the origin client has come
// back has changed nothing: it is tried until then.
func (m requests) Do(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	limit := time.Now().Add(cmp.Or(m.service.cfg.Quiet, comeBackLimit))
	for {
		a, err = m.do(ctx, r)
		if !errors.Is(err, store.ErrWaiting) || time.Now().After(limit) {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, err
		case <-time.After(comeBackPause):
		}
	}
}

func (m requests) do(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	if err := r.Check(); err != nil {
		return a, err
	}
	switch r.Verb {
	case admin.VerbResize:
		return m.resize(ctx, r)
	case admin.VerbCheck:
		a.Check, err = checkLive(ctx, m.service.server.Store, m.service.devs, r.Data)
		return a, err
	case admin.VerbAttach, admin.VerbDetach:
		return m.ofVolume(ctx, r)
	case admin.VerbStatus:
		return m.status(ctx, r)
	case admin.VerbListeners:
		a.Listeners, err = m.service.listeners()
		return a, err
	case admin.VerbYield:
		return a, m.service.mayYield()
	}
	return m.Local.Do(ctx, r)
}

// statusLimit bounds how long a status waits for what another process knows of it.
const statusLimit = 5 * time.Second

// status is that of the store, with what the volume's process has to say.
func (m requests) status(ctx context.Context, r admin.Request) (admin.Response, error) {
	a, err := m.Local.Do(ctx, r)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	if v, err := m.ofVolume(ctx, r); err == nil { // a status of the store without it is of use too
		a.Status.Devices, a.Status.Volume = v.Status.Devices, v.Status.Volume
	}
	if d := m.service.digests; d != nil {
		now := d.Status()
		a.Status.Digesting = &now
	}
	a.Status.Kernel, a.Status.DataOffset = m.service.kernelStatus(), m.service.server.DataOffset()
	targets, err := m.service.targetDevices()
	if err != nil {
		m.service.cfg.Logger.Warn("the kernel's targets are not listed", "error", err)
	}
	a.Status.Devices = append(a.Status.Devices, targets...)
	return a, nil
}

// ofVolume has the process that has the volume answer a request about it.
func (m requests) ofVolume(ctx context.Context, r admin.Request) (admin.Response, error) {
	if m.service.clients == nil {
		return ofVolume{m.service}.Do(ctx, r)
	}
	a, err := admin.Relay(m.service.clients.Manage).Do(ctx, r)
	if errors.Is(err, store.ErrNoOrigin) {
		err = fmt.Errorf("%w: no process has the volume: %w", admin.ErrRequest, err)
	}
	return a, err
}

// ofVolume answers requests about what the process of a volume knows beside the store.
type ofVolume struct{ service *service }

// Do implements admin.Manager.
func (v ofVolume) Do(_ context.Context, r admin.Request) (a admin.Response, err error) {
	devices := v.service.devices
	switch {
	case r.Verb == admin.VerbStatus:
		served := v.service.counted.served()
		if served.Origin, err = v.service.originFile(); err != nil {
			return a, err
		}
		a.Status = &admin.Status{Volume: &served}
		if devices != nil {
			a.Status.Devices = devices.devices()
		}
	case r.Verb == admin.VerbDetach && devices != nil:
		err = devices.detach(r.Snapshot, r.Force)
	case r.Verb == admin.VerbAttach && devices != nil:
		how := admin.Attach{}
		if r.Attach != nil {
			how = *r.Attach
		}
		a.Device, err = devices.attach(r.Snapshot, how)
	default:
		err = fmt.Errorf("%w: this process does not %s", admin.ErrRequest, r.Verb)
	}
	return a, err
}

// resize makes sure that devices have grown before they are used, and lets the
// origin's block device follow.
func (m requests) resize(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	m.service.resizes.Add(1)
	defer m.service.resizes.Add(-1)
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

// resizeAsServer is resize where the origin's device is another process's, which is
// asked whether it is large enough, and has its block device follow.
func (m requests) resizeAsServer(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	want, now := r.Resize.Origin, m.service.server.Geometry().Size()
	if want == 0 || want == now {
		return m.Local.Do(ctx, r)
	}
	if want < now && r.Resize.DryRun {
		return m.Local.Do(ctx, r) // a client that is asked would prepare for it
	}
	ask, cancel := context.WithTimeout(ctx, fitLimit)
	defer cancel()
	err = m.service.clients.Fit(ask, want)
	switch {
	case errors.Is(err, store.ErrNoOrigin) && want < now:
	case errors.Is(err, store.ErrNoOrigin) && r.Resize.Device >= want:
	case errors.Is(err, store.ErrNoOrigin):
		return a, fmt.Errorf("%w: no process has the origin open, so that the server does not know whether its device has %d bytes: name the device with --origin-device",
			block.ErrGeometry, want)
	case err != nil:
		return a, err
	}
	if want < now { // what is cut off must not be in use
		if err := m.service.fitTarget(want); err != nil {
			return a, err
		}
	}
	a, err = m.Local.Do(ctx, r)
	if r.Resize.DryRun {
		return a, err
	}
	// The size may be the old one after an error. A client that is away now hears of it
	// when it comes back.
	after, cancelAfter := context.WithTimeout(context.WithoutCancel(ctx), fitLimit)
	defer cancelAfter()
	fit := m.service.clients.Fit(after, m.service.server.Geometry().Size())
	if fit != nil && !errors.Is(fit, store.ErrNoOrigin) && !errors.Is(fit, wire.ErrAway) {
		err = errors.Join(err, fmt.Errorf("the origin's block device: %w", fit))
	}
	if fit := m.service.fitTarget(m.service.server.Geometry().Size()); fit != nil {
		err = errors.Join(err, fmt.Errorf("the origin's block device: %w", fit))
	}
	return a, err
}

// fitLimit bounds how long the origin's client may take to look at its device.
const fitLimit = 30 * time.Second
