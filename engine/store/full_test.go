// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const fullChunk = 16 << 10

// fullRig is a volume of a few chunks with a store for some of them.
func fullRig(t *testing.T, chunks int64, slots int, policy string) *rig.Rig {
	o := options(fullChunk, slots)
	o.OriginSize, o.Policy, o.ClientWait = chunks*fullChunk, policy, time.Minute
	o.StoreSize -= 672 << 10 // the options' round sum leaves that much more than slots
	return newRunner(t, o, rig.Wrappers{}).Rig
}

// overwrite writes a byte all over n chunks of the origin.
func overwrite(r *rig.Rig, b byte, n int64) error {
	p := device.Buffer(int(n * fullChunk))
	for i := range p {
		p[i] = b
	}
	_, err := r.Volume.WriteAt(p, 0)
	return err
}

// fillUp makes snapshots that are never dropped, and overwrites the origin after each,
// until a write fails.
func fillUp(t *testing.T, r *rig.Rig, from block.Tag) error {
	for tag := from; tag < from+1000; tag++ {
		_, err := r.Server.Create(store.NewSnapshot{Tag: tag, Priority: layout.MaxPriority})
		require.NoError(t, err)
		for chunk := range r.OriginSize / fullChunk {
			if _, err := r.Volume.WriteAt([]byte{511: byte(tag)}, chunk*fullChunk); err != nil {
				return err
			}
		}
	}
	require.Fail(t, "the store never fills up")
	return nil
}

// gone returns what was given up for space, in order.
func gone(r *rig.Rig) (list []string) {
	for _, e := range r.Server.Events(0) {
		if e.Kind == store.EventDropped || e.Kind == store.EventSquashed {
			list = append(list, fmt.Sprintf("%s %d", e.Kind, e.Tag))
		}
	}
	return list
}

// TestVictims has a store fill up and compares which snapshots go, in what order.
func TestVictims(t *testing.T) {
	group := layout.UUID{5}
	cases := []struct {
		name  string
		snaps []store.NewSnapshot // each has chunks of its own
		use   func(t *testing.T, r *rig.Rig)
		want  []string
	}{{
		name:  "the oldest first",
		snaps: []store.NewSnapshot{{Tag: 3}, {Tag: 1}, {Tag: 2}},
		want:  []string{"dropped 3", "dropped 1", "dropped 2"},
	}, {
		name:  "the lowest priority first, whatever the age",
		snaps: []store.NewSnapshot{{Tag: 1}, {Tag: 2, Priority: -128}, {Tag: 3, Priority: 126}, {Tag: 4, Priority: -1}, {Tag: 5}},
		want:  []string{"dropped 2", "dropped 4", "dropped 1", "dropped 5", "dropped 3"},
	}, {
		name:  "127 never",
		snaps: []store.NewSnapshot{{Tag: 1, Priority: 127}, {Tag: 2}, {Tag: 3, Priority: 127, Held: true}},
		want:  []string{"dropped 2"},
	}, {
		name:  "what is held or used last, and only squashed",
		snaps: []store.NewSnapshot{{Tag: 1, Held: true}, {Tag: 2, Priority: -5}, {Tag: 3, Priority: -9}, {Tag: 4, Priority: 100}, {Tag: 5, Priority: -100}},
		use: func(t *testing.T, r *rig.Rig) {
			require.NoError(t, r.Server.Change(wire.SnapshotRef{Tag: 2}, func(s *layout.Snapshot) error { s.UseCount = 1; return nil }))
			v, err := volume.OpenSnapshot(r.Source(), 5)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, v.Close()) })
		},
		want: []string{"dropped 3", "dropped 4", "squashed 5", "squashed 2", "squashed 1"},
	}, {
		name:  "leaf by leaf",
		snaps: []store.NewSnapshot{{Tag: 1, Priority: -9}, {Tag: 2}, {Tag: 3, Parent: &wire.SnapshotRef{Tag: 1}, Priority: 3}, {Tag: 4, Parent: &wire.SnapshotRef{Tag: 3}, Priority: 5}},
		want:  []string{"dropped 2", "dropped 4", "dropped 3", "dropped 1"},
	}, {
		name:  "not the parent of one that stays",
		snaps: []store.NewSnapshot{{Tag: 1}, {Tag: 2, Parent: &wire.SnapshotRef{Tag: 1}, Priority: 127}, {Tag: 3}},
		want:  []string{"dropped 3"},
	}, {
		name:  "members of a group one by one",
		snaps: []store.NewSnapshot{{Tag: 1, Group: group, GroupSize: 2}, {Tag: 2}},
		want:  []string{"dropped 1", "dropped 2"},
	}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := fullRig(t, 16, 40, "drop")
			for i, n := range c.snaps {
				_, err := r.Server.Create(n)
				require.NoError(t, err)
				require.NoError(t, overwrite(r, byte(i+1), 1))
			}
			if c.use != nil {
				c.use(t, r)
			}
			require.ErrorIs(t, fillUp(t, r, 1000), alloc.ErrNoSpace)
			require.Equal(t, c.want, gone(r))
		})
	}
}

