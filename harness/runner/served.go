// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads/apply"
)

// served measures an origin whose metadata server is a process of its own, behind a
// socket, against one with an embedded server, and the bare device. All have the same
// origin; the stores are files of one directory.
type served struct {
	bench
	tmp, sockets string
	bed          *stack.Bed
	embedded     *stack.Stack
	server       *export.Child
	volume       *volume.Origin // of server
	closers      []func() error // what is between volume and server
	tag          int
	counts       map[int]int // first writes of a window, by queue depth
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
	x.counts = map[int]int{}
	for _, qd := range x.Depths {
		if err := x.calibrate(ctx, qd); err != nil {
			return err
		}
	}
	return nil
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

// snapshot replaces the snapshots that both hold by new ones.
func (x *served) snapshot() error {
	if x.tag > 0 {
		if err := errors.Join(x.embedded.Delete(block.Tag(x.tag)), x.embedded.Idle(), x.server.Delete(x.tag)); err != nil {
			return err
		}
	}
	x.tag++
	return errors.Join(x.embedded.Snapshot(block.Tag(x.tag)), x.server.Snapshot(x.tag))
}

// calibrate finds out how many first writes fill a window.
func (x *served) calibrate(ctx context.Context, qd int) error {
	if err := x.snapshot(); err != nil {
		return err
	}
	limit := int(max(1, min(x.Origin, x.Store/3)/x.Chunks[0]))
	a := newAddresses(x.seed, x.Origin, x.Chunks[0], x.Block, min(x.MinOps, limit))
	r, err := x.drive(ctx, "inline", "firstwrite", &a, 0, 1, qd)
	if err != nil {
		return err
	}
	fit := int(float64(x.Window) / float64(r.Elapsed) * float64(a.n))
	x.counts[qd] = min(max(fit, x.MinOps), x.MaxOps, limit)
	return nil
}

func (x *served) round(ctx context.Context, n int) (all []results.Sample, err error) {
	rng := x.random(n)
	for _, i := range rng.Perm(len(x.Depths)) {
		samples, err := x.depth(ctx, x.Depths[i], n, rng)
		if err != nil {
			return nil, err
		}
		all = append(all, samples...)
	}
	return all, nil
}

func (x *served) depth(ctx context.Context, qd, round int, rng *rand.Rand) (all []results.Sample, err error) {
	if err := x.snapshot(); err != nil {
		return nil, err
	}
	a := newAddresses(rng.Uint64(), x.Origin, x.Chunks[0], x.Block, x.counts[qd])
	for _, op := range x.Ops {
		tallies := make([]tally, len(x.Variants))
		slices := turnsWithin(op, x.Window)
		err := inTurns(ctx, rng, slices, len(x.Variants), func(v, slice int) error {
			r, err := x.drive(ctx, x.Variants[v], op, &a, slice, slices, qd)
			tallies[v].add(r)
			return err
		})
		if err != nil {
			return nil, err
		}
		for i, v := range x.Variants {
			all = append(all, tallies[i].sample(x.Name, results.Measured, round, config(op, v, x.Chunks[0], qd, noSnapshots, "")))
		}
	}
	return all, nil
}

// drive measures one slice of n of a variant.
func (x *served) drive(ctx context.Context, variant, op string, a *addresses, slice, n, qd int) (apply.Result, error) {
	d := x.embedded.Device()
	switch variant {
	case spec.Raw:
		d = x.embedded.Bare()
	case spec.Served:
		d = x.volume
	}
	r, err := apply.Run(ctx, d, x.stream(op, variant, a, slice, n), apply.Options{
		Depth: qd, Seed: stack.ContentSeed, Version: x.newVersion(),
	})
	if err != nil {
		return r, fmt.Errorf("%s: %w", variant, err)
	}
	return r, nil
}
