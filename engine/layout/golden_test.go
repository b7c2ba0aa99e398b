// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// The vectors of testdata are the format's definition by example, for other
// programs too. A file is lines of hexadecimal bytes; "#" begins a comment, and a
// line "zero N" stands for N zero bytes. Rewriting them is changing the format.
var rewrite = flag.Bool("rewrite", false, "write the golden vectors anew")

func formatVector(title string, p []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n", title)
	for len(p) > 0 {
		if rest := len(p) - len(bytes.TrimLeft(p, "\x00")); rest >= 32 {
			fmt.Fprintf(&b, "zero %d\n", rest)
			p = p[rest:]
			continue
		}
		n := min(16, len(p))
		fmt.Fprintf(&b, "% x\n", p[:n])
		p = p[n:]
	}
	return b.Bytes()
}

func parseVector(t testing.TB, file []byte) []byte {
	var p []byte
	for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		var n int
		if _, err := fmt.Sscanf(line, "zero %d", &n); err == nil {
			p = append(p, make([]byte, n)...)
			continue
		}
		bytes, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(line), " ", ""))
		require.NoError(t, err)
		p = append(p, bytes...)
	}
	return p
}

var exampleUUID = layout.UUID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}

// exampleSuperblock has a value of its own in every field that can have one.
func exampleSuperblock() *layout.Superblock {
	return &layout.Superblock{
		UUID: exampleUUID, Checkpoint: 41, Epoch: 7, Created: 1_700_000_000_123_456_789,
		Placement: layout.PlacementDisk, Separate: true, Clean: true, ChunkShift: 16, OriginSize: 1<<40 + 512,
		DataOffset: 64 << 10, Slots: 1 << 20,
		Control: layout.Extent{First: 2, Len: 256}, Journal: layout.Extent{First: 258, Len: 4096}, TreePages: layout.Extent{First: 4354, Len: 24640},
		Generation: 1234, ControlPos: layout.Position{Place: 8192, Seq: 55}, LogPos: layout.Position{Place: 12288, Seq: 77}, Allocated: 4711,
		Roots: [layout.Kinds]layout.Root{
			{Page: 5000, Entries: 4000, Level: 2}, {Page: 5001, Entries: 4000, Level: 1}, {Page: 5002, Entries: 75}, {}, {Page: 40001, Entries: 2},
		},
		Policy: layout.PolicyFailWrites, Restore: layout.Restore{Generation: 1200, Next: 777, Merge: true, SkipLost: true},
		Grown: []layout.Extent{{First: 40000, Len: 512}, {First: 90000, Len: 1024}},
	}
}

func exampleBatch() *layout.Batch {
	return &layout.Batch{Branch: 0, Generation: 9, Copies: []layout.Copy{
		{Chunk: 10, Slot: 101, Sum: 0x11111111}, {Chunk: 11, Slot: 102, Sum: 0x22222222}, // a run
		{Chunk: 12, Slot: 110, Sum: 0x33333333}, {Chunk: 40, Slot: 111, Sum: 0x44444444}, {Chunk: 41, Slot: layout.LostSlot},
	}}
}

var (
	exampleIdentity = layout.Identity{UUID: exampleUUID, Epoch: 7, Seq: 77}
	exampleSnapshot = layout.Snapshot{
		Generation: 9, Parent: 4, Tag: 42, State: layout.SnapshotLive, Held: true, Damaged: true, Lossy: true, Priority: -3, UseCount: 1 << 20,
		Group: layout.UUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, GroupSize: 300,
		Created: 1_700_000_000_000_000_000, Size: 1 << 30, Name: "täglich",
	}
	// exampleCopy is what a copy's volume has: a delta is applied to it, up to an offset.
	exampleCopy = layout.Snapshot{
		Generation: 10, Tag: 43, State: layout.SnapshotLive, Created: 1_700_000_000_000_000_001, Size: 1 << 30, Name: "copy",
		Source: layout.Source{Store: layout.UUID{15: 1}, Generation: 300}, Applying: layout.UUID{0: 0xde, 15: 0xad}, Applied: 5 << 20,
	}
)

