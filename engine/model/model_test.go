// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/model"
)

const size = 4 * block.SectorSize

// plain are no attributes.
var plain model.Attributes

// sectors returns the bytes of stamps.
func sectors(stamps ...model.Stamp) []byte {
	p := make([]byte, len(stamps)*block.SectorSize)
	for i, s := range stamps {
		model.Same(s).Fill(p[i*block.SectorSize:(i+1)*block.SectorSize], 0)
	}
	return p
}

func write(d *model.Disk, sector int64, s model.Stamp) {
	d.Writing(sector*block.SectorSize, block.SectorSize, model.Same(s))
	d.Wrote(sector*block.SectorSize, block.SectorSize, model.Same(s))
}

func create(v *model.Volume, tag block.Tag, of model.Parent, a model.Attributes) *model.Snapshot {
	v.Creating(tag, of, a)
	v.Created(tag)
	return v.Snapshot(tag)
}

// list returns what a store that is as it must be says of its snapshots.
func list(v *model.Volume, contents ...[]byte) (found []model.Found) {
	for i, s := range v.Snapshots() {
		f := model.Found{Tag: s.Tag, Of: s.Of, Attributes: s.Attributes, Squashed: s.Squashed}
		if i < len(contents) {
			f.Content = contents[i]
		}
		found = append(found, f)
	}
	return found
}

func TestReadsReturnTheLastWrite(t *testing.T) {
	d := model.New(size).Origin
	require.NoError(t, d.Check(0, sectors(0, 0, 0, 0)))
	write(d, 1, 5)
	write(d, 1, 6)
	require.NoError(t, d.Check(512, sectors(6, 0)))
	require.ErrorContains(t, d.Check(512, sectors(5)), "sector 1 holds 0000000000000005, want 0000000000000006")
	require.Error(t, d.Check(size, sectors(0)), "beyond the end")
	write(d, 2, model.Any)
	require.NoError(t, d.Check(1024, sectors(99)))
	torn := sectors(6)
	torn[300]++
	require.Error(t, d.Check(512, torn))
}

func TestSnapshotsKeepWhatTheirParentHeld(t *testing.T) {
	v := model.New(size)
	write(v.Origin, 0, 1)
	a := create(v, 7, model.Parent{}, plain)
	write(v.Origin, 0, 2)
	require.NoError(t, a.Check(0, sectors(1, 0, 0, 0)))
	require.Error(t, a.Check(0, sectors(2)))
	write(a.Disk, 1, 8)
	b := create(v, 9, model.Parent{Snapshot: true, Tag: 7}, plain)
	write(a.Disk, 1, 9)
	require.NoError(t, b.Check(0, sectors(1, 8, 0, 0)))
	require.NoError(t, v.Origin.Check(0, sectors(2, 0, 0, 0)))
	require.NoError(t, v.CheckList(list(v)))
	require.ErrorContains(t, v.CheckList(list(v)[:1]), "snapshot 9 is lost")
	v.Deleting(7)
	v.Deleted(7)
	require.Empty(t, v.Snapshots(), "and all under it")
}

func TestPowerCuts(t *testing.T) {
	base := model.New(size)
	write(base.Origin, 0, 1)
	base.Origin.Flushed()
	write(base.Origin, 0, 2)
	write(base.Origin, 0, 3)
	write(base.Origin, 1, 4)
	create(base, 1, model.Parent{}, plain) // makes all durable
	write(base.Origin, 2, 5)
	base.Origin.Writing(3*512, 512, model.Same(6)) // under way
	base.Creating(2, model.Parent{}, plain)
	base.Deleting(1)
	one := model.Found{Tag: 1, Content: sectors(3, 4, 0, 0)}
	two := model.Found{Tag: 2, Content: sectors(3, 4, 5, 0)}

	for _, c := range []struct {
		what   string
		live   []model.Found
		origin []byte
		broken string
	}{
		{"all survives", []model.Found{one, two}, sectors(3, 4, 5, 6), ""},
		{"what is under way is lost", []model.Found{one}, sectors(3, 4, 0, 0), ""},
		{"it is torn", []model.Found{two}, sectors(3, 4, 0, 6), ""},
		{"what was flushed is lost", []model.Found{one}, sectors(2, 4, 5, 0), "sector 0 holds"},
		{"something else is there", []model.Found{one}, sectors(3, 4, 5, 7), "sector 3 holds"},
		{"a snapshot that nobody made", []model.Found{one, {Tag: 3}}, sectors(3, 4, 5, 6), "the snapshots are [1 3]"},
		{"a snapshot of other content", []model.Found{{Tag: 1, Content: sectors(3, 4, 5, 0)}}, sectors(3, 4, 5, 6), "snapshot 1: sector 2"},
	} {
		v := base.Clone()
		err := v.Recover(model.State{Snapshots: c.live, Origin: c.origin})
		if c.broken != "" {
			require.ErrorContains(t, err, c.broken, c.what)
			continue
		}
		require.NoError(t, err, c.what)
		require.NoError(t, v.Origin.Check(0, c.origin), c.what)
		require.NoError(t, v.Recover(model.State{Snapshots: c.live, Origin: c.origin}), "%s: what is left is durable", c.what)
		require.Error(t, v.Recover(model.State{Snapshots: c.live, Origin: sectors(3, 4, 99, 0)}), c.what)
	}
	require.NoError(t, base.Origin.Check(0, sectors(3, 4, 5, 0)), "clones share nothing that changes")
}

