// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/layout"
)

var errRead = errors.New("medium error")

func onesCount(v uint64) uint64 { return uint64(bits.OnesCount64(v)) }

// small returns the state of an area of total free slots, all in memory.
func small(total uint64) *alloc.Slots {
	return alloc.NewSlots(newArea(1<<20).tree(), total, 0)
}

// lease leases want slots, which must succeed.
func lease(t testing.TB, s *alloc.Slots, want uint64) []layout.SlotRun {
	t.Helper()
	got, err := s.Lease(want)
	require.NoError(t, err)
	return got
}

// counts checks what s says of itself.
func counts(t testing.TB, s *alloc.Slots, allocated, used, waiting uint64) {
	t.Helper()
	require.Equal(t, []uint64{allocated, used, waiting}, []uint64{s.Allocated(), s.Used(), s.Waiting()},
		"allocated, used, waiting")
}

func TestLifeOfASlot(t *testing.T) {
	s := small(100)
	require.Equal(t, uint64(100), s.Total())
	require.Equal(t, []layout.SlotRun{run(0, 30)}, lease(t, s, 30))
	require.Equal(t, []layout.SlotRun{run(0, 30)}, s.Leases())
	counts(t, s, 30, 0, 0)

	s.Use(run(10, 20))
	require.Equal(t, []layout.SlotRun{run(0, 10), run(20, 30)}, s.Leases())
	counts(t, s, 30, 10, 0)

	s.Free(run(12, 15))
	s.Free(run(15, 16))
	counts(t, s, 30, 6, 4)
	s.Return(run(25, 30))
	require.Equal(t, []layout.SlotRun{run(0, 10), run(20, 25)}, s.Leases())
	counts(t, s, 30, 6, 9)

	require.NoError(t, s.Freeze())
	counts(t, s, 21, 6, 9)
	s.Free(run(10, 11)) // after the checkpoint was taken: the next one's
	counts(t, s, 21, 5, 10)
	s.Thaw()
	counts(t, s, 21, 5, 1)
	require.NoError(t, s.Freeze())
	s.Thaw()
	counts(t, s, 20, 5, 0)

	require.NoError(t, s.Claim(run(40, 50)))
	counts(t, s, 30, 15, 0)
	require.NoError(t, s.Release(run(41, 50)))
	counts(t, s, 21, 6, 0)
}

// A slot is not leased before the checkpoint that frees it is durable.
func TestFreedSlotsWaitForThaw(t *testing.T) {
	s := small(64)
	lease(t, s, 64)
	s.Use(run(0, 64))
	s.Free(run(8, 24))
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	require.NoError(t, s.Freeze())
	_, err = s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	s.Thaw()
	require.Equal(t, []layout.SlotRun{run(8, 24)}, lease(t, s, 100))
}

// Frozen slots are gone around, on both sides and between two of them.
func TestLeaseGoesAroundFrozenSlots(t *testing.T) {
	s := small(50)
	lease(t, s, 50)
	s.Use(run(0, 50))
	for _, r := range []layout.SlotRun{run(40, 50), run(0, 5), run(20, 21), run(22, 25)} {
		s.Free(r)
	}
	require.NoError(t, s.Freeze())
	s.Thaw()
	s.Free(run(5, 10))
	s.Free(run(21, 22))
	require.NoError(t, s.Freeze())
	require.Equal(t, []layout.SlotRun{run(0, 5), run(20, 21), run(22, 25), run(40, 50)}, lease(t, s, 50))
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	s.Thaw()
	require.Equal(t, []layout.SlotRun{run(5, 10), run(21, 22)}, lease(t, s, 50))
}

