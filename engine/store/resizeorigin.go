// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

const (
	settleStep   = 1024 // chunks that are settled at a time before the origin shrinks
	settlePasses = 4    // after which new snapshots wait
	settleTries  = 3    // to settle one step
)

// ResizeOrigin changes the size of the origin, in bytes: a positive multiple of 512.
// The origin's device must be at least that large when it is called, which the
// store cannot know; it may be cut when ResizeOrigin has returned nil. Requests go on
// meanwhile. Every snapshot keeps its size and its content. The change is durable when
// it returns nil; after a crash, or any error, the origin has its old size or, if that is
// durable, the new one, and no snapshot has lost anything.
//
// To shrink, all that snapshots share with the origin beyond the new end is copied out
// first, which takes time and space; progress, which may be nil, is called from time
// to time, and when ctx ends the resize does. The error wraps [ErrNoOrigin] when there
// is something to copy out and no client attached that could.
func (s *Store) ResizeOrigin(ctx context.Context, size int64, progress func(Progress)) error {
	if _, err := block.NewGeometry(size, s.geo.ChunkSize()); err != nil {
		return err
	}
	if err := s.beginResize(); err != nil {
		return err
	}
	defer s.resized()
	progress = orNothing(progress)
	for range settlePasses {
		if done, err := s.resizeOrigin(ctx, size, progress); err != nil || done {
			return err
		}
	}
	// Snapshots are made faster than all can be copied out for them.
	s.making.Lock()
	defer s.making.Unlock()
	_, err := s.resizeOrigin(ctx, size, progress)
	return err
}

// resizeOrigin settles what the origin is to lose, and has it take its new size,
// unless a snapshot was made meanwhile.
func (s *Store) resizeOrigin(ctx context.Context, size int64, progress func(Progress)) (done bool, err error) {
	s.mu.Lock()
	generation := s.generation
	s.mu.Unlock()
	if err := s.settleFrom(ctx, size, generation, progress); err != nil {
		return false, fmt.Errorf("copying out what the origin is to lose: %w", err)
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.forgetApplied(); err != nil {
		return false, err
	}
	err = s.quiesceOrigin(func() error {
		s.mu.Lock()
		done = s.generation == generation || size >= s.sb.OriginSize
		s.mu.Unlock()
		if !done {
			return nil
		}
		return s.setOriginSize(size)
	})
	return done, err
}

// setOriginSize makes the size durable, and takes it. No origin write is under way.
func (s *Store) setOriginSize(size int64) error {
	var old int64
	err := s.checkpointWith(&setting{set: func(sb *layout.Superblock) { old, sb.OriginSize = sb.OriginSize, size }})
	if err != nil && old != 0 { // nobody knows; nothing more is copied out
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sb.OriginSize = old
	}
	return err
}

// settleFrom has all chunks settled that lie beyond size, or across it.
func (s *Store) settleFrom(ctx context.Context, size int64, g block.Generation, progress func(Progress)) error {
	first, end := s.geo.ChunkOf(size), block.Chunk(s.Geometry().Chunks())
	total := uint64(end - min(first, end))
	for at := first; at < end; at += settleStep {
		began := time.Now()
		if err := s.settleSome(at, min(end, at+settleStep), g); err != nil {
			return err
		}
		progress(Progress{Phase: "settle", Done: uint64(min(end, at+settleStep) - first), Total: total})
		if err := s.goOn(ctx, began); err != nil {
			return err
		}
	}
	return nil
}

// settleSome has the chunks [first, end) settled, or finds that the generation is no
// longer g. The index must say so: what is not copied out is lost when the origin
// shrinks.
func (s *Store) settleSome(first, end block.Chunk, g block.Generation) error {
	for tries := 0; ; tries++ {
		unsettled, err := s.Unsettled(first, end, nil)
		if err != nil || len(unsettled) == 0 {
			return err
		}
		s.mu.Lock()
		stale := s.generation != g
		s.mu.Unlock()
		switch {
		case stale:
			return nil
		case tries == settleTries:
			return fmt.Errorf("%d of the chunks %d to %d are not copied out", len(unsettled), first, end-1)
		}
		client := s.attached()
		if client == nil {
			return fmt.Errorf("%w: chunk %d is to be copied out", ErrNoOrigin, unsettled[0])
		}
		if err := client.Settle(unsettled[0], unsettled[len(unsettled)-1]+1); err != nil {
			return err
		}
	}
}
