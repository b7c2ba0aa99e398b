// SPDX-License-Identifier: Apache-2.0

// Package bulk writes the trees of a store at once, from entries that come in
// order.
//
// It owns how sorted entries become full pages, level by level, and no more: it
// decides nothing about what the entries say, reads nothing, and knows neither
// logs nor labels. What makes a whole store from nothing calls it: repair, and
// tests and measurements that want a store of millions of exceptions. A [Tree]
// belongs to one goroutine. It takes a few pages of memory a level. An error of
// the writer is returned by every later call; what was written then is no tree.
package bulk

import (
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Pages is where trees are written to: free pages of a store's metadata area, in
// ascending order.
type Pages struct {
	w     io.WriterAt
	areas []layout.Extent
	next  block.Page
	first block.Page // of what is in buf
	buf   []byte
	err   error
}

// runPages is how many pages are written at once.
const runPages = 256

// NewPages returns the tree pages of a store's superblock, none of which is in
// use. W is the device of the metadata area.
func NewPages(w io.WriterAt, sb *layout.Superblock) *Pages {
	return &Pages{w: w, areas: append([]layout.Extent{sb.TreePages}, sb.Grown...), next: sb.TreePages.First}
}

// add writes the next page, which code makes at the address that it is told. It may
// put the writing off until flush.
func (p *Pages) add(code func(at block.Page, page []byte) error) (block.Page, error) {
	for len(p.areas) > 0 && p.next == p.areas[0].End() {
		p.flush()
		if p.areas = p.areas[1:]; len(p.areas) > 0 {
			p.next = p.areas[0].First
		}
	}
	if p.err == nil && len(p.areas) == 0 {
		p.err = fmt.Errorf("the metadata area has too few pages for its trees")
	}
	if p.err != nil {
		return 0, p.err
	}
	if len(p.buf) == 0 {
		p.first = p.next
	}
	at := p.next
	p.buf = append(p.buf, make([]byte, block.PageSize)...)
	if p.err = code(at, p.buf[len(p.buf)-block.PageSize:]); p.err != nil {
		return 0, p.err
	}
	p.next++
	if len(p.buf) == runPages*block.PageSize {
		p.flush()
	}
	return at, p.err
}

// flush writes what add has put off.
func (p *Pages) flush() {
	if len(p.buf) > 0 && p.err == nil {
		if _, err := p.w.WriteAt(p.buf, int64(p.first)*block.PageSize); err != nil {
			p.err = fmt.Errorf("writing %d tree pages from %d on: %w", len(p.buf)/block.PageSize, p.first, err)
		}
	}
	p.buf = p.buf[:0]
}

// Finish writes what is left. It makes nothing durable.
func (p *Pages) Finish() error {
	p.flush()
	return p.err
}

// Tree is a tree that is being written.
type Tree[E any] struct {
	codec   layout.EntryCodec[E]
	header  layout.PageHeader // of its pages, but for level and address
	pages   *Pages
	fill    int // bytes of entries that fill a page
	levels  []level[E]
	entries uint64
	last    E
	scratch []byte
}

// level is the entries of a page to be.
type level[E any] struct {
	entries  []E
	children []block.Page // above the leaves
	size     int          // of the entries coded, without a leaf's bitmap
	written  bool         // a page of this level was written already
}

// NewTree returns an empty tree of the kind, whose pages say that the superblock's
// checkpoint wrote them. Fill, over 0 up to 1, is the part of each page that is used.
func NewTree[E any](p *Pages, c layout.EntryCodec[E], kind uint8, sb *layout.Superblock, fill float64) *Tree[E] {
	return &Tree[E]{
		codec: c, pages: p, fill: int(fill * (block.PageSize - layout.PageHeaderSize)), levels: make([]level[E], 1),
		header: layout.PageHeader{Kind: kind, Identity: sb.UUID, Checkpoint: sb.Checkpoint},
	}
}

// Add adds the next entry. It is an error if it is not above the last one.
func (t *Tree[E]) Add(e E) error {
	if t.entries > 0 && t.codec.Compare(t.last, e) >= 0 {
		return fmt.Errorf("entry %+v of tree %d comes after %+v", e, t.header.Kind, t.last)
	}
	t.entries, t.last = t.entries+1, e
	return t.put(0, e, 0)
}

// put adds an entry to a level, and writes that level's page first if it is full.
func (t *Tree[E]) put(l int, e E, child block.Page) error {
	lv := &t.levels[l]
	n := t.codedSize(l, e)
	bitmap := 0
	if l == 0 {
		bitmap = layout.LeafBitmapSize(len(lv.entries) + 1)
	}
	if k := len(lv.entries); k == layout.MaxPageEntries || k > 1 && lv.size+n+bitmap > t.fill {
		if err := t.write(l); err != nil {
			return err
		}
		lv = &t.levels[l]
		n = t.codedSize(l, e)
	}
	lv.entries, lv.size = append(lv.entries, e), lv.size+n
	if l > 0 {
		lv.children = append(lv.children, child)
	}
	return nil
}

// codedSize returns how many bytes e takes after what a level holds already.
func (t *Tree[E]) codedSize(l int, e E) int {
	var prev E
	had := t.levels[l].entries
	if k := len(had); k > 0 {
		if prev = had[k-1]; l == 0 && t.codec.Follows(prev, e) {
			return t.codec.ExtraSize()
		}
	}
	t.scratch = t.codec.Append(t.scratch[:0], prev, e, len(had) == 0)
	if l > 0 {
		return len(t.scratch) + layout.ChildSize
	}
	return len(t.scratch)
}

// write writes a level's page, and gives it to the level above.
func (t *Tree[E]) write(l int) error {
	lv := &t.levels[l]
	at, err := t.pages.add(func(at block.Page, page []byte) error {
		h := t.header
		h.Level, h.Page = uint8(l), at
		return layout.EncodePage(t.codec, h, lv.entries, lv.children, page)
	})
	if err != nil {
		return err
	}
	first := lv.entries[0]
	*lv = level[E]{entries: lv.entries[:0], children: lv.children[:0], written: true}
	if l+1 == len(t.levels) {
		t.levels = append(t.levels, level[E]{})
	}
	return t.put(l+1, first, at)
}

// Finish writes what is left of the tree and returns its root.
func (t *Tree[E]) Finish() (layout.Root, error) {
	if t.entries == 0 {
		return layout.Root{}, nil
	}
	for l := 0; ; l++ {
		lv := &t.levels[l]
		if l > 0 && l == len(t.levels)-1 && len(lv.entries) == 1 && !lv.written {
			return layout.Root{Page: lv.children[0], Level: uint8(l - 1), Entries: t.entries}, nil
		}
		if len(lv.entries) > 0 {
			if err := t.write(l); err != nil {
				return layout.Root{}, err
			}
		}
	}
}
