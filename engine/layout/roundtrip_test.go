// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// small draws numbers that are often neighbours, at times anything.
func small[N ~uint64 | ~uint32](top N) *rapid.Generator[N] {
	return rapid.Custom(func(t *rapid.T) N {
		if rapid.IntRange(0, 9).Draw(t, "any") == 0 {
			return N(rapid.Uint64Max(uint64(top)).Draw(t, "n"))
		}
		return N(rapid.Uint64Max(20).Draw(t, "n"))
	})
}

// roundTrip encodes drawn entries as a leaf and an inner page and decodes them.
func roundTrip[E any](t *testing.T, c layout.EntryCodec[E], kind uint8, draw func(*rapid.T) E) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(draw), 1, 100).Draw(t, "entries")
		slices.SortFunc(entries, c.Compare)
		entries = slices.CompactFunc(entries, func(a, b E) bool { return c.Compare(a, b) == 0 })
		children := make([]block.Page, len(entries))
		for i := range children {
			children[i] = small(block.Page(1<<48-2)).Draw(t, "child") + 1
		}
		for level := range uint8(2) {
			h := layout.PageHeader{Kind: kind, Level: level, Page: 77, Identity: exampleUUID}
			page := make([]byte, block.PageSize)
			require.NoError(t, layout.EncodePage(c, h, entries, children, page))
			got, err := layout.DecodePage(c, h, page)
			require.NoError(t, err)
			require.Equal(t, entries, got.Entries)
			if level > 0 {
				require.Equal(t, children, got.Children)
			}
		}
	})
}

func TestEntriesRoundTrip(t *testing.T) {
	const top = 1<<63 - 1
	t.Run("exceptions", func(t *testing.T) {
		roundTrip(t, layout.ExceptionCodec{}, layout.KindExceptions, func(t *rapid.T) layout.Exception {
			return layout.Exception{
				Branch: small(block.Branch(top)).Draw(t, "branch"), Chunk: small(block.Chunk(top)).Draw(t, "chunk"),
				Generation: small(block.Generation(top)).Draw(t, "generation"), Slot: small(block.Slot(top)).Draw(t, "slot"),
				Sum: rapid.Uint32().Draw(t, "crc"),
			}
		})
	})
	t.Run("changes", func(t *testing.T) {
		roundTrip(t, layout.ChangeCodec{}, layout.KindChanges, func(t *rapid.T) layout.Change {
			return layout.Change{
				Branch: small(block.Branch(top)).Draw(t, "branch"), Chunk: small(block.Chunk(top)).Draw(t, "chunk"),
				Generation: small(block.Generation(top)).Draw(t, "generation"),
			}
		})
	})
	t.Run("slots", func(t *testing.T) {
		roundTrip(t, layout.SlotWordCodec{}, layout.KindSlots, func(t *rapid.T) layout.SlotWord {
			return layout.SlotWord{Index: small(uint64(top)).Draw(t, "index"), Bits: rapid.OneOf(rapid.Just(^uint64(0)), rapid.Uint64Min(1)).Draw(t, "bits")}
		})
	})
	t.Run("snapshots", func(t *testing.T) {
		roundTrip(t, layout.SnapshotCodec{}, layout.KindSnapshots, func(t *rapid.T) layout.Snapshot {
			return drawSnapshot(t)
		})
	})
	t.Run("digests", func(t *testing.T) {
		roundTrip(t, layout.DigestCodec{}, layout.KindDigests, func(t *rapid.T) layout.DigestSum {
			return layout.DigestSum{
				Level: rapid.Uint8Max(layout.MaxDigestLevel).Draw(t, "level"), Index: small(uint64(1)<<40).Draw(t, "index"),
				Generation: small(block.Generation(top)).Draw(t, "generation"), Sum: [32]byte{rapid.Byte().Draw(t, "sum"), 31: 1},
			}
		})
	})
	t.Run("leases", func(t *testing.T) {
		roundTrip(t, layout.LeaseCodec{}, layout.KindLeases, func(t *rapid.T) layout.SlotRun {
			return layout.SlotRun{First: small(block.Slot(top)).Draw(t, "first"), Len: rapid.Uint64Range(1, 1<<62).Draw(t, "len")}
		})
	})
}

func drawSnapshot(t *rapid.T) layout.Snapshot {
	s := layout.Snapshot{
		Generation: small(block.Generation(1<<63-2)).Draw(t, "generation") + 1, Tag: block.Tag(rapid.Uint32().Draw(t, "tag")),
		State: rapid.SampledFrom([]layout.SnapshotState{layout.SnapshotLive, layout.SnapshotDeleting, layout.SnapshotSquashed, layout.SnapshotPrepared}).Draw(t, "state"),
		Held:  rapid.Bool().Draw(t, "held"), Damaged: rapid.Bool().Draw(t, "damaged"), Lossy: rapid.Bool().Draw(t, "lossy"),
		Priority: rapid.Int8().Draw(t, "priority"), UseCount: rapid.Uint32().Draw(t, "use count"),
		Created: rapid.Int64().Draw(t, "created"), Size: rapid.Int64().Draw(t, "size"),
		Name: rapid.StringN(0, -1, layout.MaxName).Draw(t, "name"),
	}
	s.Parent = block.Branch(rapid.Uint64Max(uint64(s.Generation)-1).Draw(t, "parent"))
	if rapid.Bool().Draw(t, "grouped") {
		s.Group[3], s.GroupSize = 1, rapid.Uint16Min(1).Draw(t, "group size")
	}
	if rapid.Bool().Draw(t, "copied") {
		s.Source = layout.Source{Store: layout.UUID{5: 1}, Generation: block.Generation(rapid.Uint64Min(1).Draw(t, "source"))}
	}
	if rapid.Bool().Draw(t, "applying") {
		s.Applying = layout.UUID{9: 7}
		s.Applied = rapid.Int64Min(0).Draw(t, "applied")
	}
	return s
}

func TestSnapshotRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSnapshot(t)
		got, err := layout.DecodeSnapshotRecord(layout.AppendSnapshotRecord(nil, want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := layout.Batch{
			Branch:     small(block.Branch(1<<64-1)).Draw(t, "branch"),
			Generation: small(block.Generation(1<<64-1)).Draw(t, "generation"), Copies: []layout.Copy{},
		}
		chunk, slot := block.Chunk(0), block.Slot(0)
		for range rapid.IntRange(0, 50).Draw(t, "copies") {
			chunk += 1 + small(block.Chunk(1<<40)).Draw(t, "gap")/8
			slot++
			if rapid.IntRange(0, 4).Draw(t, "jump") == 0 {
				slot = small(block.Slot(1<<62)).Draw(t, "slot")
			}
			b.Copies = append(b.Copies, layout.Copy{Chunk: chunk, Slot: slot, Sum: rapid.Uint32().Draw(t, "crc")})
		}
		p := layout.AppendBatch(nil, &b)
		require.LessOrEqual(t, len(p), layout.MaxBatchBody(len(b.Copies)))
		got, err := layout.DecodeBatch(p)
		require.NoError(t, err)
		require.Equal(t, &b, got)
	})
}
