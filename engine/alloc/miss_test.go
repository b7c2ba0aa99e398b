// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

// What a failed read leaves of an operation is completed by the next, or given
// back by a Return; nothing is lost or counted twice.
func TestFailedReadsLeaveNoLeak(t *testing.T) {
	for nth := 1; ; nth++ {
		rng := newRand(3)
		a := newArea(0)
		s := a.filled(t, 9000, func(uint64) uint64 { return random(rng) | 1 })
		for i := uint64(0); i < 9000; i += 50 {
			s.Free(run(i*64, i*64+1))
		}
		used, waiting := s.Used(), s.Waiting()
		a.failAt = a.reads + nth
		got, err := resolveLease(s, &lock{}, 2000)
		if err == nil {
			err = btree.Resolve(&lock{}, s.Freeze)
		}
		a.failAt = 0
		require.Equal(t, used, s.Used())
		require.Equal(t, waiting, s.Waiting())
		if err == nil {
			require.Greater(t, nth, 8, "no read failed")
			return
		}
		require.ErrorIs(t, err, errRead)
		switch {
		case len(got) > 0:
		case nth%2 == 0:
			got, err = resolveLease(s, &lock{}, 2000)
			require.NoError(t, err)
		default:
			for _, r := range slices.Clone(s.Leases()) {
				s.Return(r)
			}
		}
		require.Equal(t, got, s.Leases())
		require.NoError(t, btree.Resolve(&lock{}, s.Freeze))
		s.Thaw()
		counts(t, s, used+size(got), used, 0)
		n := uint64(0)
		for _, on := range allocated(t, s.Tree(), s.Total()) {
			if on {
				n++
			}
		}
		require.Equal(t, n, s.Allocated())
	}
}

// A Lease that fails between two pages has allocated some of what it found.
func TestReturnOfAHalfMadeLease(t *testing.T) {
	half := 0
	for nth := 1; ; nth++ {
		a := newArea(threePages)
		s := a.filled(t, 12<<10, sparse)
		used := s.Used()
		a.failAt = a.reads + nth
		err := load(s, func() error {
			_, err := s.Lease(8000)
			return err
		}, func() {})
		a.failAt = 0
		if err == nil {
			require.Greater(t, half, 3)
			return
		}
		require.ErrorIs(t, err, errRead)
		if s.Allocated() > used {
			half++
		}
		for _, r := range slices.Clone(s.Leases()) {
			s.Return(r)
		}
		require.Empty(t, s.Leases())
		require.Equal(t, used, s.Used())
		require.NoError(t, btree.Resolve(&lock{}, s.Freeze))
		counts(t, s, used, used, s.Waiting())
		s.Thaw()
		counts(t, s, used, used, 0)
		got, err := resolveLease(s, &lock{}, 10)
		require.NoError(t, err)
		require.Equal(t, uint64(10), size(got))
		counts(t, s, used+10, used, 0)
	}
}

// sparse is the bits of an area with eight slots free in every 512th word.
func sparse(index uint64) uint64 {
	if index%512 == 0 {
		return math.MaxUint64 - 0xff0
	}
	return math.MaxUint64
}

func resolveLease(s *alloc.Slots, l *lock, want uint64) (got []layout.SlotRun, err error) {
	err = btree.Resolve(l, func() (err error) {
		got, err = s.Lease(want)
		return err
	})
	return got, err
}

// Freeze misses pages while it frees slots. Until the checkpoint is durable they
// must not be leased, not even by whoever has the lock while a page is read: a
// crash would find them overwritten.
func TestLeaseDuringAFreezeThatMisses(t *testing.T) {
	const words = 8000
	a := newArea(0)
	s := a.filled(t, words, func(uint64) uint64 { return math.MaxUint64 })
	for i := uint64(0); i < words; i += 5 {
		s.Free(run(i*64+1+i%3, i*64+1+i%60+3))
	}
	waits := s.Waiting()
	a.write(t, s.Tree())
	interrupted := 0
	l := &lock{between: func() {
		interrupted++
		got, err := resolveLease(s, &lock{}, 20)
		require.ErrorIs(t, err, alloc.ErrNoSpace, "got %v", got)
		require.Equal(t, []uint64{words*64 - waits, waits}, []uint64{s.Used(), s.Waiting()})
	}}
	require.NoError(t, btree.Resolve(l, s.Freeze))
	require.Greater(t, interrupted, 2)
	counts(t, s, words*64-waits, words*64-waits, waits)
	s.Thaw()
	got, err := resolveLease(s, &lock{}, waits)
	require.NoError(t, err)
	require.Len(t, got, alloc.MaxLeases)
}

