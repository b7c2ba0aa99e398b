// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/layout/bulk"
)

// family is a store with writable snapshots: 1 and 2 of the origin, 3 and 5 of
// snapshot 1, 4 of snapshot 3.
type family struct {
	sb         *layout.Superblock
	snapshots  []layout.Snapshot
	exceptions []layout.Exception
	device     *memdev.Device
}

func newFamily() *family {
	o := checktest.Synthetic{Exceptions: 100, Snapshots: 5}
	sb := &layout.Superblock{
		UUID: layout.UUID{9}, Placement: layout.PlacementInline, Clean: true, ChunkShift: 12, OriginSize: 100 << 12, Slots: 200,
		Control: layout.Extent{First: 2, Len: 16}, TreePages: layout.Extent{First: 18, Len: 64}, DataOffset: 100 << 12,
		ControlPos: layout.Position{Seq: 1}, LogPos: layout.Position{Seq: 1}, Generation: 5,
	}
	f := &family{sb: sb, device: memdev.New(o.StoreSize())}
	for i, parent := range []block.Branch{0, 0, 1, 3, 1} {
		f.snapshots = append(f.snapshots, layout.Snapshot{
			Generation: block.Generation(i + 1), Parent: parent, Tag: block.Tag(i + 10), Name: string(rune('a' + i)),
			State: layout.SnapshotLive, Size: 100 << 12, Lossy: true,
		})
	}
	zero := layout.SumOf(make([]byte, 4096))
	f.exceptions = []layout.Exception{
		{Chunk: 1, Generation: 1, Slot: 0, Sum: zero},
		{Chunk: 1, Generation: 2, Slot: 1, Sum: zero},
		{Chunk: 7, Generation: 2, Slot: layout.LostSlot, Sum: 5},
		{Branch: 1, Chunk: 1, Generation: 1, Slot: 2}, // for 3
		{Branch: 1, Chunk: 1, Generation: 3, Slot: 3}, // for 5
		{Branch: 1, Chunk: 1, Generation: 5, Slot: 4},
		{Branch: 3, Chunk: 2, Generation: 3, Slot: 5},
		{Branch: 3, Chunk: 2, Generation: 4, Slot: 6},
		{Branch: 4, Chunk: 9, Generation: 4, Slot: 7},
	}
	return f
}

func (f *family) find(t *testing.T) []check.Violation {
	var changes []layout.Change
	var slots bulkSlots
	for _, e := range f.exceptions {
		changes = append(changes, layout.Change{Branch: e.Branch, Generation: e.Generation, Chunk: e.Chunk})
		slots.add(e.Slot)
	}
	slices.SortFunc(changes, layout.ChangeCodec{}.Compare)
	require.NoError(t, checktest.WriteStore(f.device, f.sb, bulk.Contents{
		Exceptions: slices.Values(f.exceptions), Changes: slices.Values(changes), Slots: slots.words(), Snapshots: slices.Values(f.snapshots),
	}, 1))
	var found []check.Violation
	for v := range check.Check(check.Devices{Store: f.device}, check.Options{Data: true}) {
		found = append(found, v)
	}
	return found
}

// bulkSlots are allocated slots below 64.
type bulkSlots uint64

func (b *bulkSlots) add(s block.Slot) {
	if s < 64 {
		*b |= 1 << s
	}
}

func (b bulkSlots) words() func(func(layout.SlotWord) bool) {
	return slices.Values([]layout.SlotWord{{Bits: uint64(b)}})
}