// The search goes on where the last one ended, and starts over at the end of the
// area, which need not be that of a word.
func TestLeaseWrapsAround(t *testing.T) {
	for _, total := range []uint64{1, 63, 64, 65, 128, 1000} {
		s := small(total)
		lease(t, s, total)
		s.Use(run(0, total))
		_, err := s.Lease(1)
		require.ErrorIs(t, err, alloc.ErrNoSpace)
		for first := range total {
			s.Free(run(first, first+1))
			require.NoError(t, s.Freeze())
			s.Thaw()
			require.Equal(t, []layout.SlotRun{run(first, first+1)}, lease(t, s, 2))
			s.Use(run(first, first+1))
		}
	}

	s := small(100)
	lease(t, s, 90)
	s.Return(run(0, 50))
	require.NoError(t, s.Freeze())
	s.Thaw()
	require.Equal(t, []layout.SlotRun{run(0, 30), run(90, 100)}, lease(t, s, 40))
	require.Equal(t, []layout.SlotRun{run(0, 30), run(50, 90), run(90, 100)}, s.Leases(), "as given out")
	require.Equal(t, []layout.SlotRun{run(30, 35)}, lease(t, s, 5), "the search goes on after the last slot found")
	require.Equal(t, []layout.SlotRun{run(35, 50)}, lease(t, s, 100))
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
}

func TestLeaseOfNothing(t *testing.T) {
	s := small(10)
	_, err := s.Lease(0)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	counts(t, s, 0, 0, 0)
	_, err = small(0).Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
}

// There are never more than MaxLeases runs, however fragmented the area is.
func TestLeasesAreBounded(t *testing.T) {
	a := newArea(1 << 20)
	s := a.filled(t, 100, func(uint64) uint64 { return 0x5555_5555_5555_5555 })
	got := lease(t, s, 1000)
	require.Len(t, got, alloc.MaxLeases)
	require.Len(t, s.Leases(), alloc.MaxLeases)
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrLeases)
	require.NotZero(t, s.Leasable())
	s.Use(got[5])
	s.Use(got[7])
	require.Len(t, lease(t, s, 1000), 2)
	require.Len(t, s.Leases(), alloc.MaxLeases)
}

// Leases that lie between one another are not joined: used one after another, as a
// client does, they are never more than MaxLeases.
func TestInterleavedLeasesAreBounded(t *testing.T) {
	a := newArea(1 << 20)
	s := a.filled(t, 10, func(uint64) uint64 { return math.MaxUint64 })
	half := func(odd, n uint64) []layout.SlotRun {
		for i := range n {
			s.Free(run(2*i+odd, 2*i+odd+1))
		}
		require.NoError(t, s.Freeze())
		s.Thaw()
		return lease(t, s, n)
	}
	client := append(half(0, alloc.MaxLeases-6), half(1, 6)...)
	require.Len(t, s.Leases(), alloc.MaxLeases)
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrLeases)
	for i, r := range client {
		s.Use(r)
		require.Len(t, s.Leases(), alloc.MaxLeases-1-i)
	}
}

// The store finds slots for itself when clients have as many leases as there may
// be, and new slots are not leased before the limit is raised.
func TestReserveAndGrow(t *testing.T) {
	s := small(1000)
	for i := range uint64(alloc.MaxLeases) {
		require.NoError(t, s.Claim(run(2*i+1, 2*i+2)))
	}
	require.Len(t, lease(t, s, alloc.MaxLeases), alloc.MaxLeases)
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrLeases)
	got, err := s.Reserve(1000)
	require.NoError(t, err)
	require.Equal(t, []layout.SlotRun{run(256, 1000)}, got)
	s.Use(got[0])
	for _, r := range append([]layout.SlotRun{}, s.Leases()...) {
		s.Return(r)
	}
	s.Grow(2000)
	_, err = s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	require.NoError(t, s.Claim(run(1000, 1010)))
	require.Equal(t, uint64(10), s.Beyond())
	s.SetTotal(2000)
	require.Equal(t, uint64(990), s.Leasable())
	require.Equal(t, []layout.SlotRun{run(1010, 2000)}, lease(t, s, 5000))
}

func TestNoSpaceIsENOSPC(t *testing.T) {
	err := fmt.Errorf("leasing: %w", alloc.ErrNoSpace)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	require.NotErrorIs(t, err, unix.EIO)
	require.NotErrorIs(t, fmt.Errorf("writing: %w", unix.ENOSPC), alloc.ErrNoSpace)
}
