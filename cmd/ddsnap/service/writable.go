// SPDX-License-Identifier: Apache-2.0

package service

import (
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/volume"
	engine "zumastor.org/zumastor/engine/wire"
)

// writable are the snapshots that are open for writing, each with the number of
// its users.
type writable struct {
	mu    sync.Mutex
	inUse map[block.Tag]*writer
}

// writer is a snapshot that is open for writing.
type writer struct {
	*volume.Snapshot
	users int
}

// open returns the snapshot that ref names, opened with open unless it is open
// already. release is to be called once; the last one closes the snapshot.
func (w *writable) open(ref engine.SnapshotRef, open func() (*volume.Snapshot, error)) (s *volume.Snapshot, release func() error, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, have := range w.inUse {
		if info := have.Info(); ref.Name != "" && info.Name == ref.Name || ref.Name == "" && info.Tag == ref.Tag {
			have.users++
			return have.Snapshot, func() error { return w.release(have) }, nil
		}
	}
	if s, err = open(); err != nil {
		return nil, nil, err
	}
	if w.inUse == nil {
		w.inUse = make(map[block.Tag]*writer)
	}
	made := &writer{s, 1}
	w.inUse[s.Info().Tag] = made
	return s, func() error { return w.release(made) }, nil
}

func (w *writable) release(s *writer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	delete(w.inUse, s.Info().Tag)
	return s.Close()
}
