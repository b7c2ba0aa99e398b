// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// dialLimit bounds how long a client waits for a server that it has not met yet.
const dialLimit = 10 * time.Second

// openShared opens the store's devices as the metadata server of other processes.
func (s *service) openShared() (err error) {
	if s.kernel, err = s.cfg.ServesKernel(); err != nil {
		return err
	}
	s.devs, err = OpenDevices(s.cfg.Paths, Access{Direct: s.cfg.Direct, Role: device.Server, Unclaimed: s.kernel})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, s.devs.Close)
	return nil
}

// openAwaited opens the store. Clients of a server that was killed are waited for:
// their locks say that they live.
func (s *service) openAwaited() error {
	lives, err := s.devs.StoreFile.TakenBytes(device.FirstSnapshotByte, device.LastSnapshotByte)
	if err != nil {
		return err
	}
	has := s.targets()
	if has.Targets() && !s.kernel {
		return fmt.Errorf("%w: the kernel has targets of the store on %s (%s), and this server would not serve them",
			device.ErrInUse, s.cfg.Store, describeTargets(has))
	}
	if has.Snapshots > 0 {
		lives = append(lives, server.KernelLock)
	}
	await := s.alive(device.OriginByte) || s.alive(server.KernelOrigin) || len(lives) > 0
	s.server, err = server.Open(s.devs.Devices, server.Options{
		Store:  store.Options{CacheBytes: s.cfg.CacheBytes, OnFailure: s.cfg.OnFailure, DeleteRate: s.cfg.DeleteRate, Await: await},
		Logger: s.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("opening the store on %s: %w", s.cfg.Store, err)
	}
	if s.server.Awaiting() {
		s.cfg.Logger.Info("clients of an earlier server live: waiting for them", "store", s.cfg.Store)
	}
	s.clients = s.server.Listen(server.ListenOptions{
		Quiet: s.cfg.Quiet, Lives: lives, Alive: s.alive, Held: s.held, Store: s.devs.Store, Origin: s.openTargetOrigin,
	})
	s.undo = append(s.undo, s.closeServer)
	return nil
}

// alive reports whether the client with a lock lives. Where that cannot be told, it
// is taken to live: nothing of its is given out.
func (s *service) alive(lock uint32) bool {
	switch lock {
	case server.KernelLock:
		return s.targets().Targets()
	case server.KernelOrigin:
		has := s.targets()
		return has.Origin && has.Session
	}
	return s.held(lock)
}

// held reports whether another process holds a lock or, likewise, that cannot be told.
func (s *service) held(lock uint32) bool {
	taken, err := s.devs.StoreFile.TakenBytes(lock, lock)
	return err != nil || slices.Contains(taken, lock)
}

// closeServer closes the store. If clients live, they go on with the next server.
func (s *service) closeServer() error {
	if !s.clients.Away() {
		return s.server.Close()
	}
	s.cfg.Logger.Info("clients live: they go on with the next server", "store", s.cfg.Store)
	return errors.Join(s.server.Suspend(), s.server.Close())
}

// listenToClients binds the socket for clients.
func (s *service) listenToClients() error {
	if err := checkSocketPath(s.cfg.Clients, "--clients"); err != nil {
		return err
	}
	ln, err := s.listener("clients", Address{"unix", s.cfg.Clients})
	if err != nil {
		return fmt.Errorf("socket for clients: %w", err)
	}
	var ok bool
	if s.waiting, ok = ln.(*net.UnixListener); !ok {
		return errors.New("socket for clients: the service manager hands over one that is not of the family unix")
	}
	return nil
}

// openAsClient opens the store's devices beside its server: as the origin's client,
// and as one of snapshots.
func (s *service) openAsClient() (err error) {
	s.devs, err = OpenDevices(s.cfg.Paths, Access{Direct: s.cfg.Direct, Role: device.Origin})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, s.devs.Close)
	for b := uint32(device.FirstSnapshotByte); b <= device.LastSnapshotByte; b++ {
		if err = s.devs.StoreFile.TakeByte(b); !errors.Is(err, device.ErrInUse) {
			return err
		}
	}
	return err
}