// exampleHeader is that of a descriptor, whose next one is in slot 112.
func exampleHeader(kind layout.RecordKind, body int) layout.RecordHeader {
	return layout.RecordHeader{Identity: exampleIdentity, Kind: kind, Body: uint32(body), Durable: 76, Next: 112}
}

func exampleRecord(kind layout.RecordKind, body []byte) []byte {
	rec := append(make([]byte, layout.RecordHeaderSize), body...)
	layout.SealRecord(exampleHeader(kind, 0), rec)
	return rec
}

// pageVector is the test of a page of any tree.
func pageVector[E any](c layout.EntryCodec[E], h layout.PageHeader, entries []E, children []block.Page) vector {
	h.Identity = exampleUUID
	return vector{
		encode: func() []byte {
			page := make([]byte, block.PageSize)
			if err := layout.EncodePage(c, h, entries, children, page); err != nil {
				panic(err)
			}
			return page
		},
		decode: func(p []byte) (any, error) {
			page, err := layout.DecodePage(c, h, p)
			return pageContent[E]{page.Entries, page.Children}, err
		},
		want: pageContent[E]{entries, children},
	}
}

type pageContent[E any] struct {
	entries  []E
	children []block.Page
}

// vector is an example of a structure.
type vector struct {
	encode func() []byte
	decode func(p []byte) (any, error)
	want   any
}

// decodedRecord is a record and what its body says.
type decodedRecord struct {
	header layout.RecordHeader
	body   any
}

func decodeRecord(p []byte) (any, error) {
	h, err := layout.DecodeRecordHeader(p, exampleIdentity)
	if err == nil {
		err = layout.VerifyRecord(p)
	}
	if err != nil {
		return nil, err
	}
	if h.Kind == layout.RecordSnapshot {
		s, err := layout.DecodeSnapshotRecord(p[layout.RecordHeaderSize:])
		return decodedRecord{h, s}, err
	}
	b, err := layout.DecodeBatch(p[layout.RecordHeaderSize:])
	return decodedRecord{h, b}, err
}

