// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// ErrScrubbing is returned when a scrub is to be started and one is running.
var ErrScrubbing = errors.New("a scrub is running already")

// ScrubPosition is a place among the exceptions of the origin, in their order.
type ScrubPosition struct {
	Chunk      block.Chunk
	Generation block.Generation
}

// ScrubOptions tune a scrub.
type ScrubOptions struct {
	Rate int64 // most bytes to read in a second; zero: no limit
	// From is where to begin. Nil goes on where the last scrub was stopped, or begins
	// at the first exception if it came to its end.
	From *ScrubPosition
}

// BadBlock is a preserved chunk that cannot be read as it was copied. Reads of it
// return what is there, or the device's error.
type BadBlock struct {
	Chunk      block.Chunk
	Generation block.Generation // of its exception
	Slot       block.Slot
	Offset     int64       // of the slot on the store device, in bytes
	Snapshots  []block.Tag // that show it, oldest first; at most MaxBadSnapshots
	More       int         // snapshots beside those
	Reason     string
}

// Bounds of what a scrub remembers.
const (
	MaxBadBlocks    = 256
	MaxBadSnapshots = 16
)

// ScrubStatus says how far a scrub has come.
type ScrubStatus struct {
	Running  bool
	Rate     int64         // bytes a second; zero: no limit
	Next     ScrubPosition // all before it were verified; zero when the scrub has come to its end
	Verified uint64        // exceptions
	Bytes    int64         // read
	Total    uint64        // exceptions in the store now, among them some that have no checksum
	Started  int64         // nanoseconds since 1970 UTC; zero: never
	Ended    int64         // zero: it is running
	Passes   int           // scrubs that came to their end since the store was opened
	BadCount uint64        // chunks found bad
	Bad      []BadBlock    // the first of them, at most MaxBadBlocks
	Err      string        // why it ended before its end, if it was not stopped
}

// scrub is the verification of checksums in the background. Its lock is held for
// moments only, and none is taken under it.
type scrub struct {
	mu      sync.Mutex
	status  ScrubStatus
	stop    chan struct{} // closed to end the one that runs
	ended   chan struct{} // closed when it has ended
	changed chan struct{} // has a token when the rate was changed
}

// scrubStep is how many exceptions a scrub looks up at once, and scrubBytes how much
// it reads at once.
const (
	scrubStep  = 128
	scrubBytes = 256 << 10
)

// StartScrub begins to verify the checksums of all preserved chunks in the
// background, which may go on while anything else does. What was written to
// snapshots has no checksums. It returns [ErrScrubbing] if a scrub is running.
func (s *Store) StartScrub(o ScrubOptions) error {
	sc := &s.scrub
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.status.Running {
		return ErrScrubbing
	}
	st := &sc.status
	fresh := o.From != nil || st.Next == ScrubPosition{}
	if fresh {
		*st = ScrubStatus{Passes: st.Passes}
		if o.From != nil {
			st.Next = *o.From
		}
	}
	st.Running, st.Rate, st.Started, st.Ended, st.Err = true, max(0, o.Rate), s.opts.Now(), 0, ""
	sc.stop, sc.ended, sc.changed = make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	go s.runScrub(sc.stop, sc.ended)
	return nil
}

// SetScrubRate changes the rate of the scrub that is running: bytes a second, zero
// for no limit.
func (s *Store) SetScrubRate(rate int64) {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	s.scrub.status.Rate = max(0, rate)
	if s.scrub.changed != nil {
		select {
		case s.scrub.changed <- struct{}{}:
		default:
		}
	}
}

// StopScrub ends the scrub that is running, if there is one, and waits for its end.
func (s *Store) StopScrub() {
	s.scrub.mu.Lock()
	stop, ended := s.scrub.stop, s.scrub.ended
	s.scrub.stop = nil
	s.scrub.mu.Unlock()
	if stop != nil {
		close(stop)
	}
	if ended != nil {
		<-ended
	}
}

// ScrubStatus returns how far the scrub that is running, or was last, has come.
func (s *Store) ScrubStatus() ScrubStatus {
	s.mu.Lock()
	total := s.index.Exceptions.Len()
	s.mu.Unlock()
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	st := s.scrub.status
	st.Total = total
	st.Bad = slices.Clone(st.Bad)
	return st
}

// runScrub verifies from the status's position on.
func (s *Store) runScrub(stop, ended chan struct{}) {
	defer close(ended)
	err := s.scrubAll(stop)
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	st := &s.scrub.status
	st.Running, st.Ended = false, s.opts.Now()
	switch {
	case err == nil:
		st.Next = ScrubPosition{}
		st.Passes++
	case !errors.Is(err, errStopped):
		st.Err = err.Error()
	}
	if s.scrub.stop == stop {
		s.scrub.stop = nil
	}
}

var errStopped = errors.New("scrub was stopped")

