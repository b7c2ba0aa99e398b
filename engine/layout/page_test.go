// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

var (
	leafHeader  = layout.PageHeader{Kind: layout.KindExceptions, Page: 41, Identity: [16]byte{1, 2, 3}}
	innerHeader = layout.PageHeader{Kind: layout.KindExceptions, Level: 2, Page: 42, Identity: [16]byte{1, 2, 3}}
)

// pageEntries returns n ascending entries, about half of them in runs.
func pageEntries(n int) []layout.Exception {
	rng := rand.New(rand.NewPCG(1, 1))
	entries := make([]layout.Exception, n)
	var e layout.Exception
	for i := range entries {
		e = layout.ExceptionCodec{}.Next(e)
		if rng.IntN(4) == 0 {
			e.Chunk += block.Chunk(rng.IntN(1000))
			e.Generation = block.Generation(rng.IntN(100))
			e.Slot = block.Slot(rng.IntN(1 << 20))
		}
		e.Sum = rng.Uint32()
		entries[i] = e
	}
	return entries
}

func pageChildren(n int) []block.Page {
	children := make([]block.Page, n)
	for i := range children {
		children[i] = block.Page(1<<48 - 1 - i*12345)
	}
	return children
}

func encodePage(t testing.TB, h layout.PageHeader, entries []layout.Exception, children []block.Page) []byte {
	page := make([]byte, block.PageSize)
	require.NoError(t, layout.EncodePage(layout.ExceptionCodec{}, h, entries, children, page))
	return page
}

func decodePage(want layout.PageHeader, page []byte) (layout.TreePage[layout.Exception], error) {
	return layout.DecodePage(layout.ExceptionCodec{}, want, page)
}

func TestPageRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, 7, 8, 9, 64, 150} {
		entries, children := pageEntries(n), pageChildren(n)

		leaf, err := decodePage(leafHeader, encodePage(t, leafHeader, entries, nil))
		require.NoError(t, err)
		require.Equal(t, entries, leaf.Entries)
		require.Nil(t, leaf.Children)
		require.Equal(t, n, leaf.PageHeader.Entries)

		inner, err := decodePage(innerHeader, encodePage(t, innerHeader, entries, children))
		require.NoError(t, err)
		require.Equal(t, entries, inner.Entries)
		require.Equal(t, children, inner.Children)
	}
}

// A page made once and kept here: the format must not change.
func TestPageGolden(t *testing.T) {
	page := encodePage(t, leafHeader, []layout.Exception{
		{Chunk: 5, Generation: 3, Slot: 9, Sum: 0x01020304},
		{Chunk: 6, Generation: 3, Slot: 10, Sum: 0x05060708},
	}, nil)
	require.Equal(t, []byte{
		'z', 'b', 't', '1', 1, 0, 1, 0, 2, 0, 12, 0, page[12], page[13], page[14], page[15],
		41, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0b10, 10, 6, 16, 4, 3, 2, 1, 8, 7, 6, 5, 0, 0,
	}, page[:78])
}

func TestPageDetectsEveryFlippedByte(t *testing.T) {
	for _, h := range []layout.PageHeader{leafHeader, innerHeader} {
		page := encodePage(t, h, pageEntries(100), pageChildren(100))
		for i := range page {
			page[i] ^= 1 << (i % 8)
			_, err := decodePage(h, page)
			require.ErrorIs(t, err, layout.ErrCorrupt, "byte %d", i)
			page[i] ^= 1 << (i % 8)
		}
		_, err := decodePage(h, page)
		require.NoError(t, err)
	}
}

func TestPageOfAnotherPlaceIsRefused(t *testing.T) {
	page := encodePage(t, innerHeader, pageEntries(3), pageChildren(3))
	for name, change := range map[string]func(*layout.PageHeader){
		"address":  func(h *layout.PageHeader) { h.Page++ },
		"kind":     func(h *layout.PageHeader) { h.Kind++ },
		"level":    func(h *layout.PageHeader) { h.Level-- },
		"identity": func(h *layout.PageHeader) { h.Identity[15]++ },
	} {
		want := innerHeader
		change(&want)
		_, err := decodePage(want, page)
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
		require.ErrorContains(t, err, name)
	}
	for _, size := range []int{0, 1, block.PageSize - 1, block.PageSize + 1} {
		_, err := layout.DecodePageHeader(make([]byte, size))
		require.ErrorIs(t, err, layout.ErrCorrupt)
	}
}

