// SPDX-License-Identifier: Apache-2.0

// Package server runs a store for its clients.
//
// It owns the goroutine that does the store's background work, and is the
// [wire.Server] that package volume talks to: the embedded server, in the
// client's own process. It does not own the devices; who opened them closes
// them, after Close. A Server is safe for concurrent use as wire.Server says.
// When background work fails, the store is in failed mode and the error comes
// out of every change after it.
package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// Options tune a server.
type Options struct {
	Store store.Options
	// Manual leaves background work to calls of Maintain by one goroutine, so that
	// the sequence of I/O is the same in every run.
	Manual bool
	// CheckpointInterval is the longest time that a change waits for a checkpoint
	// of its own accord; default 30 s.
	CheckpointInterval time.Duration
	Logger             *slog.Logger
}

// Server is an embedded metadata server.
type Server struct {
	*store.Store
	opts Options
	stop context.CancelFunc
	done sync.WaitGroup
	// listener serves clients in other processes; nil while there is none.
	listener atomic.Pointer[Listener]
}

var _ wire.Server = (*Server)(nil)

// Open opens the store on the devices, recovers it if need be, and begins to work
// in the background.
func Open(d placement.Devices, o Options) (*Server, error) {
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Store.Logger = o.Logger
	st, err := store.Open(d, o.Store)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{Store: st, opts: o, stop: stop}
	if !o.Manual && !o.Store.ReadOnly {
		s.done.Go(func() { s.work(ctx) })
	}
	return s, nil
}

// work does what is due until ctx ends.
func (s *Server) work(ctx context.Context) {
	interval := time.NewTicker(s.opts.CheckpointInterval)
	defer interval.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-interval.C:
			err = s.Store.Checkpoint()
		case <-s.Due():
			err = s.maintain(ctx)
		}
		switch {
		case errors.Is(err, store.ErrFailed):
			return // the store has said so
		case errors.Is(err, wire.ErrAway): // it waits for its client
		case err != nil:
			s.opts.Logger.Warn("background work is put off", "store", s.UUID(), "error", err)
		}
	}
}

// maintain runs Maintain until nothing more is due, or ctx ends.
func (s *Server) maintain(ctx context.Context) error {
	for ctx.Err() == nil {
		if more, err := s.Maintain(); err != nil || !more {
			return err
		}
	}
	return nil
}

// Checkpoint waits for a checkpoint of all that was reported.
func (s *Server) Checkpoint() (layout.Position, error) {
	err := s.Store.Checkpoint()
	return s.Released(), err
}

// Changed is [store.Store.Changed], with all that the origin's client had reported
// before, over a connection too.
func (s *Server) Changed(since, upTo block.Generation, first, end block.Chunk, dst []store.ChangedRun) ([]store.ChangedRun, error) {
	if l := s.listener.Load(); l != nil {
		l.barrier(nil)
	}
	return s.Store.Changed(since, upTo, first, end, dst)
}

// MapUnheld is [store.Store.MapUnheld], with all that the origin's client had reported
// before, over a connection too. The error wraps [wire.ErrAway] while that client is to
// come back.
func (s *Server) MapUnheld(g block.Generation, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	if l := s.listener.Load(); l != nil {
		if err := l.barrier(nil); err != nil {
			return dst, err
		}
	}
	return s.Store.MapUnheld(g, first, end, dst)
}

// ChangeList is [store.Store.ChangeList], with all that the origin's client had
// reported before, over a connection too.
func (s *Server) ChangeList(q store.ChangeQuery) (*store.ChangeList, error) {
	if l := s.listener.Load(); l != nil && q.To == nil {
		l.barrier(nil)
	}
	return s.Store.ChangeList(q)
}

// Close stops the background work and closes the store. The clients must have
// been detached.
func (s *Server) Close() error {
	s.stop()
	s.StopWaiting() // the background work too
	s.done.Wait()
	return s.Store.Close()
}
