// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/ring"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
)

// Kernel says whether a metadata server serves the kernel's targets of its store.
type Kernel string

// The values of Kernel. What auto finds when the server starts is for all its life.
const (
	KernelAuto     Kernel = "auto" // if the kernel's module is loaded
	KernelOff      Kernel = "off"
	KernelRequired Kernel = "required" // and does not start without
)

// Kernels returns all values of Kernel.
func Kernels() []Kernel { return []Kernel{KernelAuto, KernelOff, KernelRequired} }

// ServesKernel reports whether a server with this configuration serves the kernel's
// targets. The error says what is missing where it must.
func (c *Config) ServesKernel() (bool, error) {
	switch {
	case c.Kernel == KernelRequired && !c.Direct:
		return false, errors.New("the kernel's targets go past the page cache, and so must their server")
	case c.Kernel == KernelRequired:
		return true, attach.DM.Probe()
	case c.Kernel != KernelAuto || !ring.Present():
		return false, nil
	case !c.Direct:
		c.Logger.Warn("the kernel's targets are not served: they go past the page cache, and so must their server")
		return false, nil
	}
	_, err := ring.Query(ring.UUID{})
	if errors.Is(err, fs.ErrPermission) {
		c.Logger.Warn("the kernel's targets are not served", "error", err, "needed", "CAP_SYS_ADMIN")
		return false, nil
	}
	return err == nil, err
}

// kernelHas returns what the kernel has of the store. A process that may not ask, as that
// takes CAP_SYS_ADMIN, serves no targets: it claims a block device for itself, which it
// could not if the kernel had a target on it, and a file is looked for behind loop
// devices.
func (d *Devices) kernelHas() (ring.State, error) {
	sb := d.Superblock()
	if sb == nil {
		return ring.State{}, nil
	}
	has, err := ring.Query(sb.UUID)
	switch {
	case errors.Is(err, fs.ErrPermission) && !isBehindLoop(d.StoreFile.Path(), "/sys"):
		return ring.State{}, nil
	case err != nil:
		return has, fmt.Errorf("finding out whether the kernel has targets of the store: %w", err)
	}
	return has, nil
}

// checkKernel returns an error that wraps device.ErrInUse where a role clashes with
// what the kernel has of the store. It is asked when the devices are open: where there is
// a server, that has them.
func (d *Devices) checkKernel(role device.Role) error {
	has, err := d.kernelHas()
	switch {
	case err != nil:
		return err
	case role == device.Origin && has.Origin:
		return fmt.Errorf("%w: the kernel has the origin of the store on %s: see \"ddsnap detach\"", device.ErrInUse, d.StoreFile.Path())
	case role == device.Alone && has.Targets():
		return fmt.Errorf("%w: the kernel has targets of the store on %s (%s), and no server: start \"ddsnap server\", or remove them",
			device.ErrInUse, d.StoreFile.Path(), describeTargets(has))
	}
	return nil
}

func describeTargets(has ring.State) string {
	text := fmt.Sprintf("%d of snapshots", has.Snapshots)
	if has.Origin {
		text += ", the origin"
	}
	return text
}

// isBehindLoop reports whether a loop device is on the file at path.
func isBehindLoop(path, sys string) bool {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	files, gerr := filepath.Glob(filepath.Join(sys, "block/loop*/loop/backing_file"))
	if err != nil || gerr != nil {
		return true // it cannot be told
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.TrimSuffix(string(text), "\n") == path {
			return true
		}
	}
	return false
}

// targets returns what the kernel has of the store. Where that cannot be told, it is
// taken to have all: nothing of its is given out.
func (s *service) targets() ring.State {
	has, err := s.devs.kernelHas()
	if err != nil {
		s.cfg.Logger.Warn("the kernel does not tell of its targets", "store", s.cfg.Store, "error", err)
		return ring.State{Origin: true, Session: true, Snapshots: 1}
	}
	return has
}

// bindKernel makes the first connection with the kernel, so that it is known to work.
func (s *service) bindKernel() (err error) {
	if !s.kernel {
		return nil
	}
	s.bound, err = s.bindRings()
	if err != nil && s.cfg.Kernel == KernelRequired {
		return err
	}
	if err != nil {
		s.cfg.Logger.Warn("the kernel's targets are not served yet", "store", s.cfg.Store, "error", err)
		return nil
	}
	s.undo = append(s.undo, func() error { return s.takeBound().Close() })
	return nil
}

func (s *service) bindRings() (server.Transport, error) {
	c, err := ring.Bind(s.server.UUID())
	if err != nil {
		return nil, err // and no Transport with nothing in it
	}
	return c, nil
}

// closed is a transport that has ended.
type closed struct{ server.Transport }

func (closed) Close() error { return nil }

// takeBound returns the first connection, once.
func (s *service) takeBound() server.Transport {
	c := s.bound
	if s.bound = nil; c == nil {
		return closed{}
	}
	return c
}

// serveKernel serves the kernel's targets until ctx ends.
func (s *service) serveKernel(ctx context.Context) {
	s.cfg.Logger.Info("serving", "kernel", ring.Device, "store", s.cfg.Store, "targets", describeTargets(s.targets()))
	s.clients.ServeKernel(ctx, func() (server.Transport, error) {
		if s.bound != nil {
			return s.takeBound(), nil
		}
		return s.bindRings()
	})
}

// kernelStatus is what the kernel has, or nil where it is not served.
func (s *service) kernelStatus() *admin.Kernel {
	if !s.kernel {
		return nil
	}
	has, err := ring.Query(s.server.UUID())
	k := &admin.Kernel{Origin: has.Origin, Session: has.Session, Server: has.Server, Snapshots: has.Snapshots}
	if err != nil {
		k.Error = err.Error()
	}
	return k
}

// targetDevices are the block devices that the kernel's targets of the store are.
func (s *service) targetDevices() (list []admin.Device, err error) {
	if !s.kernel {
		return nil, nil
	}
	found, err := attach.Targets(s.server.UUID().String())
	for _, t := range found {
		d := admin.Device{Path: t.Path, Backend: string(attach.DM), Writable: t.Writable}
		if !t.Origin {
			d.Snapshot = &t.Tag
		}
		list = append(list, d)
	}
	return list, err
}

// openTargetOrigin opens the device of the origin that the kernel's target has, to restore
// it.
func (s *service) openTargetOrigin() (server.OriginDevice, error) {
	node, err := s.targetOrigin()
	if err != nil {
		return nil, err
	}
	f, err := device.OpenFile(node, device.FileOptions{Direct: s.cfg.Direct, Unclaimed: true})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// targetOrigin returns the path of the device of the origin that the kernel's target has.
// The error wraps [store.ErrNoOrigin] if it has none.
func (s *service) targetOrigin() (string, error) {
	found, err := attach.Targets(s.server.UUID().String())
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(found, func(t attach.Target) bool { return t.Origin })
	if i < 0 {
		return "", store.ErrNoOrigin
	}
	table, err := found[i].Table()
	if err != nil {
		return "", err
	}
	return attach.Node(table.OriginDevice)
}

// fitTarget gives the kernel's target of the origin, if there is one, a size in bytes.
func (s *service) fitTarget(size int64) error {
	if !s.kernel {
		return nil
	}
	found, err := attach.Targets(s.server.UUID().String())
	if err != nil {
		return err
	}
	for _, t := range found {
		if !t.Origin {
			continue
		}
		table, err := t.Table()
		if err != nil || table.Size == size {
			return err
		}
		return attach.ResizeTarget(t, size)
	}
	return nil
}