func TestBranches(t *testing.T) {
	for name, test := range map[string]struct {
		change func(f *family)
		want   []check.Code
	}{
		"as it is": {func(*family) {}, nil},
		"branch of no snapshot": {
			func(f *family) { f.exceptions[8].Branch = 5; f.snapshots = f.snapshots[:4] },
			sorted(check.BadException, check.NeedlessCopy), // and nobody reads branch 1 at 3
		},
		"generation before its branch": {func(f *family) { f.exceptions[8].Generation = 3 }, sorted(check.BadException)},
		"generation to come":           {func(f *family) { f.exceptions[8].Generation = 6 }, sorted(check.BadException)},
		"chunk beyond its snapshot":    {func(f *family) { f.snapshots[3].Size = 9 << 12 }, sorted(check.BadException)},
		"chunk beyond the origin":      {func(f *family) { f.exceptions[2].Chunk = 100 }, sorted(check.BadException)},
		"chunk of a larger snapshot": {
			func(f *family) { f.exceptions[2].Chunk = 100; f.snapshots[1].Size = 101 << 12 }, nil,
		},
		"slot beyond the store":    {func(f *family) { f.exceptions[8].Slot = 200 }, sorted(check.BadException)},
		"checksum of a branch":     {func(f *family) { f.exceptions[8].Sum = 1 }, sorted(check.BadException)},
		"nobody reads the old":     {func(f *family) { f.snapshots = slices.Delete(f.snapshots, 4, 5) }, sorted(check.NeedlessCopy)},
		"somebody going read it":   {func(f *family) { f.snapshots[4].State = layout.SnapshotDeleting }, nil},
		"going with descendants":   {func(f *family) { f.snapshots[2].State = layout.SnapshotDeleting }, sorted(check.BadSnapshot)},
		"squashed and descendants": {func(f *family) { f.snapshots[0].State = layout.SnapshotSquashed }, sorted(check.BadSnapshot)},
		"parent that is not there": {
			func(f *family) { f.snapshots = slices.Delete(f.snapshots, 2, 3) },
			sorted(check.BadSnapshot, check.BadException, check.NeedlessCopy),
		},
		"parent that went first": {
			func(f *family) {
				f.snapshots[3].State = layout.SnapshotDeleting
				f.snapshots = slices.Delete(f.snapshots, 2, 3)
				f.exceptions = slices.Delete(f.exceptions, 6, 8)
			}, sorted(check.NeedlessCopy), // what snapshot 3 read of branch 1
		},
		"same name":        {func(f *family) { f.snapshots[3].Name = "a" }, sorted(check.BadSnapshot)},
		"no names":         {func(f *family) { f.snapshots[3].Name = ""; f.snapshots[2].Name = "" }, nil},
		"same tag":         {func(f *family) { f.snapshots[3].Tag = 10 }, sorted(check.BadSnapshot)},
		"tag of one going": {func(f *family) { f.snapshots[4].Tag = 10; f.snapshots[4].State = layout.SnapshotDeleting }, nil},
		"restore":          {func(f *family) { f.sb.Restore = layout.Restore{Generation: 2, Next: 100} }, nil},
		"restore too far":  {func(f *family) { f.sb.Restore = layout.Restore{Generation: 2, Next: 101} }, sorted(check.BadRestore)},
		"restore of one going": {
			func(f *family) {
				f.snapshots[4].State = layout.SnapshotDeleting
				f.sb.Restore = layout.Restore{Generation: 5}
			}, sorted(check.BadRestore),
		},
		"restore of nothing": {
			func(f *family) {
				f.snapshots, f.sb.Restore = slices.Delete(f.snapshots, 4, 5), layout.Restore{Generation: 5}
			}, sorted(check.BadRestore, check.NeedlessCopy),
		},
		"grown into a free slot": {
			func(f *family) { f.sb.Grown = []layout.Extent{{First: 100 + 20, Len: 2}} }, sorted(check.BadSlots),
		},
		"grown into used slots": {
			func(f *family) { f.sb.Grown = []layout.Extent{{First: 100 + 6, Len: 2}} }, sorted(check.SharedSlot),
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFamily()
			test.change(f)
			found := f.find(t)
			require.Equal(t, test.want, names(found, check.Leak), checktest.Format(found))
		})
	}
}

// What a repair gave up as lost is told of, and is no damage.
func TestLostChunksAreNotes(t *testing.T) {
	f := newFamily()
	f.snapshots[1].Damaged = true
	found := f.find(t)
	require.Equal(t, []check.Code{check.LostData}, names(found, check.Note))
	require.Len(t, found, 2)
	require.Contains(t, found[1].Structure, "chunk 7, generation 2")

	var out strings.Builder
	require.NoError(t, check.Dump(check.Devices{Store: f.device}, &out, check.DumpOptions{First: 7, End: 10}))
	require.Contains(t, out.String(), "exception branch=0 chunk=7 generation=2 lost=true\n")
	require.Contains(t, out.String(), "exception branch=4 chunk=9 generation=4 slot=7")
	require.NotContains(t, out.String(), "chunk=1 ")
	require.Contains(t, out.String(), "name=b damaged=true lossy=true")
}

// A snapshot that has lost a chunk says so.
func TestLossySnapshotsAreMarked(t *testing.T) {
	for i, want := range [][]check.Code{{check.BadSnapshot}, {check.BadSnapshot}, nil, nil, nil} {
		f := newFamily()
		f.snapshots[i].Lossy = false
		found := f.find(t)
		require.Equal(t, want, names(found, check.Leak), checktest.Format(found))
	}
}