// load runs fn until it misses no page, as btree.Resolve does, but lets go of each
// page as soon as there is another, and runs between at each miss.
func load(s *alloc.Slots, fn func() error, between func()) error {
	for {
		err := fn()
		var m *btree.Miss
		if !errors.As(err, &m) {
			return err
		}
		between()
		if err := s.Tree().Load(m); err != nil {
			return err
		}
	}
}

// threePages of words is what the cache of a test with a hundred pages may keep.
const threePages = 3*1024*16 + 16<<10

// A search goes on after a miss where it stopped: it ends with three pages in
// memory, and reads each only once or twice.
func TestLeaseSearchesALargeAreaInLittleMemory(t *testing.T) {
	const words = 100 << 10
	a := newArea(threePages)
	s := a.filled(t, words, func(i uint64) uint64 {
		if i%10_000 == 9_999 {
			return math.MaxUint64 - 1<<7
		}
		return math.MaxUint64
	})
	var got []layout.SlotRun
	reads := a.reads
	require.NoError(t, load(s, func() (err error) {
		got, err = s.Lease(1000)
		return err
	}, func() {}))
	require.Equal(t, uint64(10), size(got))
	require.Less(t, a.reads-reads, 300)
	reads = a.reads
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	require.Equal(t, reads, a.reads, "a full area is not searched")
}

// Slots that another has taken since a search found them are not given out twice.
func TestLeaseDuringALeaseThatMisses(t *testing.T) {
	for _, want := range []uint64{48, 20} { // at most six runs
		for when := range 12 {
			a := newArea(threePages)
			s := a.filled(t, 12<<10, sparse)
			used := s.Used()
			other := map[layout.SlotRun]bool{}
			n := 0
			var got []layout.SlotRun
			require.NoError(t, load(s, func() (err error) {
				got, err = s.Lease(48)
				return err
			}, func() {
				if n++; n == when+1 {
					theirs, err := resolveLease(s, &lock{}, want)
					require.NoError(t, err)
					for _, r := range theirs {
						other[r] = true
					}
				}
			}))
			for _, r := range got {
				require.NotContains(t, other, r)
			}
			counts(t, s, used+size(s.Leases()), used, 0)
			require.GreaterOrEqual(t, size(s.Leases()), uint64(48))
		}
	}
}

// A checkpoint that is taken while a Lease reads a page lists what that Lease has
// allocated so far, so that a crash gives it back.
func TestCheckpointDuringALeaseThatMisses(t *testing.T) {
	const words = alloc.MaxLeases * 512
	a := newArea(threePages)
	s := a.filled(t, words, sparse)
	used, half := s.Used(), 0
	var got []layout.SlotRun
	require.NoError(t, load(s, func() (err error) {
		got, err = s.Lease(10_000)
		return err
	}, func() {
		if s.Tree().Dirty() == 0 {
			return
		}
		root := a.write(t, s.Tree())
		require.Equal(t, used, s.Used())
		if s.Allocated() > used {
			half++
		}
		crashed := alloc.NewSlots(a.open(root), s.Total(), s.Allocated())
		for _, r := range s.Leases() {
			require.NoError(t, btree.Resolve(&lock{}, func() error { return crashed.Release(r) }))
		}
		counts(t, crashed, used, used, 0)
	}))
	require.Equal(t, uint64(words/512*8), size(got))
	require.Greater(t, half, 4, "no checkpoint while slots were allocated")
	counts(t, s, used+size(got), used, 0)
}