// A store was taken to be about to be full, and dropped snapshots in the background, as
// many as it took to free a lease, though no write needed that.
func TestNothingIsDroppedBeforeAWriteWaits(t *testing.T) {
	r := fullRig(t, 32, 40, "drop")
	made := block.Tag(0)
	for ; len(gone(r)) == 0; made++ {
		_, err := r.Server.CreateSnapshot(made)
		require.NoError(t, err)
		for chunk := range int64(4) {
			_, err := r.Volume.WriteAt([]byte{511: byte(made)}, chunk*fullChunk)
			require.NoError(t, err)
			before := gone(r)
			require.NoError(t, r.Maintain())
			require.Equal(t, before, gone(r), "dropped in the background")
		}
	}
	require.Equal(t, []string{"dropped 0"}, gone(r), "a write found no space")
}

// A write that waits for a drop waits until a lease of it is free, not for the rest.
func TestWriteWaitsForPartOfADeletion(t *testing.T) {
	o := options(4<<10, 13_000)
	o.OriginSize, o.Policy = 48<<20, "drop"
	o.LeaseBytes, o.StoreLeaseBytes = 0, 0
	r := newRunner(t, o, rig.Wrappers{}).Rig
	for tag, size := range []int64{o.OriginSize, 4 << 20} {
		_, err := r.Server.CreateSnapshot(block.Tag(tag))
		require.NoError(t, err)
		_, err = r.Volume.WriteAt(device.Buffer(int(size)), 0)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"dropped 0"}, gone(r))
	require.Equal(t, 1, r.Server.Status().SnapshotsGoing)
	before := r.Server.Status().Exceptions
	require.NoError(t, r.Maintain())
	require.Less(t, r.Server.Status().Exceptions, before)
}

func TestDropNamesGroupAndSnapshot(t *testing.T) {
	r := fullRig(t, 16, 40, "drop")
	_, err := r.Server.Create(store.NewSnapshot{Tag: 1, Name: "nightly", Group: layout.UUID{5}, GroupSize: 2})
	require.NoError(t, err)
	require.ErrorIs(t, fillUp(t, r, 1000), unix.ENOSPC)
	all := r.Server.Events(0)
	i := slices.IndexFunc(all, func(e store.Event) bool { return e.Kind == store.EventDropped })
	require.Equal(t, "nightly", all[i].Name)
	require.Equal(t, layout.UUID{5}, all[i].Group)
	require.NotEmpty(t, all[i].Text)
	require.Equal(t, store.EventFull, all[i-1].Kind)
}

// TestDdsnapAutodelete is the original's test of that name: a full store squashes the
// snapshot that is in use, I/O on it fails, and the origin goes on.
func TestDdsnapAutodelete(t *testing.T) {
	r := fullRig(t, 32, 40, "drop")
	_, err := r.Server.CreateSnapshot(0)
	require.NoError(t, err)
	used, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: 0}, true)
	require.NoError(t, err)
	_, err = used.WriteAt([]byte{511: 1}, 0)
	require.NoError(t, err)
	for tag := block.Tag(1); len(gone(r)) == 0; tag++ {
		require.NoError(t, overwrite(r, byte(tag), 32))
		_, err := r.Server.Create(store.NewSnapshot{Tag: tag, Priority: layout.MaxPriority})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"squashed 0"}, gone(r))
	info, err := r.Server.Find(wire.SnapshotRef{Tag: 0})
	require.NoError(t, err)
	require.Equal(t, layout.SnapshotSquashed, info.State, "it stays listed")
	_, err = used.ReadAt(make([]byte, 512), 0)
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorIs(t, err, volume.ErrSquashed)
	_, err = used.WriteAt(make([]byte, 512), 0)
	require.ErrorIs(t, err, unix.EIO)
	_, err = volume.OpenSnapshot(r.Source(), 0)
	require.ErrorIs(t, err, unix.EIO)

	require.ErrorIs(t, r.Server.DeleteSnapshot(0), store.ErrInUse)
	_ = used.Close()
	require.NoError(t, r.Server.DeleteSnapshot(0))
	_, err = r.Server.CreateSnapshot(0)
	require.NoError(t, err, "creating goes on")
	require.NoError(t, r.Close())
	require.NoError(t, r.Open())
}

