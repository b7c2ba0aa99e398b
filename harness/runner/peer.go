// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads/apply"
)

// peer measures the volume against qemu-nbd with a qcow2 image. Both are
// processes of their own, on files of one directory, past the page cache, and the
// same client talks to them.
type peer struct {
	bench
	tmp     string // for files
	sockets string // for sockets, whose paths must be short and, for qemu, absolute
	ours    *export.Child
	clients map[string]*nbdclient.Client // by variant, but for QCOW2
	qemu    *qemu
	tag     int
	counts  map[int]int // first writes of a window, by queue depth
}

func (p *peer) prepare(ctx context.Context) (err error) {
	if !haveQEMU() {
		return fmt.Errorf("%w: qemu-nbd or qemu-img is not installed (Debian: apt install qemu-utils)", errSkipped)
	}
	if p.tmp, err = os.MkdirTemp(p.dir, "zbench-"); err != nil {
		return err
	}
	if p.sockets, err = os.MkdirTemp("", "zbench-"); err != nil {
		return err
	}
	direct, err := p.startOurs()
	if err != nil {
		return err
	}
	p.qemu = &qemu{image: filepath.Join(p.tmp, "image.qcow2"), socket: filepath.Join(p.sockets, "qemu"), direct: direct}
	if err := p.qemu.create(ctx, p.Origin, p.Chunks[0]); err != nil {
		return err
	}
	p.counts = map[int]int{}
	for _, qd := range p.Depths {
		if err := p.calibrate(ctx, qd); err != nil {
			return err
		}
	}
	return nil
}

// startOurs makes the files, filled as qemu's image will be, and the process that
// serves them.
func (p *peer) startOurs() (direct bool, err error) {
	c := export.Config{
		Origin: filepath.Join(p.tmp, "origin"), Store: filepath.Join(p.tmp, "store"), Socket: p.socket(),
		ChunkSize: p.Chunks[0], Variant: "inline",
	}
	for path, size := range map[string]int64{c.Origin: p.Origin, c.Store: p.Store} {
		if direct, err = makeFile(path, size); err != nil {
			return direct, err
		}
	}
	if p.ours, err = export.Start(p.program, c); err != nil {
		return direct, err
	}
	p.clients = map[string]*nbdclient.Client{}
	for variant, name := range map[string]string{spec.Raw: export.Raw, "inline": export.Volume} {
		if p.clients[variant], err = nbdclient.Dial("unix", c.Socket, name, nbdclient.Options{}); err != nil {
			return direct, err
		}
	}
	return direct, nil
}

func makeFile(path string, size int64) (direct bool, err error) {
	f, err := device.OpenFile(path, device.FileOptions{Create: size, Direct: true})
	if err != nil {
		return false, err
	}
	direct, _ = f.Direct()
	return direct, errors.Join(stack.Fill(f), f.Close())
}

func (p *peer) close() error {
	var errs []error
	for _, c := range p.clients {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if p.qemu != nil {
		errs = append(errs, p.qemu.stop())
	}
	if p.ours != nil {
		errs = append(errs, p.ours.Close())
	}
	for _, dir := range []string{p.tmp, p.sockets} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// socket returns where our process serves.
func (p *peer) socket() string { return filepath.Join(p.sockets, "ours") }

// calibrate finds out how many first writes fill a window.
func (p *peer) calibrate(ctx context.Context, qd int) error {
	if err := p.snapshot(ctx); err != nil {
		return err
	}
	limit := int(max(1, min(p.Origin, p.Store/3)/p.Chunks[0]))
	a := newAddresses(p.seed, p.Origin, p.Chunks[0], p.Block, min(p.MinOps, limit))
	r, err := p.drive(ctx, "inline", "firstwrite", &a, 0, 1, qd)
	if err != nil {
		return err
	}
	fit := int(float64(p.Window) / float64(r.Elapsed) * float64(a.n))
	p.counts[qd] = min(max(fit, p.MinOps), p.MaxOps, limit)
	return nil
}

// snapshot replaces the snapshots that both hold by new ones.
func (p *peer) snapshot(ctx context.Context) error {
	if p.tag > 0 {
		if err := p.ours.Delete(p.tag); err != nil {
			return err
		}
	}
	p.tag++
	if err := p.ours.Snapshot(p.tag); err != nil {
		return err
	}
	return p.qemu.snapshot(ctx, p.tag)
}

func (p *peer) round(ctx context.Context, n int) ([]results.Sample, error) {
	var all []results.Sample
	rng := p.random(n)
	for _, i := range rng.Perm(len(p.Depths)) {
		samples, err := p.depth(ctx, p.Depths[i], n, rng)
		if err != nil {
			return nil, err
		}
		all = append(all, samples...)
	}
	return all, nil
}

func (p *peer) depth(ctx context.Context, qd, round int, rng *rand.Rand) ([]results.Sample, error) {
	if err := p.snapshot(ctx); err != nil {
		return nil, err
	}
	a := newAddresses(rng.Uint64(), p.Origin, p.Chunks[0], p.Block, p.counts[qd])
	var all []results.Sample
	for _, op := range p.Ops {
		tallies := make([]tally, len(p.Variants))
		err := inTurns(ctx, rng, turnsOf(op), len(p.Variants), func(v, slice int) error {
			r, err := p.drive(ctx, p.Variants[v], op, &a, slice, turnsOf(op), qd)
			tallies[v].add(r)
			return err
		})
		if err != nil {
			return nil, err
		}
		for i, v := range p.Variants {
			all = append(all, tallies[i].sample(p.Name, results.Measured, round, config(op, v, p.Chunks[0], qd, noSnapshots, "")))
		}
	}
	return all, nil
}

// drive measures one slice of n through the client of a variant.
func (p *peer) drive(ctx context.Context, variant, op string, a *addresses, slice, n, qd int) (apply.Result, error) {
	c := p.clients[variant]
	if variant == spec.QCOW2 {
		c = p.qemu.client
	}
	r, err := apply.Run(ctx, c, p.stream(op, variant, a, slice, n), apply.Options{
		Depth: qd, Seed: stack.ContentSeed, Version: p.newVersion(),
	})
	if err != nil {
		return r, fmt.Errorf("%s: %w", variant, err)
	}
	return r, nil
}
