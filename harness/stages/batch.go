// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"slices"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// span is from when to when something took place.
type span struct{ begin, end time.Duration }

// batch is a batch of copies, in the order of its times.
type batch struct {
	gather, lease, read, write, report span
	chunks                             []block.Chunk // ascending
}

// covers reports whether the batch has one of the chunks [first, end).
func (b *batch) covers(first, end block.Chunk) bool {
	i, _ := slices.BinarySearch(b.chunks, first)
	return i < len(b.chunks) && b.chunks[i] < end
}

// work is what is under way: at most one batch is gathered and read, and one is
// written, each by a leader of its own.
type work struct {
	gather, lease span
	begun         bool // gather.begin is set
	reads         [4]reading
	next          int // of reads
	write         span
	writing       bool
}

// reading is a batch that was read, known by the place that it was read from first.
type reading struct {
	batch
	off int64
}

// gathered notes that the server was asked which chunks need copying, or for slots.
func (r *Recorder) gathered(s span, lease bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.work.begun {
		r.work.begun, r.work.gather, r.work.lease = true, s, span{}
	}
	r.work.gather.end = s.end
	if lease {
		r.work.lease = s
	}
}

// read notes a submission of reads of the origin: a leader's, or one of requests,
// which no batch reports.
func (r *Recorder) read(off int64, s span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.work
	b := batch{gather: span{s.begin, s.begin}, lease: w.lease, read: s}
	if w.begun {
		b.gather = span{w.gather.begin, s.begin}
	}
	w.begun, w.lease = false, span{}
	w.reads[w.next] = reading{b, off}
	w.next = (w.next + 1) % len(w.reads)
}

// wrote notes a write to the data area.
func (r *Recorder) wrote(s span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.work.writing {
		r.work.writing, r.work.write.begin = true, s.begin
	}
	r.work.write.end = max(r.work.write.end, s.end)
}

// reported notes that a batch was reported, which ends it.
func (r *Recorder) reported(copies []layout.Copy, s span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.work
	chunks := make([]block.Chunk, len(copies))
	for i, c := range copies {
		chunks[i] = c.Chunk
	}
	b := batch{gather: span{s.begin, s.begin}, read: span{s.begin, s.begin}}
	for i := range w.reads {
		if len(chunks) > 0 && w.reads[i].read.end > 0 && w.reads[i].off == int64(chunks[0])*r.o.Chunk {
			b, w.reads[i] = w.reads[i].batch, reading{}
		}
	}
	b.chunks, b.report = chunks, s
	r.keep(b)
}

// keep ends the write that is under way and remembers a batch. The lock is held.
func (r *Recorder) keep(b batch) {
	b.write = span{b.report.begin, b.report.begin}
	if r.work.writing {
		b.write = r.work.write
	}
	r.work.writing, r.work.write = false, span{}
	r.batches[r.next] = b
	r.next = (r.next + 1) % recent
}

// copied notes that a stack without a server has flushed its store, which ends a batch
// that its request has copied for itself.
func (r *Recorder) copied(until time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.work
	if !w.writing {
		return
	}
	last := w.reads[(w.next+len(w.reads)-1)%len(w.reads)].read
	r.keep(batch{gather: span{last.begin, last.begin}, read: last, report: span{until, until}, chunks: []block.Chunk{anyChunk}})
}

// anyChunk is the chunk of batches that are their request's own.
const anyChunk = ^block.Chunk(0)

// of returns the batches that ended within a request, oldest first, and have chunks of
// it. The lock is held.
func (r *Recorder) of(began time.Duration, has func(*batch) bool) []*batch {
	var all []*batch
	for i := range recent {
		b := &r.batches[(r.next+recent-1-i)%recent]
		if b.report.end <= began || len(b.chunks) == 0 {
			break
		}
		if b.chunks[0] == anyChunk || has(b) {
			all = append(all, b)
		}
	}
	slices.Reverse(all)
	return all
}