// awaitFull returns when a write has found the store full.
func awaitFull(events <-chan store.Event) {
	for e := range events {
		if e.Kind == store.EventFull {
			return
		}
	}
}

// TestBlockedWrite has a write wait for space while snapshots are made and deleted.
func TestBlockedWrite(t *testing.T) {
	ends := []struct {
		name string
		end  func(r *rig.Rig) error
		want error
	}{
		{"a deletion", func(r *rig.Rig) error { return r.Server.DeleteSnapshot(1) }, nil},
		{"another policy", func(r *rig.Rig) error { return r.Server.SetPolicy(layout.PolicyFailWrites) }, alloc.ErrNoSpace},
		{"a policy that drops", func(r *rig.Rig) error { return r.Server.SetPolicy(layout.PolicyDrop) }, nil},
		{"the end of the origin", func(r *rig.Rig) error { return r.Volume.Close() }, device.ErrClosed},
	}
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) {
			r := fullRig(t, 32, 40, "block")
			events, cancel := r.Server.Subscribe(100)
			defer cancel()
			_, err := r.Server.CreateSnapshot(1)
			require.NoError(t, err)
			require.NoError(t, overwrite(r, 1, 32))
			_, err = r.Server.CreateSnapshot(2)
			require.NoError(t, err)
			done := make(chan error)
			go func() { done <- overwrite(r, 2, 32) }()
			awaitFull(events)
			_, err = r.Server.CreateSnapshot(100)
			require.NoError(t, err, "snapshots are made while a write waits")
			require.NoError(t, r.Server.DeleteSnapshot(100))
			select {
			case err := <-done:
				require.Fail(t, "the write did not wait", "%v", err)
			default:
			}
			require.NoError(t, c.end(r))
			err = <-done
			if c.want == nil {
				require.NoError(t, err)
				p, err := r.ReadSnapshot(2, 0, r.OriginSize)
				require.NoError(t, err)
				require.Equal(t, []byte{1, 1}, []byte{p[0], p[len(p)-1]})
				return
			}
			require.ErrorIs(t, err, c.want)
		})
	}
}

// writeFull opens a snapshot for writing and lets the origin take most of the store.
func writeFull(t *testing.T, r *rig.Rig) *volume.Snapshot {
	for tag := block.Tag(1); tag <= 2; tag++ {
		_, err := r.Server.CreateSnapshot(tag)
		require.NoError(t, err)
	}
	v, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: 1}, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	require.NoError(t, overwrite(r, 1, 30))
	return v
}

func TestSnapshotWriteDropsNothing(t *testing.T) {
	r := fullRig(t, 32, 40, "drop")
	v := writeFull(t, r)
	_, err := v.WriteAt(device.Buffer(16*fullChunk), 0)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.Empty(t, gone(r))
}

// TestBlockedSnapshotWrite has a write to a snapshot wait, and keep nobody waiting.
func TestBlockedSnapshotWrite(t *testing.T) {
	r := fullRig(t, 32, 40, "block")
	v := writeFull(t, r)
	events, cancel := r.Server.Subscribe(100)
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := v.WriteAt(device.Buffer(16*fullChunk), 0)
		done <- err
	}()
	awaitFull(events)
	child, err := r.Server.Create(store.NewSnapshot{Tag: 3, Parent: &wire.SnapshotRef{Tag: 1}})
	require.NoError(t, err, "a snapshot of it is made while it waits")
	require.NotZero(t, child.Parent)
	require.NoError(t, r.Server.DeleteSnapshot(3))
	require.NoError(t, r.Server.SetPolicy(layout.PolicyFailWrites))
	require.ErrorIs(t, <-done, unix.ENOSPC)
}

// deaf is a snapshot's client that does not answer before it is let to.
type deaf struct {
	answer chan struct{}
	told   wire.SnapshotState
}

func (d *deaf) Quiesce(change func() (wire.SnapshotState, error)) (err error) {
	<-d.answer
	d.told, err = change()
	return err
}

