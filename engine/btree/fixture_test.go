// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
)

// entry is like an exception: it is ordered by (Chunk, Gen), and runs go on in
// Chunk and Slot at the same Gen.
type entry struct {
	Chunk, Gen, Slot uint64
	Sum              uint32
}

type entryCodec struct{}

var errMalformed = errors.New("malformed entry")

func (entryCodec) Compare(a, b entry) int {
	if c := cmp.Compare(a.Chunk, b.Chunk); c != 0 {
		return c
	}
	return cmp.Compare(a.Gen, b.Gen)
}

func (entryCodec) Append(dst []byte, prev, e entry, _ bool) []byte {
	dst = binary.AppendUvarint(dst, e.Chunk-prev.Chunk)
	dst = binary.AppendUvarint(dst, e.Gen)
	dst = binary.AppendVarint(dst, int64(e.Slot-prev.Slot))
	return binary.LittleEndian.AppendUint32(dst, e.Sum)
}

func (entryCodec) Decode(src []byte, prev entry, _ bool) (e entry, rest []byte, err error) {
	chunk, n := binary.Uvarint(src)
	if n <= 0 {
		return e, nil, errMalformed
	}
	src = src[n:]
	gen, n := binary.Uvarint(src)
	if n <= 0 {
		return e, nil, errMalformed
	}
	src = src[n:]
	slot, n := binary.Varint(src)
	if n <= 0 || len(src) < n+4 {
		return e, nil, errMalformed
	}
	e = entry{prev.Chunk + chunk, gen, prev.Slot + uint64(slot), binary.LittleEndian.Uint32(src[n:])}
	return e, src[n+4:], nil
}

func (c entryCodec) Follows(prev, e entry) bool {
	next := c.Next(prev)
	return next.Chunk == e.Chunk && next.Gen == e.Gen && next.Slot == e.Slot
}

func (entryCodec) Next(prev entry) entry {
	return entry{Chunk: prev.Chunk + 1, Gen: prev.Gen, Slot: prev.Slot + 1}
}

func (entryCodec) ExtraSize() int { return 4 }

func (entryCodec) AppendExtra(dst []byte, e entry) []byte {
	return binary.LittleEndian.AppendUint32(dst, e.Sum)
}

func (entryCodec) DecodeExtra(src []byte, e *entry) { e.Sum = binary.LittleEndian.Uint32(src) }

const testKind = 7

var testIdentity = [16]byte{0: 0xab, 15: 0xcd}

var errRead = errors.New("medium error")

// area is a metadata area in memory with an allocator that reuses addresses as
// soon as it may, the lowest first. It is safe for concurrent use.
type area struct {
	mu      sync.Mutex
	pages   map[block.Page][]byte
	next    block.Page
	free    []block.Page
	pending []block.Page // freed, not yet reusable
	reads   int
	failAt  int // the number of the read that fails, if above 0
	onRead  func(block.Page)
}

func newArea() *area { return &area{pages: map[block.Page][]byte{}, next: 1} }

func (a *area) ReadPage(p block.Page, buf []byte) error {
	a.mu.Lock()
	a.reads++
	fail := a.reads == a.failAt
	copy(buf, a.pages[p])
	hook := a.onRead
	a.mu.Unlock()
	if hook != nil {
		hook(p)
	}
	if fail {
		return errRead
	}
	return nil
}

func (a *area) alloc() (block.Page, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.free); n > 0 {
		p := a.free[n-1]
		a.free = a.free[:n-1]
		return p, nil
	}
	a.next++
	return a.next - 1, nil
}

func (a *area) release(p block.Page) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending = append(a.pending, p)
}

func (a *area) write(p block.Page, image []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pages[p] = image
	return nil
}

// checkpoint makes a whole checkpoint: pages, root, reuse of what was freed.
func (a *area) checkpoint(t testing.TB, c *btree.Cache, tree *btree.Tree[entry]) btree.Root {
	t.Helper()
	root, err := tree.Checkpoint(1, a.alloc, a.release, a.write)
	require.NoError(t, err)
	require.Zero(t, tree.Dirty())
	c.AdvanceEpoch()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pending {
		delete(a.pages, p)
	}
	a.free, a.pending = append(a.free, a.pending...), nil
	return root
}

func (a *area) create(c *btree.Cache) *btree.Tree[entry] {
	return btree.New[entry](entryCodec{}, testKind, a, c, testIdentity)
}

func (a *area) open(c *btree.Cache, root btree.Root) *btree.Tree[entry] {
	return btree.Open[entry](entryCodec{}, testKind, a, c, testIdentity, root)
}

// all returns the tree's entries.
func all(t testing.TB, tree *btree.Tree[entry]) []entry {
	t.Helper()
	var got []entry
	require.NoError(t, tree.Ascend(entry{}, func(e entry) bool {
		got = append(got, e)
		return true
	}))
	return got
}