// Pages with a valid checksum that no encoding makes.
func TestPageMalformedIsRefused(t *testing.T) {
	const body = layout.PageHeaderSize
	for name, change := range map[string]func(page []byte, h *layout.PageHeader){
		"no entries":          func(_ []byte, h *layout.PageHeader) { h.Entries = 0 },
		"too many entries":    func(_ []byte, h *layout.PageHeader) { h.Entries = layout.MaxPageEntries + 1 },
		"length beyond page":  func(_ []byte, h *layout.PageHeader) { h.Length = block.PageSize - body + 1 },
		"no bytes":            func(_ []byte, h *layout.PageHeader) { h.Length = 0 },
		"cut off":             func(_ []byte, h *layout.PageHeader) { h.Length-- },
		"bytes left":          func(_ []byte, h *layout.PageHeader) { h.Length++ },
		"level too high":      func(_ []byte, h *layout.PageHeader) { h.Level = layout.MaxPageLevel + 1 },
		"run without a start": func(page []byte, _ *layout.PageHeader) { page[body] |= 1 },
		"bit beyond entries":  func(page []byte, _ *layout.PageHeader) { page[body] |= 0x80 },
		"run coded apart": func(page []byte, h *layout.PageHeader) {
			copy(page[body:], []byte{0, 10, 6, 16, 4, 3, 2, 1, 2, 0, 0, 4, 3, 2, 1})
			h.Entries, h.Length = 2, 15
		},
		"order": func(page []byte, h *layout.PageHeader) {
			copy(page[body:], []byte{0, 10, 6, 16, 4, 3, 2, 1, 0, 0, 0, 4, 3, 2, 1})
			h.Entries, h.Length = 2, 15
		},
	} {
		t.Run(name, func(t *testing.T) {
			page := encodePage(t, leafHeader, pageEntries(5), nil)
			h, err := layout.DecodePageHeader(page)
			require.NoError(t, err)
			change(page, &h)
			layout.EncodePageHeader(page, h)
			want := leafHeader
			want.Level = h.Level
			_, err = decodePage(want, page)
			require.ErrorIs(t, err, layout.ErrCorrupt)
		})
	}
}

func TestEncodePageRefusesWhatDoesNotFit(t *testing.T) {
	page := make([]byte, block.PageSize)
	c := layout.ExceptionCodec{}
	require.Error(t, layout.EncodePage(c, leafHeader, nil, nil, page))
	require.Error(t, layout.EncodePage(c, leafHeader, pageEntries(layout.MaxPageEntries+1), nil, page))
	require.Error(t, layout.EncodePage(c, leafHeader, pageEntries(layout.MaxPageEntries), nil, page))
	for _, child := range []block.Page{0, 1 << 48, math.MaxUint64} {
		require.Error(t, layout.EncodePage(c, innerHeader, pageEntries(1), []block.Page{child}, page))
	}
}

// Any entries under a valid header and checksum: decoding returns an error, or
// what encodes and decodes to the same.
func FuzzDecodePage(f *testing.F) {
	for _, level := range []uint8{0, 1} {
		h := leafHeader
		h.Level = level
		page := encodePage(f, h, pageEntries(40), pageChildren(40))
		got, err := layout.DecodePageHeader(page)
		require.NoError(f, err)
		f.Add(level, uint16(40), page[layout.PageHeaderSize:][:got.Length])
	}
	f.Fuzz(func(t *testing.T, level uint8, n uint16, body []byte) {
		page := make([]byte, block.PageSize)
		h := leafHeader
		h.Level, h.Entries = level, int(n)
		h.Length = copy(page[layout.PageHeaderSize:], body)
		layout.EncodePageHeader(page, h)
		got, err := decodePage(h, page)
		if err != nil {
			require.ErrorIs(t, err, layout.ErrCorrupt)
			return
		}
		again, err := decodePage(h, encodePage(t, h, got.Entries, got.Children))
		require.NoError(t, err)
		require.Equal(t, got.Entries, again.Entries)
		require.Equal(t, got.Children, again.Children)
		require.LessOrEqual(t, again.Length, got.Length)
	})
}
