// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
)

// peer measures the volume against qemu-nbd with a qcow2 image. Both are
// processes of their own, on files of one directory, past the page cache, and the
// same client talks to them.
type peer struct {
	contest
	tmp     string // for files
	sockets string // for sockets, whose paths must be short and, for qemu, absolute
	ours    *export.Child
	clients map[string]*nbdclient.Client // by variant, but for QCOW2
	qemu    *qemu
	tag     int
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
	p.device, p.snapshot, p.turns = p.client, p.renew, turnsOf
	return p.calibrate(ctx)
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

// client returns what talks to a variant.
func (p *peer) client(variant string) device.Device {
	if variant == spec.QCOW2 {
		return p.qemu.client
	}
	return p.clients[variant]
}

// renew replaces the snapshots that both hold by new ones.
func (p *peer) renew(ctx context.Context) error {
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
