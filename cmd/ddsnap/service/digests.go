// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// NoDigests is the rate of a server that computes no digests.
const NoDigests = -1

// openDigests readies the computation of digests in the background, where this process
// has the store.
func (s *service) openDigests() error {
	if s.cfg.ReadOnly || s.cfg.DigestRate == NoDigests {
		return nil
	}
	s.digests = &compute.Background{
		Manager: admin.Local{Store: s.server}, Rate: s.cfg.DigestRate, Age: s.cfg.DigestAge, Logger: s.cfg.Logger,
		Open: s.openContent,
	}
	return nil
}

// content is a snapshot's, read with the origin's device, which another process may have.
type content struct {
	*volume.Unheld
	io.Closer
	lives func() bool // somebody still has the origin
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	if !c.lives() {
		return 0, store.ErrNoOrigin
	}
	return c.Unheld.ReadAt(p, off)
}

// openContent opens the content of a snapshot.
func (s *service) openContent(snap admin.Snapshot) (compute.Content, error) {
	info, err := s.server.Find(wire.SnapshotRef{Tag: snap.Tag})
	if err != nil {
		return nil, err
	}
	c := content{Closer: io.NopCloser(nil), lives: func() bool { return true }}
	source := volume.SnapshotSource{Store: s.devs.Devices, ChunkSize: s.server.Geometry().ChunkSize(), DataOffset: s.server.DataOffset()}
	if s.device != nil {
		source.Origin = s.device
	} else {
		origin, err := s.openClientsOrigin()
		if err != nil {
			return nil, err
		}
		source.Origin, c.Closer, c.lives = origin, origin, s.clients.HasOrigin
	}
	if c.Unheld, err = volume.NewUnheld(source, s.server, info.Snapshot); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// openClientsOrigin opens the device of the origin that another process, or the kernel, has,
// to be read. The error wraps [store.ErrNoOrigin] if none has it.
func (s *service) openClientsOrigin() (*device.File, error) {
	o := device.FileOptions{ReadOnly: true, Unlocked: true, Direct: s.cfg.Direct}
	if s.kernel {
		node, err := s.targetOrigin()
		if err == nil {
			return device.OpenFile(node, o)
		}
		if !errors.Is(err, store.ErrNoOrigin) {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusLimit)
	defer cancel()
	a, err := admin.Relay(s.clients.Manage).Do(ctx, admin.Request{Verb: admin.VerbStatus})
	switch {
	case err != nil:
		return nil, err
	case a.Status == nil || a.Status.Volume == nil || a.Status.Volume.Origin == nil:
		return nil, fmt.Errorf("%w: the volume's process does not say which device it is", store.ErrNoOrigin)
	}
	is := a.Status.Volume.Origin
	f, err := device.OpenFile(is.Path, o)
	if err != nil {
		return nil, err
	}
	if id, err := f.Identity(); err != nil || id != is.Identity {
		return nil, errors.Join(fmt.Errorf("%s is another file here than for the volume's process", is.Path), err, f.Close())
	}
	return f, nil
}

// originFile says on what the origin is, to a server in another process; nil if that is in
// this one.
func (s *service) originFile() (*admin.OriginFile, error) {
	if s.remote == nil {
		return nil, nil
	}
	path, err := filepath.Abs(s.device.Path())
	if err != nil {
		return nil, err
	}
	id, err := s.device.Identity()
	return &admin.OriginFile{Path: path, Identity: id}, err
}

// computeDigests computes digests until ctx ends. Its rate is what keeps it from being in
// the way. The thread's priorities are not lowered: it takes the store's lock, and whoever
// waits for that would wait for a thread that gets no processor.
func (s *service) computeDigests(ctx context.Context) {
	events, end := s.server.Subscribe(1)
	defer end()
	s.digests.Run(ctx, events)
}
