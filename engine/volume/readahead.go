// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// readahead finds sequential first writes among all, and says what to copy out
// ahead of them: as much again as such a run has already covered, so that at most
// half of what is copied for a run is copied in vain, and no more than makes the
// batch as large as the limit: a batch that is large without it gains nothing.
type readahead struct {
	limit   uint64 // chunks of a batch; zero: nothing is copied ahead
	chunks  uint64 // of the origin
	streams []stream
}

// stream is a run of first writes.
type stream struct {
	next block.Chunk // where the run goes on if it does
	run  uint64      // chunks that it has covered
	due  bool        // it went on since the last take
}

// span is the chunks [first, end).
type span struct {
	first, end block.Chunk
}

// maxStreams bounds how many runs are followed at a time; the one that went on
// longest ago is forgotten.
const maxStreams = 16

// note takes in first writes of the chunks [first, end).
func (r *readahead) note(first, end block.Chunk) {
	if r.limit == 0 {
		return
	}
	s := stream{next: end, run: uint64(end - first)}
	i := slices.IndexFunc(r.streams, func(s stream) bool { return s.next == first })
	switch {
	case i >= 0:
		s.run += r.streams[i].run
		s.due = true
		r.streams = slices.Delete(r.streams, i, i+1)
	case len(r.streams) == maxStreams:
		r.streams = slices.Delete(r.streams, 0, 1)
	}
	r.streams = append(r.streams, s)
}

// take returns what to copy ahead now, when have chunks are to be copied anyway.
func (r *readahead) take(have int) []span {
	var spans []span
	room := r.limit - min(r.limit, uint64(have))
	for i := range r.streams {
		s := &r.streams[i]
		if !s.due {
			continue
		}
		s.due = false
		n := min(s.run, room, r.chunks-min(r.chunks, uint64(s.next)))
		if n == 0 {
			continue
		}
		spans = append(spans, span{s.next, s.next + block.Chunk(n)})
		room -= n
		s.next += block.Chunk(n)
		s.run += n
	}
	return spans
}