// join connects to the server.
func (s *service) join() (err error) {
	if s.cfg.Clients == "" {
		if s.cfg.Clients, err = Socket(s.cfg.Store, ClientsSuffix); err != nil {
			return err
		}
	}
	sb := s.devs.Superblock()
	if sb == nil {
		return fmt.Errorf("%w: %s", store.ErrNoStore, s.cfg.Store)
	}
	s.joined = sb
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	o := client.Options{Lock: s.devs.StoreFile.HeldByte(), Logger: s.cfg.Logger}
	o.Manage = func(ctx context.Context, request []byte) []byte { return admin.Answer(ctx, ofVolume{s}, request) }
	if s.devices != nil {
		o.Resized = s.devices.resized
	}
	if s.remote, err = client.Dial(ctx, s.cfg.Clients, o); err != nil {
		return fmt.Errorf("%w: does \"ddsnap server %s\" run, with this socket?", err, s.cfg.Store)
	}
	s.undo = append(s.undo, s.remote.Close)
	if s.remote.UUID() != sb.UUID {
		return fmt.Errorf("the server at %s has store %v, and %s is store %v", s.cfg.Clients, s.remote.UUID(), s.cfg.Store, sb.UUID)
	}
	return nil
}

// metadata returns the server, of this process or of another.
func (s *service) metadata() wire.Server {
	if s.remote != nil {
		return s.remote
	}
	return s.server
}

// catalogue returns what is to be known of the store.
func (s *service) catalogue() catalogue {
	if s.remote == nil {
		return s.server
	}
	return distant{s}
}

// dataOffset returns where slot 0 is on the store device.
func (s *service) dataOffset() int64 {
	if s.remote == nil {
		return s.server.DataOffset()
	}
	return s.joined.DataOffset
}

// distant is the catalogue of a store whose server is another process.
type distant struct{ s *service }

// Geometry implements catalogue. While no superblock can be read it is as it was.
func (d distant) Geometry() block.Geometry {
	sb := d.s.devs.Superblock()
	if sb == nil {
		sb = d.s.joined
	}
	geo, err := block.NewGeometry(sb.OriginSize, 1<<sb.ChunkShift)
	if err != nil {
		panic(err) // a superblock that is decoded has a valid geometry
	}
	return geo
}

// Snapshots implements catalogue. What cannot be had is an empty list.
func (d distant) Snapshots() []store.SnapshotInfo {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	path := d.s.cfg.Control
	if path == "" {
		var err error
		if path, err = Socket(d.s.cfg.Store, ControlSuffix); err != nil {
			return nil
		}
	}
	c, err := admin.Dial(ctx, path)
	if err != nil {
		d.s.cfg.Logger.Warn("the snapshots cannot be listed", "error", err)
		return nil
	}
	defer c.Close()
	r, err := c.Do(ctx, admin.Request{Verb: admin.VerbList})
	if err != nil {
		d.s.cfg.Logger.Warn("the snapshots cannot be listed", "error", err)
		return nil
	}
	var list []store.SnapshotInfo
	for _, a := range r.List {
		if a.State != layout.SnapshotLive.String() {
			continue
		}
		// Written says that there are no dirty bitmaps: only the server could tell them.
		list = append(list, store.SnapshotInfo{
			Snapshot: layout.Snapshot{Tag: a.Tag, Name: a.Name, Generation: a.Generation, State: layout.SnapshotLive}, Written: true,
		})
	}
	return list
}

// Changed implements catalogue.
func (d distant) Changed(_, _ block.Generation, _, _ block.Chunk, _ []store.ChangedRun) ([]store.ChangedRun, error) {
	return nil, errors.New("dirty bitmaps are told by a server in the same process only")
}
