// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/block"
)

// A tree page is one block.PageSize place of the metadata area: this header,
// then the entries (see [EntryCodec]), then zeroes. All numbers little-endian.
// Part of the format, must not change.
//
//	offset size field
//	     0    4 magic "zbt1"
//	     4    2 version, 1
//	     6    1 kind: which tree the page belongs to
//	     7    1 level: 0 for a leaf
//	     8    2 entries in the page, 1 to 1024
//	    10    2 length of the entries in bytes
//	    12    4 CRC32C of the whole page, this field taken as zero
//	    16    8 the page's own address, a page number of the metadata area
//	    24   16 identity of the store
//	    40    8 number of the checkpoint that wrote the page
//	    48   16 zero
const (
	// PageHeaderSize is the length of a tree page's header in bytes.
	PageHeaderSize = 64
	// MaxPageEntries is the largest number of entries in one tree page.
	MaxPageEntries = 1024

	pageMagic     = 0x3174627a // "zbt1"
	pageVersion   = 1
	pageCRCOffset = 12
)

// MaxPageLevel is the highest level that a tree page can have. A tree that
// outgrew it would hold more entries than a store has bytes.
const MaxPageLevel = 15

// PageHeader is the header of a tree page, but for what is the same in all.
type PageHeader struct {
	Kind     uint8
	Level    uint8 // 0 for a leaf
	Entries  int
	Length   int // bytes of entries after the header
	Page     block.Page
	Identity [16]byte
	// Checkpoint is the number of the one that wrote the page. Only what looks for
	// the newest of several versions of a page reads it.
	Checkpoint uint64
}

// EncodePageHeader writes h into the first [PageHeaderSize] bytes of page, whose
// entries must be in place already, and seals the whole page with its checksum.
// The page must be block.PageSize long.
func EncodePageHeader(page []byte, h PageHeader) {
	clear(page[:PageHeaderSize])
	le := binary.LittleEndian
	le.PutUint32(page[0:], pageMagic)
	le.PutUint16(page[4:], pageVersion)
	page[6] = h.Kind
	page[7] = h.Level
	le.PutUint16(page[8:], uint16(h.Entries))
	le.PutUint16(page[10:], uint16(h.Length))
	le.PutUint64(page[16:], uint64(h.Page))
	copy(page[24:40], h.Identity[:])
	le.PutUint64(page[40:], h.Checkpoint)
	le.PutUint32(page[pageCRCOffset:], ChecksumWithout(page, pageCRCOffset))
}

// DecodePageHeader reads the header of page, which must be block.PageSize long.
// It checks magic, version, checksum and bounds, but not whether the page is the
// one that was wanted: that is [PageHeader.Verify]. Errors wrap [ErrCorrupt].
func DecodePageHeader(page []byte) (PageHeader, error) {
	le := binary.LittleEndian
	if len(page) != block.PageSize {
		return PageHeader{}, PageHeader{}.corrupt("size", len(page), block.PageSize)
	}
	h := PageHeader{
		Kind:     page[6],
		Level:    page[7],
		Entries:  int(le.Uint16(page[8:])),
		Length:   int(le.Uint16(page[10:])),
		Page:     block.Page(le.Uint64(page[16:])),
		Identity: [16]byte(page[24:40]),

		Checkpoint: le.Uint64(page[40:]),
	}
	if got := le.Uint32(page[0:]); got != pageMagic {
		return h, h.corrupt("magic", fmt.Sprintf("%#08x", got), fmt.Sprintf("%#08x", pageMagic))
	}
	if got := le.Uint16(page[4:]); got != pageVersion {
		return h, h.corrupt("version", got, pageVersion)
	}
	if got, want := le.Uint32(page[pageCRCOffset:]), ChecksumWithout(page, pageCRCOffset); got != want {
		return h, h.corrupt("checksum", fmt.Sprintf("%#08x", got), fmt.Sprintf("%#08x", want))
	}
	switch {
	case [16]byte(page[48:PageHeaderSize]) != [16]byte{}:
		return h, h.corrupt("reserved bytes are not zero", nil, nil)
	case h.Entries < 1 || h.Entries > MaxPageEntries:
		return h, h.corrupt("number of entries", h.Entries, fmt.Sprintf("1 to %d", MaxPageEntries))
	case h.Length > block.PageSize-PageHeaderSize:
		return h, h.corrupt("length", h.Length, fmt.Sprintf("at most %d", block.PageSize-PageHeaderSize))
	case h.Level > MaxPageLevel:
		return h, h.corrupt("level", h.Level, fmt.Sprintf("at most %d", MaxPageLevel))
	}
	return h, nil
}

// Verify checks that h is the header of the page that want describes by address,
// identity, kind and level. Errors wrap [ErrCorrupt].
func (h PageHeader) Verify(want PageHeader) error {
	switch {
	case h.Page != want.Page:
		return want.corrupt("address", h.Page, want.Page)
	case h.Identity != want.Identity:
		return want.corrupt("store identity", fmt.Sprintf("%x", h.Identity), fmt.Sprintf("%x", want.Identity))
	case h.Kind != want.Kind:
		return want.corrupt("kind", h.Kind, want.Kind)
	case h.Level != want.Level:
		return want.corrupt("level", h.Level, want.Level)
	}
	return nil
}

// corrupt returns the error for a property of the page that does not hold. Its
// offset counts from the start of the metadata area.
func (h PageHeader) corrupt(what string, got, want any) error {
	return &CorruptError{
		What:   fmt.Sprintf("tree page %d", h.Page),
		Offset: int64(h.Page&maxChild) * block.PageSize,
		Reason: what,
		Got:    got,
		Want:   want,
	}
}
