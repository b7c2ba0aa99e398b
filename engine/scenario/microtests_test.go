// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// The micro-tests are done on 16 chunks of 16 KiB.
const (
	microChunk  = 16 << 10
	microChunks = 16
)

var placements = []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem}

// poison fills devices with DEADBEEF when they are first used, so that what nobody
// has written is not taken for zeroes.
func poison(t testing.TB) rig.Wrappers {
	done := make(map[string]bool)
	return rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if !done[name] {
			done[name] = true
			p := bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 1<<18)
			for off := int64(0); off < d.Size(); off += int64(len(p)) {
				_, err := d.WriteAt(p[:min(int64(len(p)), d.Size()-off)], off)
				require.NoError(t, err)
			}
			require.NoError(t, d.Flush())
		}
		return d
	}}
}

// mustBeClean has the independent checker judge the rig's devices, copies included.
func mustBeClean(r *rig.Rig) error {
	d := check.Devices{Store: r.Devices.Store, Meta: r.Devices.Meta, Journal: r.Devices.Journal}
	if found := checktest.Violations(d, check.Leak); len(found) > 0 {
		return &violations{checktest.Format(found)}
	}
	return nil
}

type violations struct{ text string }

func (v *violations) Error() string { return "violations:\n" + v.text }

// open builds a rig and a model of it.
func open(t testing.TB, o rig.Options, w rig.Wrappers) *metamorphic.Runner {
	r, err := metamorphic.NewRunner(o, w)
	require.NoError(t, err)
	r.Check = mustBeClean
	t.Cleanup(func() { r.Rig.Abandon() })
	return r
}

// Steps of a case, in chunks.
type step = metamorphic.Op

var seeds uint64

func seed() uint64 {
	seeds++
	return seeds
}

// in returns an operation on n bytes at an offset in a chunk.
func in(kind metamorphic.Kind, tag block.Tag, chunk, off, n int64) step {
	return step{Kind: kind, Tag: tag, Off: chunk*microChunk + off, Len: n, Seed: seed()}
}

func origin(chunk int64) step            { return in(metamorphic.Write, 0, chunk, 0, microChunk) }
func on(tag block.Tag, chunk int64) step { return in(metamorphic.WriteSnap, tag, chunk, 0, microChunk) }
func snap(tag block.Tag) step            { return step{Kind: metamorphic.Snapshot, Tag: tag} }
func allOrigin() step                    { return in(metamorphic.Write, 0, 0, 0, microChunks*microChunk) }
func allOn(tag block.Tag) step {
	return in(metamorphic.WriteSnap, tag, 0, 0, microChunks*microChunk)
}

// drop closes and deletes snapshots, and frees what only they needed.
func drop(tags ...block.Tag) (list []step) {
	for _, tag := range tags {
		list = append(list, step{Kind: metamorphic.CloseSnap, Tag: tag}, step{Kind: metamorphic.Delete, Tag: tag}, step{Kind: metamorphic.Maintain})
	}
	return list
}

// eight makes 8 snapshots, each after a write to the origin, and writes to each.
func eight() (list []step) {
	for tag := range block.Tag(8) {
		list = append(list, snap(tag), origin(int64(tag)), origin(15), on(tag, 14), on(tag, int64(tag)))
	}
	return list
}

var restart = step{Kind: metamorphic.Reopen}

func join(parts ...any) (list []step) {
	for _, p := range parts {
		switch p := p.(type) {
		case step:
			list = append(list, p)
		case []step:
			list = append(list, p...)
		}
	}
	return list
}

// The 29 cases. The original's are known by what they are about, not one by one.
var microtests = []struct {
	name  string
	steps []step
}{
	{"origin write without snapshots", join(origin(3))},
	{"snapshot, nothing written", join(snap(0))},
	{"snapshot, origin write", join(snap(0), origin(3))},
	{"snapshot, origin write of all chunks", join(snap(0), allOrigin())},
	{"snapshot, snapshot write", join(snap(0), on(0, 3))},
	{"snapshot, snapshot write of all chunks", join(snap(0), allOn(0))},
	{"origin write, then snapshot write of the same chunk", join(snap(0), origin(3), on(0, 3))},
	{"snapshot write, then origin write of the same chunk", join(snap(0), on(0, 3), origin(3))},
	{"origin write, then snapshot write of another chunk", join(snap(0), origin(3), on(0, 4))},
	{"snapshot write, then origin write of another chunk", join(snap(0), on(0, 4), origin(3))},
	{"origin written twice", join(snap(0), origin(3), origin(3))},
	{"snapshot written twice", join(snap(0), on(0, 3), on(0, 3))},
	{"part of a chunk of the origin", join(snap(0), in(metamorphic.Write, 0, 3, 512, 4096))},
	{"part of a chunk of the snapshot", join(snap(0), in(metamorphic.WriteSnap, 0, 3, 512, 4096))},
	{"parts of one chunk of both", join(snap(0), in(metamorphic.WriteSnap, 0, 3, 512, 4096), in(metamorphic.Write, 0, 3, 2048, 8192),
		in(metamorphic.WriteSnap, 0, 3, 4096, 512))},
	{"writes across chunks", join(snap(0), in(metamorphic.Write, 0, 3, 8192, microChunk), in(metamorphic.WriteSnap, 0, 4, 8192, microChunk))},
	{"two snapshots, nothing between", join(snap(0), snap(1), origin(3))},
	{"two snapshots, origin write between", join(snap(0), origin(3), snap(1), origin(3))},
	{"two snapshots, write to the older", join(snap(0), origin(3), snap(1), on(0, 3), on(0, 5), origin(5))},
	{"two snapshots, write to the newer", join(snap(0), origin(3), snap(1), on(1, 3), on(1, 5), origin(5))},
	{"two snapshots, writes to both", join(snap(0), snap(1), on(0, 3), on(1, 3), origin(3), on(1, 6), on(0, 6))},
	{"8 snapshots", join(eight(), allOrigin())},
	{"8 snapshots, delete the oldest", join(eight(), drop(0), allOrigin())},
	{"8 snapshots, delete the newest", join(eight(), drop(7), allOrigin())},
	{"8 snapshots, delete those in the middle", join(eight(), drop(3, 4, 5), allOrigin())},
	{"8 snapshots, delete all, make them again", join(eight(), drop(5, 0, 7, 2, 4, 1, 6, 3), allOrigin(), eight())},
	{"restart after origin writes", join(snap(0), origin(3), restart, origin(3), origin(4))},
	{"restart after snapshot writes", join(snap(0), on(0, 3), restart, on(0, 3), origin(3))},
	{"8 snapshots, restarts and deletes", join(eight(), restart, drop(0, 3), restart, allOrigin(), drop(7), restart, origin(1))},
}

func TestSnapshotMicrotests(t *testing.T) {
	require.Len(t, microtests, 29)
	for _, p := range placements {
		for _, c := range microtests {
			t.Run(p.String()+"/"+c.name, func(t *testing.T) {
				o := rig.Options{
					OriginSize: microChunks * microChunk, ChunkSize: microChunk, Placement: p, StoreSize: 12 << 20, JournalSize: 1 << 20,
				}
				var w rig.Wrappers
				if p == layout.PlacementInline {
					w = poison(t)
				}
				r := open(t, o, w)
				require.NoError(t, r.Do(allOrigin()))
				for _, s := range join(c.steps, restart) {
					require.NoError(t, r.Do(s), "%v", s)
					require.NoError(t, r.Compare(), "after %v", s)
				}
				require.Zero(t, r.Failed)
			})
		}
	}
}
