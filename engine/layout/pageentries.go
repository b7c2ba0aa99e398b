// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
)

// EntryCodec codes the entries of one kind of tree. Implementations are
// stateless and safe for concurrent use.
//
// The entries of a leaf are a bitmap of one bit an entry (bit i%8 of byte i/8),
// then the entries in ascending order. A set bit says that the entry follows its
// predecessor in a run: only its extra bytes are stored. A clear bit, as the first
// entry always has, says that it is coded by Append. Unused bits are zero.
//
// The entries of an inner page have no bitmap and no runs: each is coded by
// Append and followed by the address of a child, a page number of 6 bytes. It
// is a lower bound of the entries below that child, except that the first one of
// a page bounds nothing. Part of the format, must not change.
//
// Note: run lengths as tokens would save at most an eighth of a byte an entry,
// and a leaf of MaxPageEntries costs 4 bytes an entry anyhow. With a bitmap the
// length of a page is a sum over neighbouring pairs, so that a tree knows it
// without coding the page.
type EntryCodec[E any] interface {
	// Compare orders entries by key: negative, zero or positive. Entries that
	// compare equal are the same entry.
	Compare(a, b E) int
	// Append codes e, which comes after prev in the same page, to dst. First
	// says that there is no prev; prev is then zero. At most MaxEntrySize bytes.
	Append(dst []byte, prev, e E, first bool) []byte
	// Decode is the inverse of Append; it returns what is left of src. It
	// returns an error for malformed input, and never panics.
	Decode(src []byte, prev E, first bool) (e E, rest []byte, err error)
	// Follows reports whether e continues a run: whether e is Next(prev), apart
	// from extra bytes.
	Follows(prev, e E) bool
	// Next returns the successor of prev in a run, without extra bytes.
	Next(prev E) E
	// ExtraSize is the number of bytes that an entry of a run still needs, the
	// same for all entries.
	ExtraSize() int
	// AppendExtra codes the ExtraSize extra bytes of e to dst.
	AppendExtra(dst []byte, e E) []byte
	// DecodeExtra sets e's extra part from src, which has ExtraSize bytes.
	DecodeExtra(src []byte, e *E)
}

// Bounds of entries in tree pages, in bytes.
const (
	// MaxEntrySize is the largest length of one coded entry.
	MaxEntrySize = 512
	// ChildSize is the length of a child's address in an inner page.
	ChildSize = 6
)

// maxChild is the highest page number that an inner page can hold.
const maxChild = 1<<(8*ChildSize) - 1

// LeafBitmapSize returns the length in bytes of the bitmap of a leaf of n entries.
func LeafBitmapSize(n int) int { return (n + 7) / 8 }

// EncodePage codes a whole tree page: entries, and for an inner page (h.Level
// above 0) the address of a child for each. It sets h.Entries and h.Length
// itself. Page must be block.PageSize zeroes. It returns an error when the
// entries do not fit, are too many, or a child's address is not codable.
func EncodePage[E any](c EntryCodec[E], h PageHeader, entries []E, children []block.Page, page []byte) error {
	if len(entries) < 1 || len(entries) > MaxPageEntries {
		return fmt.Errorf("tree page %d: %d entries do not fit into a page", h.Page, len(entries))
	}
	body := page[PageHeaderSize:PageHeaderSize]
	if h.Level == 0 {
		body = appendLeaf(c, body, entries)
	} else {
		for _, p := range children {
			if p == 0 || p > maxChild {
				return fmt.Errorf("tree page %d: child address %d is not codable", h.Page, p)
			}
		}
		body = appendInner(c, body, entries, children)
	}
	if len(body) > block.PageSize-PageHeaderSize {
		return fmt.Errorf("tree page %d: entries of %d bytes do not fit into a page", h.Page, len(body))
	}
	h.Entries, h.Length = len(entries), len(body)
	EncodePageHeader(page, h)
	return nil
}

func appendLeaf[E any](c EntryCodec[E], body []byte, entries []E) []byte {
	body = body[:LeafBitmapSize(len(entries))]
	var prev E
	for i, e := range entries {
		if i > 0 && c.Follows(prev, e) {
			body[i/8] |= 1 << (i % 8)
			body = c.AppendExtra(body, e)
		} else {
			body = c.Append(body, prev, e, i == 0)
		}
		prev = e
	}
	return body
}

