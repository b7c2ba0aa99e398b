// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
)

// served measures an origin whose metadata server is a process of its own, behind a
// socket, against one with an embedded server, and the bare device. All have the same
// origin; the stores are files of one directory.
type served struct {
	contest
	tmp, sockets string
	bed          *stack.Bed
	embedded     *stack.Stack
	server       *export.Child
	volume       *volume.Origin // of server
	closers      []func() error // what is between volume and server
	tag          int
}

func (x *served) prepare(ctx context.Context) (err error) {
	if x.tmp, err = os.MkdirTemp(x.dir, "zbench-"); err != nil {
		return err
	}
	if x.sockets, err = os.MkdirTemp("", "zbench-"); err != nil { // their paths must be short
		return err
	}
	origin, own, remote := filepath.Join(x.tmp, "origin"), filepath.Join(x.tmp, "embedded"), filepath.Join(x.tmp, "served")
	for path, size := range map[string]int64{origin: x.Origin, own: x.Store, remote: x.Store} {
		if _, err := makeFile(path, size); err != nil {
			return err
		}
	}
	if x.bed, err = stack.OpenPaths(origin, own); err != nil {
		return err
	}
	if x.embedded, err = x.bed.BuildAll("inline", x.Chunks[0]); err != nil {
		return err
	}
	if err := x.serve(ctx, remote); err != nil {
		return err
	}
	x.device, x.snapshot = x.origin, x.renew
	x.turns = func(op string) int { return turnsWithin(op, x.Window) }
	return x.calibrate(ctx)
}

// serve makes a store, starts its server and becomes its origin client.
func (x *served) serve(ctx context.Context, path string) error {
	f, err := device.OpenFile(path, device.FileOptions{Direct: true})
	if err != nil {
		return err
	}
	_, err = store.Format(placement.Devices{Store: f}, store.FormatOptions{OriginSize: x.Origin, ChunkSize: int(x.Chunks[0])})
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	socket := filepath.Join(x.sockets, "server")
	if x.server, err = export.StartPart(x.program, export.ServePart, path, socket); err != nil {
		return err
	}
	if f, err = device.OpenFile(path, device.FileOptions{Direct: true, Role: device.Origin}); err != nil {
		return err
	}
	x.closers = append(x.closers, f.Close)
	c, err := client.Dial(ctx, socket, client.Options{Lock: device.OriginByte})
	if err != nil {
		return err
	}
	x.closers = append(x.closers, c.Close)
	x.volume, err = volume.OpenOrigin(c, x.embedded.Bare(), placement.Devices{Store: f}, volume.Options{})
	return err
}

func (x *served) close() error {
	var errs []error
	if x.volume != nil {
		errs = append(errs, x.volume.Close())
	}
	for i := len(x.closers) - 1; i >= 0; i-- {
		errs = append(errs, x.closers[i]())
	}
	if x.server != nil {
		errs = append(errs, x.server.Close())
	}
	if x.embedded != nil {
		errs = append(errs, x.embedded.Close())
	}
	if x.bed != nil {
		errs = append(errs, x.bed.Close())
	}
	for _, dir := range []string{x.tmp, x.sockets} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// origin returns the origin as a variant has it.
func (x *served) origin(variant string) device.Device {
	switch variant {
	case spec.Raw:
		return x.embedded.Bare()
	case spec.Served:
		return x.volume
	}
	return x.embedded.Device()
}

// renew replaces the snapshots that both hold by new ones.
func (x *served) renew(context.Context) error {
	if x.tag > 0 {
		if err := errors.Join(x.embedded.Delete(block.Tag(x.tag)), x.embedded.Idle(), x.server.Delete(x.tag)); err != nil {
			return err
		}
	}
	x.tag++
	return errors.Join(x.embedded.Snapshot(block.Tag(x.tag)), x.server.Snapshot(x.tag))
}
