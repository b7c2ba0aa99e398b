// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"sync/atomic"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/layout"
)

// ErrPinned is returned when a checkpoint is pinned already.
var ErrPinned = errors.New("a checkpoint is pinned already")

// Pin is a checkpoint whose pages and slots are not used again, so that it can be
// read from the devices while the store goes on: package check does.
type Pin struct {
	// Superblock is the checkpoint's, as it is on the device.
	Superblock []byte

	store   *Store
	revoked atomic.Bool
}

// Pin takes a checkpoint, if the store can be changed, and keeps its pages and
// slots until Unpin. It returns [ErrPinned] if another one is kept already, and
// [ErrResizing] while the store is resized. While a
// checkpoint is pinned, nothing that is freed can be used again; when the store
// would run out of space because of that, it revokes the pin. What it keeps takes a
// bit of memory a tree page and 16 bytes a run of freed slots.
func (s *Store) Pin() (*Pin, error) {
	s.mu.Lock()
	pinned := s.pin != nil
	s.mu.Unlock()
	if pinned {
		return nil, ErrPinned
	}
	if s.mutable() == nil {
		if err := s.Checkpoint(); err != nil {
			return nil, err
		}
	}
	s.checkpointing.Lock() // no checkpoint between reading the superblock and keeping what it names
	defer s.checkpointing.Unlock()
	sb, err := readSuperblock(s.meta)
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint to pin: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.pin != nil:
		return nil, ErrPinned
	case s.resizing:
		return nil, ErrResizing
	}
	s.pin = &Pin{Superblock: sb.Encode(), store: s}
	s.pages.Pin()
	s.slots.Pin()
	return s.pin, nil
}

// Revoked reports whether the store has taken the pages and slots back. What was
// read of the checkpoint before a call that returned false was right.
func (p *Pin) Revoked() bool { return p.revoked.Load() }

// Unpin ends the pin. It may be called more than once.
func (p *Pin) Unpin() {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if p.store.pin == p {
		p.store.unpin()
	}
}

// unpin frees what the pin has kept. The lock is held.
func (s *Store) unpin() {
	s.pin.revoked.Store(true)
	s.pin = nil
	s.pages.Unpin()
	s.slots.Unpin()
}

// revokePin ends the pin if it keeps anything that is needed now, and reports
// whether it did. The lock is held.
func (s *Store) revokePin() bool {
	if s.pin == nil || s.pages.Held() == 0 && s.slots.Held() == 0 {
		return false
	}
	s.giveUpPin()
	return true
}

// giveUpPin ends the pin, if there is one. The lock is held.
func (s *Store) giveUpPin() {
	if s.pin == nil {
		return
	}
	if s.opts.Logger != nil {
		s.opts.Logger.Warn("the store needs its space: a checkpoint that was being checked is given up",
			"pages", s.pages.Held(), "slots", s.slots.Held())
	}
	s.unpin()
}

// takeSlots leases slots in at most so many runs, at the cost of a pin if need be. The
// lock is held.
func (s *Store) takeSlots(want uint64, runs int) ([]layout.SlotRun, error) {
	got, err := s.slots.LeaseRuns(want, runs)
	if errors.Is(err, alloc.ErrNoSpace) && s.revokePin() {
		got, err = s.slots.LeaseRuns(want, runs)
	}
	return got, err
}
