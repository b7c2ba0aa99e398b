// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math"
	"time"

	"zumastor.org/zumastor/engine/block"
)

// Fill says how full a part of the store is, and when it will be full. Sizes are in
// bytes.
type Fill struct {
	Used int64
	Free int64   // what is leased to clients is still free
	Rate float64 // bytes that are taken in a second, lately: what deletions give back is not counted
	// UntilFull is how long Free lasts at this rate if nothing is deleted, or Never.
	UntilFull time.Duration
}

// Never is the time until something that is not to be expected.
const Never = time.Duration(math.MaxInt64)

// windows are the times, in seconds, over which a rate is weighted: what is as long ago
// counts for a third. The highest of the rates is the one that counts, so that a
// forecast is rather too early than too late.
var windows = [...]float64{5 * 60, 60 * 60}

// minAge is the time, in seconds, for which a rate is taken to have been observed at
// least.
const minAge = 10

// rate is an estimate of how much is taken in a second. Times are in nanoseconds; a
// clock that is set back stands still.
type rate struct {
	since, last int64
	sums        [len(windows)]float64 // of what was taken, each weighted by its age
}

func newRate(now int64) rate { return rate{since: now, last: now} }

// add takes in that n were taken.
func (r *rate) add(now int64, n float64) {
	for i, sum := range r.sums {
		r.sums[i] = sum*r.decay(now, i) + n
	}
	r.last = max(r.last, now)
}

// decay returns the weight by now of what counted fully at the last addition.
func (r *rate) decay(now int64, window int) float64 {
	return math.Exp(-seconds(max(now, r.last)-r.last) / windows[window])
}

// perSecond returns how much is taken in a second.
func (r *rate) perSecond(now int64) (most float64) {
	age := max(seconds(max(now, r.last)-r.since), minAge)
	for i, window := range windows {
		// The weights of all times since the first one add up to this.
		weight := window * (1 - math.Exp(-age/window))
		most = max(most, r.sums[i]*r.decay(now, i)/weight)
	}
	return most
}

func seconds(ns int64) float64 { return float64(ns) / float64(time.Second) }

// fillOf returns how full something is of which a unit has so many bytes.
func fillOf(used, free uint64, unit int64, perSecond float64) Fill {
	f := Fill{Used: int64(used) * unit, Free: int64(free) * unit, Rate: perSecond * float64(unit), UntilFull: Never}
	if left := float64(free) / perSecond; left < Never.Seconds() { // not so if the rate is zero
		f.UntilFull = time.Duration(left * float64(time.Second))
	}
	if free == 0 {
		f.UntilFull = 0
	}
	return f
}

// fill returns how full the slots are. The lock is held.
func (s *Store) fill() Fill {
	used := s.slots.Used()
	return fillOf(used, s.slots.Total()-min(used, s.slots.Total()), int64(s.geo.ChunkSize()), s.taken.perSecond(s.opts.Now()))
}

// metadataFill returns how full the metadata pages are; they count as full when no
// more snapshots are made. The lock is held.
func (s *Store) metadataFill() Fill {
	used, all := s.pagesKept(), s.pages.Total()
	return fillOf(used, all/2-min(used, all/2), block.PageSize, s.grown.perSecond(s.opts.Now()))
}

// pagesKept returns how many metadata pages are in use, but for those that a
// checkpoint or the end of a pin frees. The lock is held.
func (s *Store) pagesKept() uint64 { return s.pages.Used() - uint64(s.pages.Deferred()+s.pages.Held()) }

// noteTaken takes in that slots were filled. The lock is held.
func (s *Store) noteTaken(slots int) {
	s.taken.add(s.opts.Now(), float64(slots))
	s.noteFill()
}

// notePages takes in how many metadata pages a checkpoint has left in use. The lock is
// held.
func (s *Store) notePages() {
	if now := s.pagesKept(); now > s.lastPages {
		s.grown.add(s.opts.Now(), float64(now-s.lastPages))
		s.lastPages = now
	} else {
		s.lastPages = now
	}
}

// Marks, in parts of a hundred of the slots, of which passing upwards is an event.
// One is passed anew only after the fill has been markGap below it.
var marks = [...]uint64{75, 90, 95}

const markGap = 5

// noteFill tells of the highest mark that was passed. The lock is held.
func (s *Store) noteFill() {
	total := s.slots.Total()
	percent := s.slots.Used() * 100 / max(total, 1)
	before := s.mark
	for s.mark < len(marks) && percent >= marks[s.mark] {
		s.mark++
	}
	for s.mark > 0 && percent < marks[s.mark-1]-markGap {
		s.mark--
	}
	if s.mark > before {
		s.emit(Event{Kind: EventFill, Text: fmt.Sprintf("over %d %%: %d %% of %d slots are used", marks[s.mark-1], percent, total)})
	}
}
