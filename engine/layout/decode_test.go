// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Superblocks with a valid checksum that no store can have.
func TestSuperblockNonsenseIsRefused(t *testing.T) {
	type sb = layout.Superblock
	for name, change := range map[string]func(*sb){
		"no placement":             func(s *sb) { s.Placement = 0 },
		"unknown placement":        func(s *sb) { s.Placement = 99 },
		"tiny chunks":              func(s *sb) { s.ChunkShift = 11 },
		"huge chunks":              func(s *sb) { s.ChunkShift = 21 },
		"chunk shift overflows":    func(s *sb) { s.ChunkShift = 255 },
		"no origin":                func(s *sb) { s.OriginSize = 0 },
		"negative origin":          func(s *sb) { s.OriginSize = -512 },
		"unaligned origin":         func(s *sb) { s.OriginSize++ },
		"origin beyond 1 PiB":      func(s *sb) { s.OriginSize = block.MaxOriginSize + 512 },
		"negative data offset":     func(s *sb) { s.DataOffset = -block.PageSize },
		"data offset beyond 1 PiB": func(s *sb) { s.DataOffset = block.MaxStoreSize + block.PageSize },
		"unaligned data":           func(s *sb) { s.DataOffset += 512 },
		"too many slots":           func(s *sb) { s.Slots = block.MaxStoreSize>>16 + 1 },
		"endless slots":            func(s *sb) { s.Slots = math.MaxUint64 },
		"more allocated than are":  func(s *sb) { s.Allocated = s.Slots + 1 },
		"no control ring":          func(s *sb) { s.Control.Len = 0 },
		"control over superblocks": func(s *sb) { s.Control.First = 1 },
		"control over journal":     func(s *sb) { s.Control.Len++ },
		"journal over tree":        func(s *sb) { s.Journal.Len++ },
		"tree before journal":      func(s *sb) { s.TreePages.First = 100 },
		"no tree pages":            func(s *sb) { s.TreePages.Len = 0 },
		"endless tree pages":       func(s *sb) { s.TreePages.Len = math.MaxUint64 },
		"far tree pages":           func(s *sb) { s.TreePages.First = math.MaxUint64 },
		"disk without journal":     func(s *sb) { s.Journal.Len = 0 },
		"inline with journal":      func(s *sb) { s.Placement = layout.PlacementInline },
		"nvram without journal":    func(s *sb) { s.Placement, s.Journal = layout.PlacementNVRAM, layout.Extent{} },
		"disk with another":        func(s *sb) { s.JournalSize = 4096 },
		"negative journal":         func(s *sb) { s.JournalSize = -4096 },
		"root before tree pages":   func(s *sb) { s.Roots[0].Page = 3 },
		"root after tree pages":    func(s *sb) { s.Roots[0].Page = s.TreePages.End() },
		"root without entries":     func(s *sb) { s.Roots[0].Entries = 0 },
		"entries without root":     func(s *sb) { s.Roots[0].Page = 0 },
		"root too high":            func(s *sb) { s.Roots[0].Level = layout.MaxPageLevel + 1 },
		"empty grown extent":       func(s *sb) { s.Grown[0].Len = 0 },
		"grown over tree pages":    func(s *sb) { s.Grown[0].First = s.TreePages.First },
		"grown extents overlap":    func(s *sb) { s.Grown[0].Len = 1 << 40 },
		"endless grown extent":     func(s *sb) { s.Grown[1].Len = math.MaxUint64 },
		"root between extents":     func(s *sb) { s.Roots[0].Page = s.Grown[0].End() },
		"unknown policy":           func(s *sb) { s.Policy = 3 },
		"future restore":           func(s *sb) { s.Restore.Generation = s.Generation + 1 },
		"restore of nothing":       func(s *sb) { s.Restore.Generation = 0 },
	} {
		s := exampleSuperblock()
		change(s)
		got, err := layout.DecodeSuperblock(s.Encode())
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
		require.Nil(t, got, name)
	}
}

// reseal puts the CRC32C of p, the field itself taken as zero, at off.
func reseal(p []byte, off int) []byte {
	binary.LittleEndian.PutUint32(p[off:], layout.ChecksumWithout(p, off))
	return p
}

const sumOffset = 12 // in every structure

// Bytes that a superblock, label or page does not use yet.
func TestReservedBytesMustBeZero(t *testing.T) {
	for name, reserved := range map[string][]int{
		"superblock":      {62, 281, 305, 328 + 2*16, 488, 511},
		"label":           {9, 11, 32, 4095},
		"batch-record":    {7, 64 + 24 + 20},
		"exceptions-leaf": {48, 63},
	} {
		v := vectors()[name]
		for _, i := range reserved {
			p := v.encode()
			p[i] = 1
			_, err := v.decode(reseal(p, sumOffset))
			require.Error(t, err, "%s byte %d", name, i)
		}
	}
}

func TestOtherVersionsAreRefused(t *testing.T) {
	for name, off := range map[string]int{"superblock": 8, "label": 4, "batch-record": 4, "snapshot-record": 4} {
		v := vectors()[name]
		p := v.encode()
		p[off]++
		_, err := v.decode(reseal(p, sumOffset))
		require.ErrorIs(t, err, layout.ErrVersion, name)
	}
}

