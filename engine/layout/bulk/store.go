// SPDX-License-Identifier: Apache-2.0

package bulk

import (
	"io"
	"iter"
	"math/bits"

	"zumastor.org/zumastor/engine/layout"
)

// Contents are what all trees of a store are to hold, each in the order of its
// keys; nil stands for nothing.
type Contents struct {
	Exceptions iter.Seq[layout.Exception]
	Changes    iter.Seq[layout.Change]
	Slots      iter.Seq[layout.SlotWord]
	Snapshots  iter.Seq[layout.Snapshot]
	Leases     iter.Seq[layout.SlotRun]
	Digests    iter.Seq[layout.DigestSum]
}

// WriteTrees writes a store's trees into the tree pages of sb, none of which is in
// use, on the device w of its metadata area, and sets sb.Roots and sb.Allocated.
// The caller makes them durable, and then the superblock. Fill is as of [NewTree].
// Each sequence is run through once, the exceptions first, then the others as they
// come in Contents.
func WriteTrees(w io.WriterAt, sb *layout.Superblock, c Contents, fill float64) error {
	p := NewPages(w, sb)
	sb.Allocated = 0
	slots := func(yield func(layout.SlotWord) bool) {
		for word := range orNothing(c.Slots) {
			sb.Allocated += uint64(bits.OnesCount64(word.Bits))
			if !yield(word) {
				return
			}
		}
	}
	for _, write := range []func() error{
		func() error {
			return writeTree(p, layout.ExceptionCodec{}, layout.KindExceptions, sb, fill, c.Exceptions)
		},
		func() error { return writeTree(p, layout.ChangeCodec{}, layout.KindChanges, sb, fill, c.Changes) },
		func() error { return writeTree(p, layout.SlotWordCodec{}, layout.KindSlots, sb, fill, slots) },
		func() error { return writeTree(p, layout.SnapshotCodec{}, layout.KindSnapshots, sb, fill, c.Snapshots) },
		func() error { return writeTree(p, layout.LeaseCodec{}, layout.KindLeases, sb, fill, c.Leases) },
		func() error { return writeTree(p, layout.DigestCodec{}, layout.KindDigests, sb, fill, c.Digests) },
		p.Finish,
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func orNothing[E any](seq iter.Seq[E]) iter.Seq[E] {
	if seq == nil {
		return func(func(E) bool) {}
	}
	return seq
}

func writeTree[E any](p *Pages, c layout.EntryCodec[E], kind uint8, sb *layout.Superblock, fill float64, entries iter.Seq[E]) error {
	t := NewTree(p, c, kind, sb, fill)
	for e := range orNothing(entries) {
		if err := t.Add(e); err != nil {
			return err
		}
	}
	root, err := t.Finish()
	sb.Roots[kind-1] = root
	return err
}

// SlotWords returns the words of n allocated slots from the first on.
func SlotWords(n uint64) iter.Seq[layout.SlotWord] {
	return func(yield func(layout.SlotWord) bool) {
		for i := uint64(0); i*64 < n; i++ {
			all := ^uint64(0)
			if left := n - i*64; left < 64 {
				all >>= 64 - left
			}
			if !yield(layout.SlotWord{Index: i, Bits: all}) {
				return
			}
		}
	}
}
