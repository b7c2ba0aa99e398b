// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Decoders get any bytes, under right checksums where there are such, so that what
// is behind the checksum is reached. What they accept must encode to these bytes.

func FuzzDecodeSuperblock(f *testing.F) {
	f.Add(exampleSuperblock().Encode())
	f.Add((&layout.Superblock{
		Placement: layout.PlacementInline, ChunkShift: 12, OriginSize: 512,
		Control: layout.Extent{First: 2, Len: 1}, TreePages: layout.Extent{First: 3, Len: 1},
	}).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= sumOffset+4 {
			reseal(p, sumOffset)
		}
		s, err := layout.DecodeSuperblock(p)
		if err != nil {
			require.Nil(t, s)
			return
		}
		require.Equal(t, p, s.Encode())
	})
}

func FuzzCheckLabel(f *testing.F) {
	f.Add(layout.EncodeLabel(exampleUUID, layout.RoleData), uint8(layout.RoleData))
	f.Add(layout.EncodeLabel(layout.UUID{}, layout.RoleJournal), uint8(layout.RoleJournal))
	f.Fuzz(func(t *testing.T, p []byte, role uint8) {
		if len(p) >= sumOffset+4 {
			reseal(p, sumOffset)
		}
		if layout.CheckLabel(p, exampleUUID, layout.Role(role)) == nil {
			require.Equal(t, layout.EncodeLabel(exampleUUID, layout.Role(role)), p)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(exampleRecord(layout.RecordBatch, layout.AppendBatch(nil, exampleBatch())))
	f.Add(exampleRecord(layout.RecordSnapshot, layout.AppendSnapshotRecord(nil, exampleSnapshot)))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= layout.RecordHeaderSize {
			reseal(p, sumOffset)
			copy(p[16:], exampleUUID[:])
		}
		h, err := layout.DecodeRecordHeader(p, exampleIdentity)
		if err != nil || layout.VerifyRecord(p) != nil || int(h.Body) != len(p)-layout.RecordHeaderSize {
			return
		}
		again := append([]byte(nil), p...)
		layout.SealRecord(h, again)
		require.Equal(t, p, again)
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(layout.AppendBatch(nil, exampleBatch()))
	f.Add(layout.AppendBatch(nil, &layout.Batch{}))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := layout.DecodeBatch(p)
		if err != nil {
			require.ErrorIs(t, err, layout.ErrCorrupt)
			return
		}
		require.Equal(t, p, layout.AppendBatch(nil, b))
	})
}

func FuzzDecodeSnapshotRecord(f *testing.F) {
	f.Add(layout.AppendSnapshotRecord(nil, exampleSnapshot))
	f.Add(layout.AppendSnapshotRecord(nil, exampleCopy))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := layout.DecodeSnapshotRecord(p)
		if err != nil {
			require.ErrorIs(t, err, layout.ErrCorrupt)
			return
		}
		require.Equal(t, p, layout.AppendSnapshotRecord(nil, s))
	})
}

// fuzzPage decodes any entries under a valid header and checksum.
func fuzzPage[E any](t *testing.T, c layout.EntryCodec[E], kind, level uint8, n uint16, body []byte) {
	page := make([]byte, block.PageSize)
	h := layout.PageHeader{Kind: kind, Level: level, Page: 9, Identity: exampleUUID, Entries: int(n)}
	h.Length = copy(page[layout.PageHeaderSize:], body)
	layout.EncodePageHeader(page, h)
	got, err := layout.DecodePage(c, h, page)
	if err != nil {
		require.ErrorIs(t, err, layout.ErrCorrupt)
		return
	}
	clear(page)
	require.NoError(t, layout.EncodePage(c, h, got.Entries, got.Children, page))
	again, err := layout.DecodePage(c, h, page)
	require.NoError(t, err)
	require.Equal(t, got.Entries, again.Entries)
	require.Equal(t, got.Children, again.Children)
}

func FuzzDecodeEveryTree(f *testing.F) {
	for _, v := range vectors() {
		page := v.encode()
		if h, err := layout.DecodePageHeader(page); err == nil {
			f.Add(h.Kind, h.Level, uint16(h.Entries), page[layout.PageHeaderSize:][:h.Length])
		}
	}
	f.Fuzz(func(t *testing.T, kind, level uint8, n uint16, body []byte) {
		switch kind {
		case layout.KindExceptions:
			fuzzPage(t, layout.ExceptionCodec{}, kind, level, n, body)
		case layout.KindChanges:
			fuzzPage(t, layout.ChangeCodec{}, kind, level, n, body)
		case layout.KindSlots:
			fuzzPage(t, layout.SlotWordCodec{}, kind, level, n, body)
		case layout.KindSnapshots:
			fuzzPage(t, layout.SnapshotCodec{}, kind, level, n, body)
		case layout.KindLeases:
			fuzzPage(t, layout.LeaseCodec{}, kind, level, n, body)
		case layout.KindDigests:
			fuzzPage(t, layout.DigestCodec{}, kind, level, n, body)
		}
	})
}