// A client that does not hear that its snapshot was squashed may still use its slots:
// they are not given to others, and the origin does not wait for it for long.
func TestClientThatDoesNotAnswer(t *testing.T) {
	o := options(fullChunk, 40)
	o.OriginSize, o.Policy, o.ClientWait = 16*fullChunk, "drop", time.Millisecond
	o.StoreSize -= 672 << 10
	r := newRunner(t, o, rig.Wrappers{}).Rig
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	client := &deaf{answer: make(chan struct{})}
	session, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: 1}, false, client)
	require.NoError(t, err)
	require.NoError(t, overwrite(r, 1, 16))
	require.ErrorIs(t, fillUp(t, r, 1000), alloc.ErrNoSpace)
	require.Equal(t, []string{"squashed 1"}, gone(r))
	_, err = r.Server.Map(session.Handle, 0, 16, nil)
	require.ErrorIs(t, err, store.ErrSquashed)
	require.NoError(t, r.Maintain())
	before := r.Server.Status().Exceptions

	close(client.answer)
	for range 1000 { // until the answer is in
		if r.Server.AwaitSpace(0) == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, r.Server.AwaitSpace(0))
	require.Equal(t, before-16, r.Server.Status().Exceptions)
	require.True(t, client.told.Squashed)
	require.NoError(t, r.Server.CloseSnapshot(session.Handle))
}

// What a snapshot that was squashed shares with others stays for as long as its client
// may read it, though the others are deleted.
func TestStalledReaderKeepsWhatItShares(t *testing.T) {
	o := options(fullChunk, 60)
	o.OriginSize, o.Policy, o.ClientWait = 16*fullChunk, "drop", time.Millisecond
	o.StoreSize -= 672 << 10
	r := newRunner(t, o, rig.Wrappers{}).Rig
	require.NoError(t, overwrite(r, 77, 16))
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	_, err = r.Server.Create(store.NewSnapshot{Tag: 2, Priority: layout.MaxPriority})
	require.NoError(t, err)
	client := &deaf{answer: make(chan struct{})}
	session, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: 1}, false, client)
	require.NoError(t, err)
	require.NoError(t, overwrite(r, 1, 16)) // copies for both
	known, err := r.Server.Map(session.Handle, 0, 16, nil)
	require.NoError(t, err)
	require.ErrorIs(t, fillUp(t, r, 1000), alloc.ErrNoSpace)
	require.Equal(t, []string{"squashed 1"}, gone(r))

	require.NoError(t, r.Server.DeleteSnapshot(2))
	for tag := block.Tag(1000); ; tag++ { // slots for others
		if err := r.Server.DeleteSnapshot(tag); err != nil {
			require.ErrorIs(t, err, store.ErrNoSnapshot)
			break
		}
	}
	require.NoError(t, r.Maintain())
	require.EqualValues(t, 16, r.Server.Status().Exceptions)
	require.ErrorIs(t, fillUp(t, r, 2000), alloc.ErrNoSpace)
	p := device.Buffer(fullChunk)
	for _, m := range known {
		require.Equal(t, wire.Stored, m.Kind)
		for i := range block.Slot(m.Len) {
			_, err := r.Source().Store.Store.ReadAt(p, r.Server.DataOffset()+int64(m.Slot+i)*fullChunk)
			require.NoError(t, err)
			require.Equal(t, bytes.Repeat([]byte{77}, fullChunk), p, "what the client reads of chunk %d", m.Chunk+block.Chunk(i))
		}
	}
	before := r.Server.Status().Exceptions
	close(client.answer)
	require.Eventually(t, func() bool { return r.Server.AwaitSpace(0) == nil }, time.Minute, time.Millisecond)
	require.Equal(t, before-16, r.Server.Status().Exceptions)
	require.NoError(t, r.Server.CloseSnapshot(session.Handle))
}

// TestFillEvents passes the marks up and down: each is told once a climb.
func TestFillEvents(t *testing.T) {
	r := fullRig(t, 64, 40, "fail-writes")
	slots := r.Server.Status().Slots
	told := func() (list []string) {
		for _, e := range r.Server.Events(0) {
			if e.Kind == store.EventFill {
				list = append(list, e.Text[5:7])
			}
		}
		return list
	}
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	require.NoError(t, overwrite(r, 1, int64(slots)*3/4-2)) // and a descriptor
	require.Empty(t, told())
	require.NoError(t, overwrite(r, 1, int64(slots)*3/4+1))
	require.Equal(t, []string{"75"}, told())
	require.ErrorIs(t, fillUp(t, r, 10), unix.ENOSPC)
	require.Equal(t, "95", told()[len(told())-1])
	before := len(told())
	require.NoError(t, r.Server.DeleteSnapshot(1))
	require.NoError(t, r.Maintain())
	require.Less(t, r.Server.Status().SlotsUsed, slots/2)
	require.ErrorIs(t, fillUp(t, r, 20), unix.ENOSPC)
	require.Greater(t, len(told()), before)
}

