// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// scrubbed waits for the end of a scrub.
func scrubbed(t *testing.T, s interface{ ScrubStatus() store.ScrubStatus }) store.ScrubStatus {
	var st store.ScrubStatus
	require.Eventually(t, func() bool { st = s.ScrubStatus(); return !st.Running }, time.Minute, time.Millisecond)
	return st
}

// wrongReads is a device on which some ranges read wrong.
type wrongReads struct {
	device.Device
	hook atomic.Pointer[func(p []byte, off int64) error]
}

func (w *wrongReads) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.Device.ReadAt(p, off)
	if hook := w.hook.Load(); hook != nil && err == nil {
		err = (*hook)(p, off)
	}
	return n, err
}

// withWrongReads returns a rig and the store's device.
func withWrongReads(t *testing.T) (*rig.Rig, *wrongReads) {
	var w *wrongReads
	r, err := rig.New(options(4<<10, 2000), rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != rig.Store {
			return d
		}
		w = &wrongReads{Device: d}
		return w
	}})
	require.NoError(t, err)
	t.Cleanup(r.Abandon)
	return r, w
}

// spoil has the bytes of a slot read wrong.
func (w *wrongReads) spoil(r *rig.Rig, slots ...block.Slot) {
	hook := func(p []byte, off int64) error {
		for _, s := range slots {
			if at := r.Server.DataOffset() + int64(s)<<12 - off; at >= 0 && at < int64(len(p)) {
				p[at] ^= 1
			}
		}
		return nil
	}
	w.hook.Store(&hook)
}

// bytesOf returns n sectors that are not zero.
func bytesOf(n int, b byte) []byte {
	p := make([]byte, n*block.SectorSize)
	for i := range p {
		p[i] = b + byte(i/block.SectorSize)
	}
	return p
}

// slotsOf returns where a snapshot's chunks are.
func slotsOf(t *testing.T, r *rig.Rig, tag block.Tag, first, end block.Chunk) []wire.Mapping {
	o, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: tag}, false, rig.Passive{})
	require.NoError(t, err)
	list, err := r.Server.Map(o.Handle, first, end, nil)
	require.NoError(t, err)
	require.NoError(t, r.Server.CloseSnapshot(o.Handle))
	return list
}

func TestScrubFindsBadChunks(t *testing.T) {
	r, w := withWrongReads(t)
	for tag := block.Tag(1); tag <= 3; tag++ {
		_, err := r.Server.CreateSnapshot(tag)
		require.NoError(t, err)
		if tag == 2 { // chunk 5 has an exception of its own for 1 and 2 together
			_, err = r.Volume.WriteAt(bytesOf(8*20, 9), 0)
			require.NoError(t, err)
		}
	}
	_, err := r.Server.Create(store.NewSnapshot{Tag: 10, Parent: &wire.SnapshotRef{Tag: 1}})
	require.NoError(t, err)
	_, err = r.Volume.WriteAt(bytesOf(8*20, 3), 0)
	require.NoError(t, err)
	require.NoError(t, r.Server.StartScrub(store.ScrubOptions{}))
	st := scrubbed(t, r.Server)
	require.Zero(t, st.BadCount)
	require.EqualValues(t, 40, st.Verified)
	require.EqualValues(t, 40, st.Total)
	require.EqualValues(t, 40<<12, st.Bytes)
	require.Equal(t, 1, st.Passes)

	five, seven := slotsOf(t, r, 1, 5, 6)[0].Slot, slotsOf(t, r, 3, 7, 8)[0].Slot
	w.spoil(r, five, seven)
	require.NoError(t, r.Server.StartScrub(store.ScrubOptions{}))
	st = scrubbed(t, r.Server)
	require.EqualValues(t, 2, st.BadCount)
	require.Equal(t, []block.Tag{1, 2, 10}, st.Bad[0].Snapshots)
	require.EqualValues(t, 5, st.Bad[0].Chunk)
	require.Equal(t, five, st.Bad[0].Slot)
	require.Equal(t, r.Server.DataOffset()+int64(five)<<12, st.Bad[0].Offset)
	require.Contains(t, st.Bad[0].Reason, "checksum")
	require.Equal(t, []block.Tag{3}, st.Bad[1].Snapshots)
	var events []string
	for _, e := range r.Server.Events(0) {
		if e.Kind == store.EventScrub {
			events = append(events, e.String())
		}
	}
	require.Len(t, events, 2)
	require.Contains(t, events[0], "chunk 5 of snapshots [1 2 10]")

	lost := func([]byte, int64) error { return errors.New("medium error") }
	w.hook.Store(&lost)
	require.NoError(t, r.Server.StartScrub(store.ScrubOptions{From: &store.ScrubPosition{Chunk: 18}}))
	st = scrubbed(t, r.Server)
	require.EqualValues(t, 4, st.BadCount)
	require.Contains(t, st.Bad[0].Reason, "medium error")
	w.hook.Store(nil)
}