// What was written to a snapshot is durable when it was flushed, or when a snapshot
// was made of it.
func TestPowerCutsOfWrittenSnapshots(t *testing.T) {
	v := model.New(size)
	a := create(v, 1, model.Parent{}, plain)
	write(a.Disk, 0, 1)
	v.Creating(2, model.Parent{Snapshot: true, Tag: 1}, plain)
	lost := v.Clone()
	require.NoError(t, lost.Recover(model.State{Snapshots: list(v, sectors(0, 0, 0, 0)), Origin: sectors(0, 0, 0, 0)}))
	v.Created(2)
	write(v.Snapshot(2).Disk, 1, 7)
	require.ErrorContains(t, v.Clone().Recover(model.State{
		Snapshots: list(v, sectors(0, 0, 0, 0), sectors(1, 0, 0, 0)), Origin: sectors(0, 0, 0, 0),
	}), "snapshot 1: sector 0")
	require.NoError(t, v.Recover(model.State{Snapshots: list(v, sectors(1, 0, 0, 0), sectors(1, 0, 0, 0)), Origin: sectors(0, 0, 0, 0)}))
	v.Deleting(1)
	require.ErrorContains(t, v.Recover(model.State{Snapshots: list(v)[1:], Origin: sectors(0, 0, 0, 0)}), "snapshot 1 is gone, snapshot 2 of it is not")
}

func TestAttributesAreOldOrNew(t *testing.T) {
	v := model.New(size)
	s := create(v, 1, model.Parent{}, plain)
	zeroes := sectors(0, 0, 0, 0)
	held := model.Attributes{Held: true, Name: "a", Priority: -3, UseCount: 2}
	found := list(v, zeroes)
	found[0].Attributes = held
	require.Error(t, v.Clone().Recover(model.State{Snapshots: found, Origin: zeroes}))
	s.Changing(held)
	require.NoError(t, v.Clone().Recover(model.State{Snapshots: list(v, zeroes), Origin: zeroes}))
	require.NoError(t, v.Clone().Recover(model.State{Snapshots: found, Origin: zeroes}))
	s.Changed(held)
	found[0].Attributes = plain
	require.Error(t, v.Recover(model.State{Snapshots: found, Origin: zeroes}), "and new for good once confirmed")
}

func TestFullStoresDropInOrder(t *testing.T) {
	v := model.New(size)
	v.Drop = true
	create(v, 1, model.Parent{}, model.Attributes{Held: true})
	create(v, 2, model.Parent{}, model.Attributes{Priority: 5})
	create(v, 3, model.Parent{}, plain)
	create(v, 4, model.Parent{Snapshot: true, Tag: 3}, plain)
	create(v, 5, model.Parent{}, model.Attributes{Priority: model.NeverDropped})
	all := list(v)
	require.Equal(t, block.Tag(4), v.Victim().Tag)
	require.NoError(t, v.Clone().Dropped(all))
	require.Error(t, v.Clone().Dropped([]model.Found{all[0], all[1], all[3], all[4]}), "3 has a snapshot of its own")
	require.Error(t, v.Clone().Dropped([]model.Found{all[0], all[2], all[3], all[4]}), "2 is not next")
	squashed := all[0]
	squashed.Squashed = true
	require.NoError(t, v.Dropped([]model.Found{squashed, all[4]}), "1 is squashed when all others are gone")
	require.Nil(t, v.Victim())
	v.Drop = false
	require.Error(t, v.Dropped([]model.Found{squashed}))
}

