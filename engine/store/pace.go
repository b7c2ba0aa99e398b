// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"time"

	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

const (
	// widest bounds how many tree pages a deletion reads at a time.
	widest = 32
	// aheadPasses bounds how often the pages of one step are looked for: each pass
	// finds those one level further down the tree.
	aheadPasses = 4
)

// pace says how many tree pages a deletion reads at a time. One, as long as that is
// enough for its least rate: so it takes its turn among all who use the device, and
// gives way to them. While it is behind the least rate it reads more and more at a
// time, whoever else waits.
type pace struct {
	least float64 // exceptions a second
	width int
	ahead float64 // how many exceptions it is ahead of the least rate; at most a second's, either way
	done  int     // exceptions that were looked at since ahead was computed
	last  int64   // when it was, in nanoseconds
	going bool
}

// begin begins to measure, unless a deletion is going on.
func (p *pace) begin(now int64) {
	if !p.going {
		*p = pace{least: p.least, width: 1, last: now, going: true}
	}
}

// looked says that it is now, and computes the width.
func (p *pace) looked(now int64) {
	took := time.Duration(now - p.last).Seconds()
	p.ahead = max(-p.least, min(p.least, p.ahead+float64(p.done)-p.least*took))
	p.done, p.last = 0, now
	if p.ahead < 0 {
		p.width = min(2*p.width, widest)
	} else {
		p.width = max(p.width/2, 1)
	}
}

// readAhead reads the tree pages that the next step of the deletion under way needs,
// as many at a time as the pace says, and no fewer than least. What goes wrong the
// step itself will meet.
func (s *Store) readAhead(least int) {
	for range aheadPasses {
		var misses []*btree.Miss
		width := 1
		err := s.resolve(func() error {
			misses, width = misses[:0], max(least, s.pace.width)
			return s.missing(&misses)
		})
		if err != nil || len(misses) == 0 {
			return
		}
		btree.LoadAll(misses, width)
	}
}

// missing appends the pages that are not in memory of those that the next step
// needs. The lock is held.
func (s *Store) missing(misses *[]*btree.Miss) error {
	r := &s.reclaiming
	if r.snap == nil {
		return nil
	}
	changes, err := s.index.Changes.Scan(r.from, reclaimStep, nil)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if (layout.ChangeCodec{}).Compare(c, r.end) >= 0 {
			break
		}
		var m *btree.Miss
		if _, _, err := s.index.At(c.Branch, c.Chunk, c.Generation); errors.As(err, &m) {
			*misses = append(*misses, m)
		}
	}
	return nil
}
