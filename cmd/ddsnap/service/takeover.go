// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// How one server follows another on the same store: the new one makes sure that it can
// open the store, asks the old one for copies of its listening sockets, and then to
// yield. The old one stops as on SIGTERM, but leaves the sockets: who connects
// meanwhile waits in their queues. The new one opens the store when its lock is free.

// errYielded is why a server ends whose sockets another has taken over.
var errYielded = errors.New("another server takes over")

// listeners returns copies of the listening sockets, for a server that takes over.
func (s *service) listeners() (list []admin.Listener, err error) {
	if err := s.canYield(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, l := range list {
				_ = l.File.Close() // a copy
			}
		}
	}()
	for _, l := range []struct {
		name    string
		ln      net.Listener
		address Address
	}{{"control", s.control, Address{"unix", s.cfg.Control}}, {"clients", s.waiting, Address{"unix", s.cfg.Clients}}, {"metrics", s.metrics, s.cfg.Metrics}} {
		if l.address == (Address{}) {
			continue
		}
		made, err := s.copyOf(l.name, l.ln, l.address)
		if err != nil {
			return list, err
		}
		list = append(list, made)
	}
	return list, nil
}

// copyOf returns a copy of a listener.
func (s *service) copyOf(name string, ln net.Listener, a Address) (l admin.Listener, err error) {
	f, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return l, fmt.Errorf("the listener %s cannot be handed over", name)
	}
	l = admin.Listener{Name: name, Address: a.Address, Unlink: s.unlink[name] != ""}
	if a.Network == "unix" {
		path, err := filepath.Abs(a.Address)
		if err != nil {
			return l, err
		}
		l.Address = "unix:" + path
	}
	l.File, err = f.File()
	return l, err
}

// busy is an error that wraps store.ErrInUse, about a server and no snapshot.
type busy string

// Error implements error.
func (b busy) Error() string { return string(b) }

// Is makes it one of store.ErrInUse.
func (busy) Is(target error) bool { return target == store.ErrInUse }

// canYield returns why another server cannot take over, or nil.
func (s *service) canYield() error {
	switch {
	case !s.cfg.Serve:
		return fmt.Errorf("%w: it serves the volume itself; only a \"ddsnap server\" can be taken over", admin.ErrRequest)
	case s.manager.socket != "":
		return busy("it was started by a service manager, which would start it again: restart its unit instead, whose sockets stay")
	case s.resizes.Load() > 0:
		return fmt.Errorf("%w: try again when it has ended", store.ErrResizing)
	}
	return nil
}

// mayYield ends the service, if another server can go on with its sockets.
func (s *service) mayYield() error {
	if err := s.canYield(); err != nil {
		return err
	}
	clear(s.unlink)
	s.cfg.Logger.Info("another server takes over", "store", s.cfg.Store)
	s.yield(errYielded)
	return nil
}

// takeOver has the server that runs yield, and starts with its sockets.
func (s *service) takeOver(ctx context.Context) error {
	if _, err := s.cfg.ServesKernel(); err != nil {
		return err
	}
	if s.cfg.Control == "" {
		var err error
		if s.cfg.Control, err = Socket(s.cfg.Store, ControlSuffix); err != nil {
			return err
		}
	}
	uuid, err := tryStore(s.cfg.Paths)
	if err != nil {
		return fmt.Errorf("nothing was taken over: %w", err)
	}
	if err := s.askToYield(ctx, uuid); err != nil {
		return err
	}
	steps := []func() error{func() error { return s.openWhenFree(ctx) }, s.openAwaited, s.openDigests, s.bindKernel, s.listen, s.listenToClients, s.manager.close}
	for _, start := range steps {
		if err := start(); err != nil {
			return fmt.Errorf("%w; the server that ran has ended: start one that can open the store (\"ddsnap server %s\", of the version that ran if need be), for which clients hold what they do and lose nothing",
				err, s.cfg.Store)
		}
	}
	return nil
}

// tryStore makes sure, beside a server that runs, that this process may write to the
// store's devices and knows its format, and returns which store it is.
func tryStore(p Paths) (uuid layout.UUID, err error) {
	for _, path := range []string{p.Store, p.Meta, p.Journal} {
		if path == "" {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return uuid, err
		}
		if err := f.Close(); err != nil {
			return uuid, err
		}
	}
	return StoreUUID(p)
}