// A chunk that is freed, and its slot overwritten, while the scrub reads it is not
// bad.
func TestScrubForgivesWhatWasFreed(t *testing.T) {
	r, w := withWrongReads(t)
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	_, err = r.Volume.WriteAt(bytesOf(8*20, 9), 0)
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(2)
	require.NoError(t, err)
	freed := false
	hook := func(p []byte, _ int64) error {
		clear(p)
		p[0] = 77
		if !freed {
			freed = true
			if err := r.Server.DeleteSnapshot(1); err != nil {
				return err
			}
			return r.Maintain()
		}
		return nil
	}
	w.hook.Store(&hook)
	require.NoError(t, r.Server.StartScrub(store.ScrubOptions{}))
	st := scrubbed(t, r.Server)
	w.hook.Store(nil)
	require.True(t, freed)
	require.Zero(t, st.BadCount)
}

// A scrub keeps to its rate, which can be changed, and goes on where it was stopped.
func TestScrubRateAndPosition(t *testing.T) {
	o := checktest.Synthetic{Exceptions: 3000, Snapshots: 10}
	d := memdev.New(o.StoreSize())
	require.NoError(t, o.Write(d))
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(placement.Devices{Store: d}, store.Options{})
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, s.StartScrub(store.ScrubOptions{Rate: 100 << 12}))
		require.ErrorIs(t, s.StartScrub(store.ScrubOptions{}), store.ErrScrubbing)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		st := s.ScrubStatus()
		require.InDelta(t, 1000, st.Verified, 2)
		s.SetScrubRate(1) // and out of an hour's sleep:
		time.Sleep(time.Second)
		s.SetScrubRate(200 << 12)
		time.Sleep(5 * time.Second)
		s.StopScrub()
		s.StopScrub()
		st = s.ScrubStatus()
		require.False(t, st.Running)
		require.InDelta(t, 2000, st.Verified, 5)
		require.NotZero(t, st.Next)
		require.Zero(t, st.Passes)

		require.NoError(t, s.StartScrub(store.ScrubOptions{Rate: 100 << 12}))
		time.Sleep(time.Hour)
		st = s.ScrubStatus()
		require.EqualValues(t, 3000, st.Verified)
		require.Zero(t, st.Next)
		require.Equal(t, 1, st.Passes)
		require.InDelta(t, 10+1+5+10, time.Duration(st.Ended-began.UnixNano()).Seconds(), 0.1)

		require.NoError(t, s.StartScrub(store.ScrubOptions{Rate: 1}))
		require.NoError(t, s.Close()) // stops it
		require.False(t, s.ScrubStatus().Running)
	})
	checktest.MustBeClean(t, check.Devices{Store: d})
}

// What is known to be lost is not read.
func TestScrubLeavesLostChunksOut(t *testing.T) {
	o := checktest.Synthetic{Exceptions: 10, Snapshots: 1, Fill: 1}
	d := memdev.New(o.StoreSize())
	require.NoError(t, o.Write(d))
	page := make([]byte, block.PageSize)
	at := int64(layout.Superblocks+256) * block.PageSize // the first tree page
	_, err := d.ReadAt(page, at)
	require.NoError(t, err)
	h, err := layout.DecodePageHeader(page)
	require.NoError(t, err)
	leaf, err := layout.DecodePage(layout.ExceptionCodec{}, h, page)
	require.NoError(t, err)
	leaf.Entries[4].Slot, leaf.Entries[4].Sum = layout.LostSlot, 1
	clear(page)
	require.NoError(t, layout.EncodePage(layout.ExceptionCodec{}, h, leaf.Entries, nil, page))
	_, err = d.WriteAt(page, at)
	require.NoError(t, err)
	s, err := store.Open(placement.Devices{Store: d}, store.Options{})
	require.NoError(t, err)
	require.NoError(t, s.StartScrub(store.ScrubOptions{}))
	st := scrubbed(t, s)
	require.Zero(t, st.BadCount)
	require.EqualValues(t, 10, st.Verified)
	require.NoError(t, s.Close())
}
