// SPDX-License-Identifier: Apache-2.0

package store

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// HoldPages has no tree page before limit be used for anything new, until the
// checkpoint after release is called.
func (s *Store) HoldPages(limit block.Page) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []block.Page
	for p := s.sb.TreePages.First; p < limit; p++ {
		if s.pages.Claim(p) == nil {
			held = append(held, p)
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range held {
			s.pages.Defer(p)
		}
		s.changed = true
	}
}

// TreePagesFrom returns how many tree pages from limit on are in use.
func (s *Store) TreePagesFrom(limit block.Page) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages.UsedFrom(limit)
}

// InsertExceptions has the index know of n copy-outs of chunks that are stride apart,
// made in generation g, to slots that do not matter.
func (s *Store) InsertExceptions(g block.Generation, n int, stride block.Chunk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		e := layout.Exception{Chunk: block.Chunk(i) * stride, Generation: g, Slot: block.Slot(i)}
		if err := s.index.Insert(e); err != nil {
			return err
		}
	}
	s.changed = true
	return nil
}

// DropNext drops the snapshot that is needed least, as a full store does.
func (s *Store) DropNext() (dropped bool, err error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	return s.dropNext()
}