func appendInner[E any](c EntryCodec[E], body []byte, entries []E, children []block.Page) []byte {
	var prev E
	for i, e := range entries {
		body = c.Append(body, prev, e, i == 0)
		p := children[i]
		body = append(body, byte(p), byte(p>>8), byte(p>>16), byte(p>>24), byte(p>>32), byte(p>>40))
		prev = e
	}
	return body
}

// TreePage is a decoded tree page.
type TreePage[E any] struct {
	PageHeader
	Entries  []E
	Children []block.Page // of an inner page, one for each entry
}

// DecodePage reads and verifies a whole tree page: its header as
// [DecodePageHeader] and [PageHeader.Verify] do, and that its entries are well
// formed and ascend. Errors wrap [ErrCorrupt].
func DecodePage[E any](c EntryCodec[E], want PageHeader, page []byte) (TreePage[E], error) {
	h, err := DecodePageHeader(page)
	if err != nil {
		return TreePage[E]{}, err
	}
	if err := h.Verify(want); err != nil {
		return TreePage[E]{}, err
	}
	p := TreePage[E]{PageHeader: h}
	body := page[PageHeaderSize : PageHeaderSize+h.Length]
	if h.Level == 0 {
		p.Entries, err = decodeLeaf(c, h, body)
	} else {
		p.Entries, p.Children, err = decodeInner(c, h, body)
	}
	if err != nil {
		return TreePage[E]{}, err
	}
	return p, nil
}

func decodeLeaf[E any](c EntryCodec[E], h PageHeader, body []byte) ([]E, error) {
	mapSize, extra := LeafBitmapSize(h.Entries), c.ExtraSize()
	if len(body) < mapSize {
		return nil, h.corrupt("length", len(body), fmt.Sprintf("at least %d", mapSize))
	}
	runs, body := body[:mapSize], body[mapSize:]
	if runs[0]&1 != 0 || h.Entries%8 != 0 && runs[mapSize-1]>>(h.Entries%8) != 0 {
		return nil, h.corrupt("bitmap of runs is malformed", nil, nil)
	}
	entries := make([]E, h.Entries)
	var prev E
	for i := range entries {
		if runs[i/8]&(1<<(i%8)) == 0 {
			var err error
			if entries[i], body, err = c.Decode(body, prev, i == 0); err != nil {
				return nil, h.corrupt(fmt.Sprintf("entry %d: %v", i, err), nil, nil)
			}
			if i > 0 && c.Follows(prev, entries[i]) {
				return nil, h.corrupt(fmt.Sprintf("entry %d follows its predecessor but is coded apart", i), nil, nil)
			}
		} else {
			if len(body) < extra {
				return nil, h.corrupt(fmt.Sprintf("entry %d is cut off", i), nil, nil)
			}
			entries[i] = c.Next(prev)
			c.DecodeExtra(body[:extra], &entries[i])
			body = body[extra:]
			if !c.Follows(prev, entries[i]) {
				return nil, h.corrupt(fmt.Sprintf("entry %d cannot be coded as its predecessor's successor", i), nil, nil)
			}
		}
		if i > 0 && c.Compare(prev, entries[i]) >= 0 {
			return nil, h.corrupt(fmt.Sprintf("entry %d is not above its predecessor", i), nil, nil)
		}
		prev = entries[i]
	}
	if len(body) != 0 {
		return nil, h.corrupt("bytes after the last entry", len(body), 0)
	}
	return entries, nil
}

func decodeInner[E any](c EntryCodec[E], h PageHeader, body []byte) ([]E, []block.Page, error) {
	entries := make([]E, h.Entries)
	children := make([]block.Page, h.Entries)
	var prev E
	for i := range entries {
		e, rest, err := c.Decode(body, prev, i == 0)
		switch {
		case err != nil:
			return nil, nil, h.corrupt(fmt.Sprintf("entry %d: %v", i, err), nil, nil)
		case len(rest) < ChildSize:
			return nil, nil, h.corrupt(fmt.Sprintf("entry %d is cut off", i), nil, nil)
		case i > 0 && c.Compare(prev, e) >= 0:
			return nil, nil, h.corrupt(fmt.Sprintf("entry %d is not above its predecessor", i), nil, nil)
		}
		for j := range ChildSize {
			children[i] |= block.Page(rest[j]) << (8 * j)
		}
		if children[i] == 0 {
			return nil, nil, h.corrupt(fmt.Sprintf("child %d has no address", i), nil, nil)
		}
		entries[i], prev, body = e, e, rest[ChildSize:]
	}
	if len(body) != 0 {
		return nil, nil, h.corrupt("bytes after the last entry", len(body), 0)
	}
	return entries, children, nil
}
