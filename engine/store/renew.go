// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// A batch that could not be made durable may be found by a recovery, or not; so may
// the record of it that a next try would leave. So its number is given up: the client
// goes on in a new session, whose first batch has a later number at another place, and
// the checkpoint that says so is durable before the client hears of it. From then on
// no recovery reads what the failed write has left. Until then one that finds the batch
// whole takes it in: it says what the origin still holds.

// FailurePolicy says what becomes of origin writes that need a copy-out while the
// store's devices do not take writes.
type FailurePolicy uint8

// The policies.
const (
	HoldWrites FailurePolicy = iota // they wait, and the devices are tried again
	FailWrites                      // they fail, each after it was tried
	LetGo                           // all snapshots are squashed, and they go on
)

var failurePolicies = [...]string{HoldWrites: "hold", FailWrites: "fail-writes", LetGo: "let-go"}

// String returns the policy's name.
func (p FailurePolicy) String() string { return failurePolicies[p] }

// ParseFailurePolicy is the reverse of [FailurePolicy.String].
func ParseFailurePolicy(name string) (FailurePolicy, error) {
	if i := slices.Index(failurePolicies[:], name); i >= 0 {
		return FailurePolicy(i), nil
	}
	return 0, fmt.Errorf("policy of a failing store: %q is none of hold, fail-writes and let-go", name)
}

// ErrTrouble is wrapped when something cannot be done because the store's devices do
// not take writes now.
var ErrTrouble = errors.New("the store's devices do not take writes")

// DefaultRetry is the time between two tries of devices that do not take writes.
const DefaultRetry = 2 * time.Second

const (
	// quickRenewals is how many batches in a row may fail before the devices are taken
	// to be in trouble, though a single page can be written.
	quickRenewals = 3
)

// Renew begins a new session after a batch that its client could not make durable;
// see [wire.Server]. Slots that cannot be written are set aside; see setAside.
// When the devices take no writes at all, or one batch after another fails, the
// [FailurePolicy] decides. The error wraps [ErrTrouble] where that says so, and
// [device.ErrClosed] when the store ends.
func (s *Store) Renew(f wire.Failure) (*wire.Session, error) {
	s.mu.Lock()
	s.renewals++
	again := s.renewals > quickRenewals
	if again && s.opts.OnFailure != HoldWrites {
		s.renewals = 0 // the next write has as many tries
	}
	s.mu.Unlock()
	for {
		changed := *s.space.Load()
		session, err := s.renew(f, again)
		if !errors.Is(err, ErrTrouble) || s.opts.OnFailure != HoldWrites {
			return session, err
		}
		if s.closing.Load() {
			return nil, fmt.Errorf("waiting for the store's devices: %w: %w", device.ErrClosed, err)
		}
		again = false
		select {
		case <-changed:
		case <-time.After(s.opts.Retry):
		}
	}
}

// renew tries once. Gone says that the devices are known to take no batches.
func (s *Store) renew(f wire.Failure, gone bool) (*wire.Session, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.attached() == nil {
		return nil, fmt.Errorf("%w: the origin has no client", ErrStale)
	}
	readOn, err := s.resumable(f.Progress)
	if err == nil && readOn && s.nextSeq() < f.Position.Seq {
		err = s.readOn(&f.Position)
	}
	if err != nil {
		return nil, err
	}
	var bad []layout.SlotRun
	if err = errors.New(f.Reason); !gone {
		bad, err = s.probe(f)
	}
	if err != nil {
		s.noteTrouble(err)
		if s.opts.OnFailure != LetGo {
			return nil, fmt.Errorf("%w: %w", ErrTrouble, err)
		}
		if err := s.letGo(); err != nil {
			return nil, err
		}
	}
	return s.renewed(bad, f.Reason)
}

func (s *Store) nextSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position.Seq
}

// renewed begins the new session.
func (s *Store) renewed(bad []layout.SlotRun, reason string) (*wire.Session, error) {
	s.setAside(bad, reason)
	seq := s.nextSeq()
	var leases []layout.SlotRun
	err := s.step(func() (err error) {
		leases, err = s.startLog()
		return err
	})
	if err == nil {
		err = s.Checkpoint() // the first batch's place must be durable before the batch is
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.position.Seq > seq {
			s.position.Seq = seq // no client has heard of more, and no checkpoint
		}
		return nil, fmt.Errorf("a new place for a failed batch: %w", err)
	}
	s.endTrouble()
	return s.session(leases), nil
}

// noteTrouble takes in that the devices take no writes.
func (s *Store) noteTrouble(reason error) {
	s.distress.Store(&reason)
	s.tellTrouble(reason)
}

// tellTrouble tells of trouble, once until it is over.
func (s *Store) tellTrouble(reason error) {
	if !s.troubled.Swap(true) {
		s.emit(Event{Kind: EventTrouble, Text: fmt.Sprintf("%v; %s", reason, s.opts.OnFailure.consequence())})
	}
}

// consequence says what the policy does.
func (p FailurePolicy) consequence() string {
	switch p {
	case FailWrites:
		return "writes that need a copy fail"
	case LetGo:
		return "all snapshots are given up"
	}
	return "writes that need a copy wait"
}

// noteHealed takes in that the devices take writes.
func (s *Store) noteHealed() {
	s.endTrouble()
	if s.troubled.Swap(false) {
		s.emit(Event{Kind: EventHealed})
	}
}

// endTrouble takes in that the devices took what they were tried with. A batch has yet to
// show that they are healed.
func (s *Store) endTrouble() {
	if s.distress.Swap(nil) != nil {
		s.spaceChanged()
	}
}

func (s *Store) inTrouble() bool { return s.distress.Load() != nil }

// letGo squashes all snapshots, the newest first, durably. The caller holds admin.
func (s *Store) letGo() error {
	s.mu.Lock()
	if s.restoring != 0 {
		s.mu.Unlock()
		return fmt.Errorf("%w: its snapshot cannot be given up", ErrRestoring)
	}
	var all []*snapshot
	for _, snap := range s.snaps.all {
		if snap.readable() {
			all = append(all, snap)
		}
	}
	s.mu.Unlock()
	for _, snap := range slices.Backward(all) {
		s.mu.Lock()
		entry := snap.Snapshot
		s.mu.Unlock()
		entry.State = layout.SnapshotSquashed
		if err := s.recordWith(entry); err != nil {
			return err
		}
		s.emit(about(EventSquashed, entry, "its store cannot be written: the origin goes on without it"))
		s.fence(snap)
	}
	s.noteHealed() // nothing more is to be written
	s.wake()
	s.tellOrigin()
	return nil
}

// mayRepeat reports, after a while, whether a checkpoint that could not be written is
// to be written again. The image is what it was: whatever an attempt has left of it is
// overwritten with the same. Data of snapshots that a failed flush may have lost is not,
// and so no checkpoint may say where that is.
func (s *Store) mayRepeat(img *image, reason error) bool {
	if s.opts.OnFailure != HoldWrites || len(img.unsynced) > 0 {
		return false
	}
	s.noteTrouble(reason)
	changed := *s.space.Load()
	if s.closing.Load() {
		return false
	}
	select {
	case <-changed:
	case <-time.After(s.opts.Retry):
	}
	return !s.closing.Load()
}