// A valid label or record that is another's.
func TestOthersAreRefused(t *testing.T) {
	label := layout.EncodeLabel(exampleUUID, layout.RoleData)
	require.NoError(t, layout.CheckLabel(label, exampleUUID, layout.RoleData))
	require.ErrorContains(t, layout.CheckLabel(label, exampleUUID, layout.RoleJournal), "role")
	require.ErrorContains(t, layout.CheckLabel(label, layout.UUID{1}, layout.RoleData), "belongs to store")

	rec := exampleRecord(layout.RecordSnapshot, nil)
	for name, change := range map[string]func(*layout.Identity){
		"store":       func(id *layout.Identity) { id.UUID[3]++ },
		"epoch":       func(id *layout.Identity) { id.Epoch++ },
		"next number": func(id *layout.Identity) { id.Seq++ },
		"last number": func(id *layout.Identity) { id.Seq-- },
	} {
		want := exampleIdentity
		change(&want)
		_, err := layout.DecodeRecordHeader(rec, want)
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
	}
}

func TestBatchNonsenseIsRefused(t *testing.T) {
	le := binary.LittleEndian
	for name, change := range map[string]func(p []byte) []byte{
		"fewer runs":        func(p []byte) []byte { le.PutUint32(p[16:], 2); return p },
		"endless runs":      func(p []byte) []byte { le.PutUint32(p[16:], math.MaxUint32); return p },
		"more chunks":       func(p []byte) []byte { le.PutUint32(p[20:], 6); return p },
		"endless chunks":    func(p []byte) []byte { le.PutUint32(p[20:], math.MaxUint32); return p },
		"empty run":         func(p []byte) []byte { le.PutUint32(p[24+16:], 0); return p },
		"long run":          func(p []byte) []byte { le.PutUint32(p[24+16:], 6); return p },
		"short run":         func(p []byte) []byte { le.PutUint32(p[24+16:], 1); return p },
		"descending":        func(p []byte) []byte { le.PutUint64(p[48:], 11); return p },
		"run goes on":       func(p []byte) []byte { le.PutUint64(p[48+8:], 103); return p },
		"chunks overflow":   func(p []byte) []byte { le.PutUint64(p[24:], math.MaxUint64); return p },
		"slots overflow":    func(p []byte) []byte { le.PutUint64(p[24+8:], math.MaxUint64); return p },
		"bytes left":        func(p []byte) []byte { return append(p, 0) },
		"reserved in a run": func(p []byte) []byte { p[24+20] = 1; return p },
	} {
		_, err := layout.DecodeBatch(change(layout.AppendBatch(nil, exampleBatch())))
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
	}
}

func TestSnapshotRecordNonsenseIsRefused(t *testing.T) {
	for name, change := range map[string]func(p []byte) []byte{
		"no generation": func(p []byte) []byte { clear(p[:8]); return p },
		"future parent": func(p []byte) []byte { p[8] = 9; return p },
		"no state":      func(p []byte) []byte { p[20] = 0; return p },
		"unknown state": func(p []byte) []byte { p[20] = 5; return p },
		"unknown flag":  func(p []byte) []byte { p[21] |= 4; return p },
		"reserved":      func(p []byte) []byte { p[46] = 1; return p },
		"group of none": func(p []byte) []byte { clear(p[44:46]); return p },
		"size of none":  func(p []byte) []byte { clear(p[48:64]); return p },
		"long name":     func(p []byte) []byte { p[23] = 65; return append(p[:64], make([]byte, 65)...) },
		"bad name":      func(p []byte) []byte { p[65] = 0xff; return p },
		"cut name":      func(p []byte) []byte { return p[:len(p)-1] },
		"bytes left":    func(p []byte) []byte { return append(p, 0) },
	} {
		_, err := layout.DecodeSnapshotRecord(change(layout.AppendSnapshotRecord(nil, exampleSnapshot)))
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
	}
	for name, change := range map[string]func(p []byte) []byte{
		"offset of no delta": func(p []byte) []byte { p[21] &^= 16; return append(p[:len(p)-24], p[len(p)-8:]...) },
		"offset zero":        func(p []byte) []byte { clear(p[len(p)-8:]); return p },
		"negative offset":    func(p []byte) []byte { p[len(p)-1] = 0x80; return p },
		"no offset":          func(p []byte) []byte { return p[:len(p)-8] },
		"cut offset":         func(p []byte) []byte { return p[:len(p)-1] },
	} {
		_, err := layout.DecodeSnapshotRecord(change(layout.AppendSnapshotRecord(nil, exampleCopy)))
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
	}
}

func TestTooManyExtentsPanic(t *testing.T) {
	s := exampleSuperblock()
	s.Grown = make([]layout.Extent, layout.MaxGrown+1)
	require.Panics(t, func() { s.Encode() })
}

func TestPlacementNames(t *testing.T) {
	for p := layout.PlacementInline; p <= layout.PlacementPMem; p++ {
		got, err := layout.ParsePlacement(p.String())
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
	for _, name := range []string{"", "INLINE", "placement(9)", "floppy"} {
		_, err := layout.ParsePlacement(name)
		require.Error(t, err, name)
	}
	require.Equal(t, "placement(9)", layout.Placement(9).String())
}