// StoreUUID returns which store is on the devices, beside a server that has them open.
func StoreUUID(p Paths) (uuid layout.UUID, err error) {
	meta := p.Store
	if p.Meta != "" {
		meta = p.Meta
	}
	f, err := os.Open(meta)
	if err != nil {
		return uuid, err
	}
	defer f.Close()
	page := make([]byte, layout.SuperblockSize)
	for i := range int64(layout.Superblocks) {
		if _, err = f.ReadAt(page, i*block.PageSize); err != nil {
			continue
		}
		var sb *layout.Superblock
		if sb, err = layout.DecodeSuperblock(page); err == nil {
			return sb.UUID, nil
		}
	}
	if errors.Is(err, layout.ErrCorrupt) {
		return uuid, fmt.Errorf("%s: %w: %w", meta, store.ErrNoStore, err)
	}
	return uuid, fmt.Errorf("reading the superblock of %s: %w", meta, err)
}

// askToYield takes the sockets of the server that runs, and has it stop.
func (s *service) askToYield(ctx context.Context, uuid layout.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	c, err := admin.Dial(ctx, s.cfg.Control)
	if err != nil {
		return fmt.Errorf("%w: does \"ddsnap server %s\" run, with this socket? if there is none to take over from, start it without --takeover", err, s.cfg.Store)
	}
	defer c.Close()
	st, err := c.Do(ctx, admin.Request{Verb: admin.VerbStatus})
	if err != nil {
		return err
	}
	if st.Status.UUID != uuid.String() {
		return fmt.Errorf("%w: the server at %s has store %s, and %s is store %v", block.ErrGeometry, s.cfg.Control, st.Status.UUID, s.cfg.Store, uuid)
	}
	got, err := c.Do(ctx, admin.Request{Verb: admin.VerbListeners})
	if err != nil {
		return fmt.Errorf("taking over from the server at %s: %w", s.cfg.Control, err)
	}
	if err := s.takeSockets(got.Listeners); err != nil {
		return err
	}
	if _, err = c.Do(ctx, admin.Request{Verb: admin.VerbYield}); err != nil {
		clear(s.unlink) // they are its still
		return fmt.Errorf("taking over from the server at %s: %w", s.cfg.Control, err)
	}
	return nil
}

// takeSockets makes listeners of the sockets that were handed over, and binds what
// there is to be beside them, which may fail as long as the other server goes on.
func (s *service) takeSockets(list []admin.Listener) (err error) {
	want := s.cfg.Metrics
	for _, l := range list {
		a, perr := ParseAddress(l.Address)
		switch {
		case perr != nil:
			a = Address{} // of a kind that is not known: nobody asks for it
		case l.Name == "control":
			s.cfg.Control = a.Address
		case l.Name == "clients":
			s.cfg.Clients = a.Address
		}
		ln, lerr := net.FileListener(l.File)
		if err = errors.Join(err, lerr, l.File.Close()); lerr != nil {
			continue
		}
		if l.Name == "metrics" && a != want {
			err = errors.Join(err, ln.Close())
			continue
		}
		s.manager.listeners[l.Name] = ln
		if l.Unlink {
			s.unlink[l.Name] = a.Address
		}
	}
	if err != nil || want == (Address{}) || s.manager.listeners["metrics"] != nil {
		return err
	}
	s.manager.listeners["metrics"], err = s.bind("metrics", want)
	if err != nil {
		delete(s.manager.listeners, "metrics")
		return fmt.Errorf("nothing was taken over: metrics: %w", err)
	}
	return nil
}

// Patience with the server that was asked to yield.
const (
	yieldPause = 2 * time.Millisecond
	yieldLimit = 5 * time.Minute
)

// openWhenFree opens the store's devices once the server before has let them go.
func (s *service) openWhenFree(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, yieldLimit, errors.New("the server that was asked to yield does not end"))
	defer cancel()
	for {
		err := s.openShared()
		if !errors.Is(err, device.ErrInUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(yieldPause):
		}
	}
}
