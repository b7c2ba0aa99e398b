// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// gather puts the chunks to be copied into c.needed, ascending: those of the
// requests, and those ahead of sequential ones. It finishes the requests that
// need nothing, and returns the others, ascending by the last chunk that they
// need. What is being committed is not needed again, but waited for.
func (c *copier) gather(reqs []*request) (waiting []*request, err error) {
	if c.inflight != nil && c.inflight.Generation != c.v.state.Load().Generation {
		c.inflight = nil // a generation begins when nothing is under way
	}
	slices.SortFunc(reqs, func(a, b *request) int { return cmp.Compare(a.first, b.first) })
	c.needed = c.needed[:0]
	clear(c.unreadable.lost)
	for i, r := range reqs {
		needs, err := c.gatherOne(r)
		switch {
		case err != nil:
			return append(waiting, reqs[i:]...), err
		case needs:
			waiting = append(waiting, r)
		default:
			r.finish(nil)
		}
	}
	slices.SortFunc(waiting, func(a, b *request) int { return cmp.Compare(a.last, b.last) })
	return waiting, c.gatherAhead()
}

// gatherOne adds the chunks of r that no earlier request needs, and reports
// whether r has to wait for any chunk.
func (c *copier) gatherOne(r *request) (needs bool, err error) {
	first := r.first
	if n := len(c.needed); n > 0 {
		first = max(first, c.needed[n-1]+1)
	}
	before := len(c.needed)
	if first < r.end {
		if err := c.unsettled(first, r.end); err != nil {
			return false, err
		}
	}
	if len(c.needed) > before && !r.alone {
		c.ahead.note(c.needed[before], r.end)
	}
	r.last = 0
	if n := len(c.needed); n > 0 && c.needed[n-1] >= r.first {
		r.last = min(c.needed[n-1], r.end-1)
		return true, nil
	}
	flying := c.inflightFrom(r.first)
	return len(flying) > 0 && flying[0].Chunk < r.end, nil
}

// unsettled adds the chunks of [first, end) that are not settled, nor being
// committed.
func (c *copier) unsettled(first, end block.Chunk) (err error) {
	before := len(c.needed)
	if c.needed, err = c.ask(first, end, c.needed); err != nil {
		return err
	}
	flying := c.inflightFrom(first)
	kept := c.needed[:before]
	for _, chunk := range c.needed[before:] {
		for len(flying) > 0 && flying[0].Chunk < chunk {
			flying = flying[1:]
		}
		if len(flying) == 0 || flying[0].Chunk != chunk {
			kept = append(kept, chunk)
		}
	}
	c.needed = kept
	return nil
}

// inflightFrom returns the copies being committed of chunks from first on.
func (c *copier) inflightFrom(first block.Chunk) []layout.Copy {
	if c.inflight == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(c.inflight.Copies, first, func(e layout.Copy, first block.Chunk) int {
		return cmp.Compare(e.Chunk, first)
	})
	return c.inflight.Copies[i:]
}

// gatherAhead adds the chunks ahead of sequential requests.
func (c *copier) gatherAhead() error {
	wanted := len(c.needed)
	for _, s := range c.ahead.take(wanted) {
		if err := c.unsettled(s.first, s.end); err != nil {
			return err
		}
	}
	c.needed = c.unreadable.without(c.needed, wanted)
	slices.Sort(c.needed)
	c.needed = slices.Compact(c.needed)
	return nil
}
