// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"time"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/gen"
)

// addresses are the places that a cell's writes go to: one block in each of n
// chunks, all in pseudo-random order.
type addresses struct {
	chunks, places gen.Permutation
	chunk, block   int64 // bytes
	blocks         uint64
	n              int
}

// newAddresses draws n chunks of an origin.
func newAddresses(seed uint64, origin, chunk, block int64, n int) addresses {
	blocks := uint64(max(1, chunk/block))
	return addresses{
		chunks: gen.NewPermutation(seed, uint64(origin/chunk)), places: gen.NewPermutation(seed+1, blocks),
		chunk: chunk, block: block, blocks: blocks, n: n,
	}
}

// op returns the i-th write.
func (a *addresses) op(i int) workloads.Op {
	off := int64(a.chunks.At(uint64(i)))*a.chunk + int64(a.places.At(uint64(i)%a.blocks))*a.block
	return workloads.Op{Kind: workloads.Write, Off: off, Len: a.block}
}

// pass is the addresses from next to end, once, and a flush.
type pass struct {
	*addresses
	next, end int
	flushed   bool
}

func (p *pass) Next() (workloads.Op, bool) {
	if p.next < p.end {
		p.next++
		return p.op(p.next - 1), true
	}
	if p.flushed {
		return workloads.Op{}, false
	}
	p.flushed = true
	return workloads.Op{Kind: workloads.Flush}, true
}

// slice returns the part of all addresses that slice i of n has.
func (a *addresses) slice(i, n int) *pass {
	return &pass{addresses: a, next: a.n * i / n, end: a.n * (i + 1) / n}
}

// timed ends a stream at a time, but not before it gave least ops.
type timed struct {
	next     func(i int) workloads.Op
	i, least int
	from     int
	length   time.Duration
	end      time.Time
	flush    bool // behind the last op
	done     bool
}

func (t *timed) Next() (workloads.Op, bool) {
	if t.end.IsZero() {
		t.end = time.Now().Add(t.length)
	}
	if t.i < t.least || time.Now().Before(t.end) {
		t.i++
		return t.next(t.from + t.i - 1), true
	}
	if t.flush && !t.done {
		t.done = true
		return workloads.Op{Kind: workloads.Flush}, true
	}
	return workloads.Op{}, false
}

// around repeats the addresses for a time.
func (a *addresses) around(from int, length time.Duration, flush bool) *timed {
	return &timed{
		next: func(i int) workloads.Op { return a.op(i % a.n) }, from: from,
		least: 8, length: length, flush: flush,
	}
}

// sequence is ascending writes of a range, and a flush.
type sequence struct {
	next, end, block int64
	flushed          bool
}

func (s *sequence) Next() (workloads.Op, bool) {
	if s.next < s.end {
		s.next += s.block
		return workloads.Op{Kind: workloads.Write, Off: s.next - s.block, Len: s.block}, true
	}
	if s.flushed {
		return workloads.Op{}, false
	}
	s.flushed = true
	return workloads.Op{Kind: workloads.Flush}, true
}

// stream returns what a variant is to do in slice i of n. First writes are as
// many as there are addresses; what can be repeated goes on for the time of a
// window.
func (b *bench) stream(op, variant string, a *addresses, i, n int) workloads.Stream {
	from, length := a.n*i/n, b.Window/time.Duration(n)
	switch {
	case op == "sequential":
		return b.sequential(i, n)
	case op == "rewrite":
		return a.around(from, length, false)
	case variant == spec.Raw:
		return a.around(from, length, true)
	}
	return a.slice(i, n)
}

// sequentialBlock is the size of a sequential write in bytes.
const sequentialBlock = 64 << 10

// sequential returns slice i of n of the sequential writes: an eighth of a store.
func (b *bench) sequential(i, n int) *sequence {
	blocks := min(b.Store/8, b.Origin/2) / sequentialBlock
	return &sequence{
		next: blocks * int64(i) / int64(n) * sequentialBlock, end: blocks * int64(i+1) / int64(n) * sequentialBlock,
		block: sequentialBlock,
	}
}