// vectors returns an example of each structure by the name of its file.
func vectors() map[string]vector {
	batch := layout.AppendBatch(nil, exampleBatch())
	snapshot := layout.AppendSnapshotRecord(nil, exampleSnapshot)
	copied := layout.AppendSnapshotRecord(nil, exampleCopy)
	exceptions := []layout.Exception{
		{Chunk: 5, Generation: 3, Slot: 9, Sum: 0x01020304}, {Chunk: 6, Generation: 3, Slot: 10, Sum: 0x05060708},
		{Chunk: 6, Generation: 8, Slot: 4, Sum: 0x090a0b0c}, {Branch: 1 << 40, Chunk: 1, Generation: 4, Slot: layout.LostSlot},
	}
	return map[string]vector{
		"superblock": {
			exampleSuperblock().Encode,
			func(p []byte) (any, error) { return layout.DecodeSuperblock(p) }, exampleSuperblock(),
		},
		"label": {
			func() []byte { return layout.EncodeLabel(exampleUUID, layout.RoleJournal) },
			func(p []byte) (any, error) { return nil, layout.CheckLabel(p, exampleUUID, layout.RoleJournal) }, nil,
		},
		"batch-record": {
			func() []byte { return exampleRecord(layout.RecordBatch, batch) },
			decodeRecord, decodedRecord{exampleHeader(layout.RecordBatch, len(batch)), exampleBatch()},
		},
		"snapshot-record": {
			func() []byte { return exampleRecord(layout.RecordSnapshot, snapshot) },
			decodeRecord, decodedRecord{exampleHeader(layout.RecordSnapshot, len(snapshot)), exampleSnapshot},
		},
		"applying-record": {
			func() []byte { return exampleRecord(layout.RecordSnapshot, copied) },
			decodeRecord, decodedRecord{exampleHeader(layout.RecordSnapshot, len(copied)), exampleCopy},
		},
		"applying-leaf":   pageVector(layout.SnapshotCodec{}, layout.PageHeader{Kind: layout.KindSnapshots, Page: 5006}, []layout.Snapshot{exampleSnapshot, exampleCopy}, nil),
		"exceptions-leaf": pageVector(layout.ExceptionCodec{}, layout.PageHeader{Kind: layout.KindExceptions, Page: 5003, Checkpoint: 41}, exceptions, nil),
		"exceptions-inner": pageVector(layout.ExceptionCodec{}, layout.PageHeader{Kind: layout.KindExceptions, Level: 1, Page: 5000},
			exceptions, []block.Page{5003, 5004, 1<<48 - 1, 4354}),
		"changes-leaf": pageVector(layout.ChangeCodec{}, layout.PageHeader{Kind: layout.KindChanges, Page: 5005},
			[]layout.Change{{Generation: 3, Chunk: 5}, {Generation: 3, Chunk: 6}, {Generation: 3, Chunk: 300}, {Generation: 8, Chunk: 6}, {Branch: 2, Generation: 4, Chunk: 1}}, nil),
		"slots-leaf": pageVector(layout.SlotWordCodec{}, layout.PageHeader{Kind: layout.KindSlots, Page: 5002},
			[]layout.SlotWord{{Index: 0, Bits: ^uint64(0)}, {Index: 1, Bits: ^uint64(0)}, {Index: 2, Bits: 0xff}, {Index: 500, Bits: 1 << 63}}, nil),
		"snapshots-leaf": pageVector(layout.SnapshotCodec{}, layout.PageHeader{Kind: layout.KindSnapshots, Page: 5006},
			[]layout.Snapshot{exampleSnapshot, {Generation: 12, Tag: 1<<32 - 1, State: layout.SnapshotDeleting, Created: 1_699_999_999_000_000_000, Size: 1 << 29}}, nil),
		"digests-leaf": pageVector(layout.DigestCodec{}, layout.PageHeader{Kind: layout.KindDigests, Page: 40002, Checkpoint: 41},
			[]layout.DigestSum{{Index: 7, Generation: 3, Sum: [32]byte{1}}, {Index: 8, Generation: 3, Sum: [32]byte{2, 31: 9}}, {Index: 8, Generation: 5}, {Level: 5, Generation: 3, Sum: [32]byte{7}}}, nil),
		"leases-leaf": pageVector(layout.LeaseCodec{}, layout.PageHeader{Kind: layout.KindLeases, Page: 40001, Checkpoint: 41},
			[]layout.SlotRun{{First: 100, Len: 64}, {First: 5000, Len: 647}}, nil),
	}
}

// The bytes of every structure are what they always were.
func TestGoldenVectors(t *testing.T) {
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".hex")
			if *rewrite {
				require.NoError(t, os.WriteFile(file, formatVector("example of: "+name, v.encode()), 0o666))
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			golden := parseVector(t, text)
			require.Equal(t, hex.Dump(golden), hex.Dump(v.encode()))
			got, err := v.decode(golden)
			require.NoError(t, err)
			require.Equal(t, v.want, got)
		})
	}
	files, err := filepath.Glob("testdata/*.hex")
	require.NoError(t, err)
	require.Len(t, files, len(vectors()))
}

// Every bit of every structure is under a checksum.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			p := v.encode()
			for i := range p {
				for bit := range 8 {
					p[i] ^= 1 << bit
					_, err := v.decode(p)
					p[i] ^= 1 << bit
					if err == nil {
						t.Fatalf("bit %d of byte %d may be flipped", bit, i)
					}
				}
			}
		})
	}
}

// Every structure cut short is refused.
func TestEveryCutIsRefused(t *testing.T) {
	for name, v := range vectors() {
		p := v.encode()
		for n := range p {
			_, err := v.decode(p[:n])
			require.ErrorIs(t, err, layout.ErrCorrupt, "%s cut to %d bytes", name, n)
		}
	}
}