// TestStatusForecasts runs a store on a clock of its own.
func TestStatusForecasts(t *testing.T) {
	r := fullRig(t, 32, 40, "fail-writes")
	f := r.Server.Status().Fill
	require.Equal(t, store.Never, f.UntilFull)
	require.Zero(t, f.Rate)
	require.Positive(t, f.Free)
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	require.NoError(t, overwrite(r, 1, 20))
	f = r.Server.Status().Fill
	require.InEpsilon(t, 2*fullChunk, f.Rate, 0.02, "20 chunks in at least ten seconds")
	require.InEpsilon(t, float64(f.Free)/f.Rate, f.UntilFull.Seconds(), 0.01)
	require.ErrorIs(t, fillUp(t, r, 10), unix.ENOSPC)
	require.True(t, r.Server.Status().Full)
	m := r.Server.Status().MetadataFill
	require.Positive(t, m.Used)
	require.Positive(t, m.Free)
}

// TestEverythingFull fills slots, metadata pages and the ring of snapshot records at
// once, with snapshots of the longest names and what was written to some of them. Then
// attributes still change, drops make room, and all can be deleted.
func TestEverythingFull(t *testing.T) {
	r := fullRig(t, 32, 400, "fail-writes")
	name := func(tag block.Tag) string { return fmt.Sprintf("%0*d", layout.MaxName, tag) }
	made := block.Tag(0)
	for ; ; made++ {
		n := store.NewSnapshot{Tag: made, Name: name(made), Group: layout.UUID{byte(made), 1}, GroupSize: 1}
		if made%7 == 3 {
			n.Parent = &wire.SnapshotRef{Tag: made - 1}
		}
		if _, err := r.Server.Create(n); err != nil {
			require.ErrorIs(t, err, alloc.ErrNoSpace)
			break
		}
		require.Less(t, made, block.Tag(20_000))
		if made%20 == 0 && !r.Server.Status().Full {
			_ = overwrite(r, byte(made), 5)
		}
		if made%50 == 3 && !r.Server.Status().Full {
			writeSome(t, r, made)
		}
	}
	require.Greater(t, made, block.Tag(500))
	for chunk := int64(1); !r.Server.Status().Full; chunk++ {
		_ = overwrite(r, byte(chunk), chunk%32+1)
		writeSome(t, r, made-1-block.Tag(chunk)%made)
	}
	for i := range 3 * made { // many rings of records
		err := r.Server.Change(wire.SnapshotRef{Tag: i % made}, func(s *layout.Snapshot) error { s.UseCount++; return nil })
		require.NoError(t, err)
	}
	for i := range 3 * made {
		err := r.Server.Change(wire.SnapshotRef{Tag: i % made}, func(s *layout.Snapshot) error { s.UseCount--; return nil })
		require.NoError(t, err)
	}
	require.NoError(t, r.Server.SetPolicy(layout.PolicyDrop))
	for b := range byte(20) {
		require.NoError(t, overwrite(r, b, 32))
	}
	require.NotEmpty(t, gone(r))
	require.NoError(t, r.Close())
	require.NoError(t, r.Open())
	list := r.Server.Snapshots()
	slices.Reverse(list) // from the leaves
	for _, s := range list {
		require.NoError(t, r.Server.DeleteSnapshot(s.Tag))
	}
	requireEmpty(t, r)
}

// Snapshots had no names, and their entries took half of the metadata pages. Then they
// were given long names, which took all, so that no checkpoint had room any more.
func TestNamesLeaveRoomForDeletion(t *testing.T) {
	r := fullRig(t, 32, 20, "fail-writes")
	made := block.Tag(0)
	for ; ; made++ {
		if _, err := r.Server.CreateSnapshot(made); err != nil {
			require.ErrorIs(t, err, alloc.ErrNoSpace)
			break
		}
	}
	refused := 0
	for tag := range made {
		err := r.Server.Change(wire.SnapshotRef{Tag: tag}, func(s *layout.Snapshot) error {
			s.Name = fmt.Sprintf("%0*d", layout.MaxName, tag)
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, alloc.ErrNoSpace)
			refused++
		}
	}
	require.Positive(t, refused)
	for tag := range made {
		require.NoError(t, r.Server.DeleteSnapshot(tag))
	}
	requireEmpty(t, r)
}

// writeSome writes to a snapshot as far as there is space.
func writeSome(t *testing.T, r *rig.Rig, tag block.Tag) {
	v, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: tag}, true)
	require.NoError(t, err)
	if _, err := v.WriteAt(device.Buffer(2*fullChunk), 0); err != nil {
		require.ErrorIs(t, err, unix.ENOSPC)
	}
	require.NoError(t, v.Close())
}
