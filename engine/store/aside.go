// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Slots that cannot be written are set aside: they are leased by nobody, so that the
// next batch does not meet them. They are not used up, though. Where no other slot is
// free they are tried again, and while they still cannot be written it is the devices
// that are in trouble: the [FailurePolicy] decides, and not the policy of a full store.
// They are forgotten when the client detaches, and when a shrink needs to know what lies
// in its way.
type aside struct {
	runs   []layout.SlotRun // the one to be tried next first
	since  int64            // when the first of them was set aside; nanoseconds since 1970 UTC
	reason error            // why the last one that was tried could not be written
	lack   bool             // a client waits, and no other slot is free
}

const (
	// maxAside is how many runs of slots are set aside before another one has the one to
	// be tried next given out again: there are not so many leases.
	maxAside = 16
	// asideTries is how many slots that still cannot be written end one round of tries:
	// each may take a device long to refuse, and snapshots are neither made nor deleted
	// meanwhile. The next round goes on after them.
	asideTries = 4
)

// probe finds out whether the store device takes writes. It returns those of the
// failed slots that are to be set aside; an error says that nothing can be written.
// The caller holds admin.
func (s *Store) probe(f wire.Failure) (bad []layout.SlotRun, err error) {
	defer s.endProbe()
	writable := false
	for _, r := range s.beginProbe(f.Slots) {
		n, err := s.tryRun(r)
		writable = writable || n > 0
		if err != nil {
			bad = append(bad, rest(r, n))
		}
	}
	if writable || s.tryAside(1) {
		return bad, nil
	}
	return bad, s.trySpare()
}

// beginProbe returns what of the runs the origin's client has leased, and keeps it from
// being freed until the end of the probe.
func (s *Store) beginProbe(runs []layout.SlotRun) []layout.SlotRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	leased := s.originLeases()
	for _, r := range runs {
		s.probing = append(s.probing, common(leased, r)...)
	}
	return slices.Clone(s.probing)
}

func (s *Store) endProbe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = nil
	if s.client == nil { // it has detached meanwhile
		s.takeBack()
	}
}

// trySpare tries a free slot. Where there is none, the next batch will tell.
func (s *Store) trySpare() error {
	var spare []layout.SlotRun
	err := s.step(func() (err error) {
		spare, err = s.takeSlots(1, max(1, s.originRuns()))
		s.probing = append(s.probing, spare...)
		return err
	})
	if errors.Is(err, alloc.ErrNoSpace) || errors.Is(err, alloc.ErrLeases) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for another place: %w", err)
	}
	_, err = s.tryRun(spare[0])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = without(s.probing, spare)
	s.slots.Return(spare[0])
	s.changed = true
	return err
}

// tryRun writes to all of each slot of a run, and returns how many from the first on
// can be written. What the slots hold is nothing that anybody reads.
func (s *Store) tryRun(r layout.SlotRun) (n uint64, err error) {
	p := device.Buffer(s.geo.ChunkSize())
	for ; n < r.Len; n++ {
		slot := uint64(r.First) + n
		if _, err = s.devs.Store.WriteAt(p, s.sb.DataOffset+int64(slot<<s.geo.ChunkShift())); err != nil {
			err = fmt.Errorf("slot %d: %w", slot, err)
			break
		}
	}
	if n == 0 {
		return 0, err
	}
	if ferr := s.devs.Store.Flush(); ferr != nil {
		return 0, ferr
	}
	return n, err
}

// setAside takes the client's leases back, but for slots that cannot be written.
func (s *Store) setAside(bad []layout.SlotRun, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leased, before := s.originLeases(), len(s.aside.runs)
	n := uint64(0)
	for _, r := range bad {
		for _, part := range common(leased, r) { // the rest was taken back by a try before this one
			s.addAside(part)
			n += part.Len
		}
	}
	if n > 0 {
		if before == 0 {
			s.aside.since = s.opts.Now()
		}
		s.aside.reason = errors.New(reason)
		s.emit(Event{Kind: EventAside, Text: fmt.Sprintf("%d from %d on, until no other is free: %s", n, bad[0].First, reason)})
	}
	s.takeBack()
}

// addAside adds a run to be tried after all others. The lock is held.
func (s *Store) addAside(r layout.SlotRun) {
	a := &s.aside
	if n := len(a.runs); n > 0 && a.runs[n-1].First+block.Slot(a.runs[n-1].Len) == r.First {
		a.runs[n-1].Len += r.Len
		return
	}
	if len(a.runs) > maxAside {
		s.slots.Return(a.runs[0])
		a.runs = slices.Delete(a.runs, 0, 1)
	}
	a.runs = append(a.runs, r)
}

