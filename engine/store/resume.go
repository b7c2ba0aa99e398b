// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// An origin client can outlive its server. It goes on writing batches into the
// slots that it has leased, and its log is then longer than what was reported. So a
// server that finds such a client alive ([Options.Await]) takes in what the log has
// so far, and changes nothing: no epoch begins, no slot is given out, no snapshot is
// made, until the client has said where its log ends ([Store.Resume]) or is known to
// be gone ([Store.Abandon]).

// Awaiting reports whether the store waits for the end of its client's log.
func (s *Store) Awaiting() bool { return s.awaiting.Load() }

// Resume goes on with an origin client that was attached to this store before, to
// another opening of it or, if c is attached, to this one. The log is read up to
// p.Position, and must reach it. The client goes on in a new session, as after
// [Store.Attach]; what it had leased is taken back.
func (s *Store) Resume(c wire.Client, p wire.Progress) (*wire.Session, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	readOn, err := s.resumable(p)
	if err != nil {
		return nil, err
	}
	if readOn {
		if err := s.readOn(&p.Position); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	if s.snaps.newest() <= p.Generation { // no snapshot of the origin is newer than what the client knows
		s.generation = p.Generation
	}
	s.mu.Unlock()
	if err := s.leave(); err != nil {
		return nil, err
	}
	return s.begins(c)
}

// resumable returns an error unless the client's progress can be one with this store.
// It reports whether the log may go on after what is known of it: not if a session was
// begun for the client of which it has never heard, because a server ended before it
// could answer. Then all that the client has written was read for that session. Nor if
// this opening has read the one batch that the client says it could not make durable:
// what it says is what the origin still holds, and the client gives the batch's number
// up. A client that does not say so and knows of less than the log is refused: it did not
// write that log, or has lost what it knew.
func (s *Store) resumable(p wire.Progress) (readOn bool, err error) {
	failed := s.failed.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.opts.ReadOnly:
		return false, ErrReadOnly
	case failed != nil:
		return false, fmt.Errorf("%w: %w", ErrFailed, *failed)
	case !s.awaiting.Load() && s.client == nil:
		return false, fmt.Errorf("%w: no client is waited for", ErrStale)
	case p.UUID == s.sb.UUID && p.Epoch <= s.sb.Epoch && s.position == s.sb.LogPos && p.Position.Seq < s.position.Seq &&
		p.Generation <= s.sb.Generation:
		return false, nil
	case p.UUID == s.sb.UUID && p.Epoch == s.sb.Epoch && s.awaiting.Load() && p.Failed && p.Position.Seq+1 == s.position.Seq &&
		p.Generation <= s.sb.Generation:
		return false, nil // its last batch was found whole
	case p.UUID != s.sb.UUID || p.Epoch != s.sb.Epoch:
		return false, fmt.Errorf("%w: it is of epoch %d of store %v, this is epoch %d of %v", ErrStale, p.Epoch, p.UUID, s.sb.Epoch, s.sb.UUID)
	case p.Generation > s.sb.Generation:
		return false, fmt.Errorf("%w: it is of generation %d, the store's is %d", ErrStale, p.Generation, s.sb.Generation)
	case p.Position.Seq < s.position.Seq:
		return false, fmt.Errorf("%w: its next batch is %d, the log has %d already", ErrStale, p.Position.Seq, s.position.Seq-1)
	}
	return true, nil
}

// Abandon takes in the log of an origin client that is gone without a Detach, and
// ends its session. It does nothing where there is none.
func (s *Store) Abandon() error {
	s.admin.Lock()
	defer s.admin.Unlock()
	return s.abandon()
}

func (s *Store) abandon() error {
	s.mu.Lock()
	none := !s.awaiting.Load() && s.client == nil
	s.mu.Unlock()
	if none {
		return nil
	}
	if s.failed.Load() == nil { // else the next opening reads the log
		if err := s.readOn(nil); err != nil {
			return err
		}
	}
	return s.leave()
}

// errEnd ends a replay.
var errEnd = errors.New("end of the replay")

// readOn takes in the batches of the log that were not reported: those before end,
// all of which must be there, or all that there are.
func (s *Store) readOn(end *layout.Position) error {
	s.mu.Lock()
	session := s.session(nil)
	s.mu.Unlock()
	if session.Placement == layout.PlacementInline && s.hasNoHead() {
		return nil // the client has had no slot for any batch
	}
	log, err := placement.OpenLog(s.devs, session)
	if err != nil {
		return err
	}
	err = log.Replay(session.Epoch, session.Position, func(r placement.Replayed) error {
		if end != nil && r.Seq >= end.Seq {
			return errEnd
		}
		return s.replayBatch(r)
	})
	if err == nil || errors.Is(err, errEnd) {
		err = s.flushReplayed(session.Position)
	}
	if err != nil { // half of a batch may have been taken in
		return s.fail(fmt.Errorf("reading on in the log: %w", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if end != nil && s.position.Seq != end.Seq {
		return fmt.Errorf("%w: the log ends before batch %d, its client before %d", layout.ErrCorrupt, s.position.Seq, end.Seq)
	}
	return nil
}

func (s *Store) hasNoHead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.headless
}

// leave ends the session of the origin client: its leases are taken back, and a
// recovery that has waited for it is finished.
func (s *Store) leave() error {
	if !s.awaiting.Load() {
		return s.Detach()
	}
	s.mu.Lock()
	s.nextEpoch()
	s.changed = true
	s.awaiting.Store(false)
	s.mu.Unlock()
	if err := s.Checkpoint(); err != nil {
		return s.fail(err) // the log would have to be read on
	}
	s.wake()
	return nil
}

// Suspend is Close while an origin client goes on: it takes a checkpoint, after which
// there is something to replay.
func (s *Store) Suspend() error {
	s.StopScrub()
	s.endResize()
	s.admin.Lock()
	defer s.admin.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("store is closed already")
	}
	s.changed = true
	s.mu.Unlock()
	if s.mutable() != nil {
		return nil
	}
	err := s.Checkpoint()
	s.suspended.Store(true)
	return err
}

// takeBack sets what the origin client has leased aside to be freed. The lock is
// held.
func (s *Store) takeBack() {
	for _, r := range s.originLeases() {
		s.slots.Return(r)
	}
	s.changed = true
}