func TestRestores(t *testing.T) {
	base := model.New(size)
	write(base.Origin, 0, 1)
	create(base, 1, model.Parent{}, plain)
	write(base.Origin, 0, 2)
	write(base.Origin, 1, 2)
	base.Origin.Flushed()
	base.Restoring(1, true)
	before, after, mixed := sectors(2, 2, 0, 0), sectors(1, 0, 0, 0), sectors(1, 2, 0, 0)
	snap := list(base, after)

	require.NoError(t, base.Clone().Recover(model.State{Snapshots: snap, Origin: before}))
	require.NoError(t, base.Clone().Recover(model.State{Snapshots: snap, Origin: after, Restoring: true}))
	require.NoError(t, base.Clone().Recover(model.State{Origin: after}), "it has ended")
	require.Error(t, base.Clone().Recover(model.State{Snapshots: snap, Origin: mixed}))
	require.Error(t, base.Clone().Recover(model.State{Snapshots: snap, Origin: before, Restoring: true}))
	require.Error(t, base.Clone().Recover(model.State{Origin: before}))
	base.RestoreStarted()
	require.NoError(t, base.Origin.Check(0, after))
	require.Error(t, base.Clone().Recover(model.State{Snapshots: snap, Origin: before}))
	require.Error(t, base.Clone().Recover(model.State{Snapshots: snap, Origin: after}), "its end deletes the snapshot")
	v := base.Clone()
	require.NoError(t, v.Recover(model.State{Snapshots: snap, Origin: after, Restoring: true}))
	v.RestoreEnded(nil)
	require.NoError(t, v.Recover(model.State{Origin: after}))
	require.Error(t, v.Recover(model.State{Origin: after, Restoring: true}))
}

func TestResizes(t *testing.T) {
	v := model.New(size)
	write(v.Origin, 3, 7)
	v.Origin.Flushed()
	v.Origin.Resizing(size / 2)
	require.NoError(t, v.Clone().Recover(model.State{Origin: sectors(0, 0, 0, 7)}))
	require.NoError(t, v.Clone().Recover(model.State{Origin: sectors(0, 0)}))
	require.Error(t, v.Clone().Recover(model.State{Origin: sectors(0, 0, 0)}))
	v.Origin.Resized(size / 2)
	require.Error(t, v.Clone().Recover(model.State{Origin: sectors(0, 0, 0, 7)}))
	v.Origin.Resized(size + 512)
	require.NoError(t, v.Origin.Check(0, sectors(0, 0, 0, 7, 0)))
}

func TestDurableSnapshotsAreNotLost(t *testing.T) {
	v := model.New(size)
	create(v, 1, model.Parent{}, plain)
	zeroes := sectors(0, 0, 0, 0)
	found := list(v, zeroes)
	require.ErrorContains(t, v.Clone().Recover(model.State{Origin: zeroes}), "snapshot 1 is lost")
	v.Deleting(1)
	v.Deleted(1)
	require.ErrorContains(t, v.Recover(model.State{Snapshots: found, Origin: zeroes}), "the snapshots are [1], want []", "and deleted ones stay so")
}

func TestFailedWritesSettle(t *testing.T) {
	d := model.New(size).Origin
	d.Writing(0, size, model.Written(8))
	p := make([]byte, size)
	model.Written(8).Fill(p[:1024], 0) // half of it was written
	require.NoError(t, d.Settle(0, p))
	require.NoError(t, d.Check(0, p))
	require.Error(t, d.Settle(0, sectors(1)))

	d.Writing(0, 512, model.Same(9))
	d.Withdraw(0, 512)
	require.Error(t, d.Settle(0, sectors(9)))
}

func FuzzStampsAreTold(f *testing.F) {
	f.Add(uint64(1), int64(2))
	f.Fuzz(func(t *testing.T, seed uint64, no int64) {
		p := make([]byte, block.SectorSize)
		model.Written(seed).Fill(p, no)
		s := model.Written(seed)(no)
		require.True(t, s.Is(p))
		require.Equal(t, s, model.StampIn(p))
		require.NotEqual(t, model.Zero, s)
		require.NotEqual(t, model.Any, s)
		p[511]++
		require.False(t, s.Is(p))
	})
}