// retryAside tries slots that are set aside again, and reports whether any can be
// written: they may be leased again after a checkpoint.
func (s *Store) retryAside() (any bool) {
	s.admin.Lock()
	defer s.admin.Unlock()
	tries := asideTries
	if s.opts.OnFailure == LetGo { // what is set aside is given up after this
		tries = math.MaxInt
	}
	return s.tryAside(tries)
}

// tryAside is retryAside until so many slots could not be written. The caller holds
// admin.
func (s *Store) tryAside(tries int) (any bool) {
	s.mu.Lock()
	left := length(s.aside.runs)
	s.mu.Unlock()
	written := uint64(0)
	for tries > 0 && left > 0 {
		r, ok := s.nextAside(left)
		if !ok { // the client has detached
			break
		}
		n, err := s.tryRun(r)
		s.tried(r, n, err)
		written += n
		left -= n
		if err != nil {
			tries--
			left--
		}
	}
	if written > 0 {
		s.emit(Event{Kind: EventUsable, Text: fmt.Sprintf("%d slots that were set aside can be written again", written)})
	}
	return written > 0
}

// nextAside returns what is to be tried next, of at most so many slots, and keeps it
// from being freed meanwhile.
func (s *Store) nextAside(most uint64) (r layout.SlotRun, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.aside
	if len(a.runs) == 0 {
		return r, false
	}
	r = a.runs[0]
	if r.Len = min(r.Len, most); r.Len == a.runs[0].Len {
		a.runs = slices.Delete(a.runs, 0, 1)
	} else {
		a.runs[0] = rest(a.runs[0], r.Len)
	}
	s.probing = append(s.probing, r)
	return r, true
}

// tried takes in that the first n slots of a run can be written, and with an error that
// the one after them cannot. What is after that is to be tried next.
func (s *Store) tried(r layout.SlotRun, n uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probing = without(s.probing, []layout.SlotRun{r})
	if s.client == nil {
		s.takeBack()
		return
	}
	if n > 0 {
		s.slots.Return(layout.SlotRun{First: r.First, Len: n})
		s.changed = true
	}
	if err == nil {
		return
	}
	s.aside.reason = err
	r = rest(r, n)
	if more := rest(r, 1); more.Len > 0 {
		s.aside.runs = slices.Insert(s.aside.runs, 0, more)
	}
	s.addAside(layout.SlotRun{First: r.First, Len: 1})
}

// lacks reports whether clients are to wait since the only free slots are set aside, or
// the devices take no writes at all. The error says that they are not to, and does not
// wrap [alloc.ErrNoSpace].
func (s *Store) lacks() (wait bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	distress := s.distress.Load()
	s.aside.lack = length(s.aside.runs) >= s.leaseSlots() && s.slots.Leasable() == 0 && s.opts.OnFailure != LetGo
	var reason error
	switch {
	case s.aside.lack:
		reason = s.lackReason()
		s.tellTrouble(reason)
	case distress != nil && s.opts.OnFailure == HoldWrites:
		reason = *distress
	default:
		return false, nil
	}
	switch {
	case s.opts.OnFailure != HoldWrites:
		return false, fmt.Errorf("%w: %w", ErrTrouble, reason)
	case s.closing.Load():
		return false, fmt.Errorf("waiting for the store's devices: %w: %w", device.ErrClosed, reason)
	}
	return true, nil
}

// mustRetry reports whether clients wait for devices to take writes again.
func (s *Store) mustRetry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aside.lack || s.inTrouble()
}

// lackReason says what is wrong when the only free slots are set aside. The lock is
// held.
func (s *Store) lackReason() error {
	return fmt.Errorf("no slots are free but %d that cannot be written: %w", length(s.aside.runs), s.aside.reason)
}

// rest returns a run without its first n slots.
func rest(r layout.SlotRun, n uint64) layout.SlotRun {
	return layout.SlotRun{First: r.First + block.Slot(n), Len: r.Len - n}
}

// without returns the runs less others.
func without(runs, others []layout.SlotRun) []layout.SlotRun {
	for _, r := range others {
		runs = alloc.Subtract(runs, r)
	}
	return runs
}

// common returns what of a run is in others.
func common(runs []layout.SlotRun, r layout.SlotRun) []layout.SlotRun {
	return without([]layout.SlotRun{r}, without([]layout.SlotRun{r}, runs))
}