func (s *Store) scrubAll(stop chan struct{}) error {
	s.scrub.mu.Lock()
	next := s.scrub.status.Next
	s.scrub.mu.Unlock()
	batch := make([]layout.Exception, 0, scrubStep)
	buf := device.Buffer(max(scrubBytes, s.geo.ChunkSize()))
	for {
		err := s.resolve(func() (err error) {
			batch, err = s.index.Exceptions.Scan(layout.Exception{Chunk: next.Chunk, Generation: next.Generation}, scrubStep, batch[:0])
			return err
		})
		if err != nil {
			return fmt.Errorf("reading the exceptions from chunk %d on: %w", next.Chunk, err)
		}
		last := len(batch) < scrubStep
		if i := slices.IndexFunc(batch, func(e layout.Exception) bool { return e.Branch != 0 }); i >= 0 {
			batch, last = batch[:i], true
		}
		for rest := batch; len(rest) > 0; {
			n := s.scrubRun(rest, buf)
			e := rest[n-1]
			next = ScrubPosition{Chunk: e.Chunk, Generation: e.Generation + 1}
			if err := s.scrubbed(next, n, stop); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if last {
			return nil
		}
	}
}

// scrubRun verifies the first of the exceptions, those in neighbouring slots at
// once, and returns how many.
func (s *Store) scrubRun(list []layout.Exception, buf []byte) int {
	size := s.geo.ChunkSize()
	n := 1
	for n < len(list) && (n+1)*size <= len(buf) && list[n].Slot == list[n-1].Slot+1 {
		n++
	}
	if n == 1 && list[0].Slot == layout.LostSlot {
		return 1
	}
	data := buf[:n*size]
	if _, err := s.devs.Store.ReadAt(data, s.slotOffset(list[0].Slot)); err != nil {
		data = nil // each by itself
	}
	for i, e := range list[:n] {
		if data == nil || layout.SumOf(data[i*size:][:size]) != e.Sum {
			s.scrubAgain(e, buf[i*size:][:size])
		}
	}
	return n
}

// scrubAgain judges a chunk that did not have its checksum, by itself: it may have
// been freed meanwhile, or moved, and what was read be another's.
func (s *Store) scrubAgain(e layout.Exception, buf []byte) {
	for {
		_, err := s.devs.Store.ReadAt(buf, s.slotOffset(e.Slot))
		got := layout.SumOf(buf)
		if err == nil && got == e.Sum {
			return
		}
		now, ok, lerr := s.exceptionAt(e)
		if lerr != nil || !ok || now.Slot == layout.LostSlot {
			return // the metadata's own errors are found by all who need it
		}
		if now.Slot == e.Slot && now.Sum == e.Sum {
			reason := fmt.Sprintf("checksum is %#08x, not %#08x", got, e.Sum)
			if err != nil {
				reason = err.Error()
			}
			s.foundBad(e, reason)
			return
		}
		e = now
	}
}

// exceptionAt returns the exception that there is now of e's chunk and generation.
func (s *Store) exceptionAt(e layout.Exception) (now layout.Exception, ok bool, err error) {
	err = s.resolve(func() error {
		now, ok, err = s.index.At(e.Branch, e.Chunk, e.Generation)
		return err
	})
	return now, ok && now.Generation == e.Generation, err
}

// foundBad tells of a bad chunk.
func (s *Store) foundBad(e layout.Exception, reason string) {
	b := BadBlock{Chunk: e.Chunk, Generation: e.Generation, Slot: e.Slot, Offset: s.slotOffset(e.Slot), Reason: reason}
	for _, snap := range s.Snapshots() {
		if !s.shows(snap.Generation, e) {
			continue
		}
		if len(b.Snapshots) < MaxBadSnapshots {
			b.Snapshots = append(b.Snapshots, snap.Tag)
		} else {
			b.More++
		}
	}
	s.scrub.note(b)
	ev := Event{Kind: EventScrub, Text: fmt.Sprintf("chunk %d of snapshots %v, at byte %d of the store device: %s", b.Chunk, b.Snapshots, b.Offset, reason)}
	if len(b.Snapshots) > 0 {
		ev.Tag = b.Snapshots[0]
	}
	s.emit(ev)
}

// note takes a bad chunk into the list.
func (sc *scrub) note(b BadBlock) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.status.BadCount++
	if len(sc.status.Bad) < MaxBadBlocks {
		sc.status.Bad = append(sc.status.Bad, b)
	}
}

// shows reports whether the snapshot of generation g reads its chunk from e.
func (s *Store) shows(g block.Generation, e layout.Exception) (yes bool) {
	err := s.resolve(func() error {
		snap := s.snaps.get(g)
		if yes = false; snap == nil || !snap.readable() || s.geo.Offset(e.Chunk) >= snap.Size {
			return nil
		}
		m, err := s.mapOne(snap, e.Chunk, e.Chunk+1)
		yes = err == nil && m.Kind == wire.Stored && m.Slot == e.Slot
		return err
	})
	return err == nil && yes
}

// scrubbed notes that n more exceptions before next were read, and waits as long as
// the rate demands. It returns errStopped when the scrub is to end.
func (s *Store) scrubbed(next ScrubPosition, n int, stop chan struct{}) error {
	bytes := int64(n) << s.geo.ChunkShift()
	s.scrub.mu.Lock()
	st := &s.scrub.status
	st.Next, st.Verified, st.Bytes = next, st.Verified+uint64(n), st.Bytes+bytes
	s.scrub.mu.Unlock()
	began := time.Now()
	for {
		s.scrub.mu.Lock()
		rate, changed := s.scrub.status.Rate, s.scrub.changed
		s.scrub.mu.Unlock()
		wait := time.Duration(0)
		if rate > 0 {
			wait = time.Duration(float64(bytes)/float64(rate)*float64(time.Second)) - time.Since(began)
		}
		select {
		case <-stop:
			return errStopped
		default:
		}
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-stop:
			timer.Stop()
			return errStopped
		case <-changed: // with the new rate it may be less
			timer.Stop()
		case <-timer.C:
		}
	}
}

// slotOffset returns the byte offset of a slot on the store device.
func (s *Store) slotOffset(slot block.Slot) int64 {
	return s.sb.DataOffset + int64(uint64(slot)<<s.geo.ChunkShift())
}
