// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"math"
	"math/bits"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/btree"
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

// A superblock lists MaxLeases runs: there are never more, however fragmented the
// area is.
func TestLeasesFitTheSuperblock(t *testing.T) {
	a := newArea(1 << 20)
	s := a.filled(t, 100, func(uint64) uint64 { return 0x5555_5555_5555_5555 })
	got := lease(t, s, 1000)
	require.Len(t, got, layout.MaxLeases)
	require.Len(t, s.Leases(), layout.MaxLeases)
	_, err := s.Lease(1)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	s.Use(got[5])
	s.Use(got[77])
	require.Len(t, lease(t, s, 1000), 2)
	require.Len(t, s.Leases(), layout.MaxLeases)
}

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
	for nth := 1; ; nth++ {
		a := newArea(0)
		s := a.filled(t, 9000, func(i uint64) uint64 { return 1 << (i % 2) })
		used := s.Used()
		evict := func() { a.write(t, s.Tree()) }
		fail := nth
		l := &lock{between: func() {
			evict()
			if fail--; fail == 0 {
				a.failAt = a.reads + 1
			}
		}}
		_, err := resolveLease(s, l, 8000)
		a.failAt = 0
		if err == nil {
			require.Greater(t, nth, 2)
			return
		}
		require.ErrorIs(t, err, errRead)
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
	require.Len(t, got, layout.MaxLeases)
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
	a := newArea(threePages)
	s := a.filled(t, 20_000, func(i uint64) uint64 { return math.MaxUint64 - 1<<(i%32) })
	other := map[layout.SlotRun]bool{}
	n := 0
	var got []layout.SlotRun
	require.NoError(t, load(s, func() (err error) {
		got, err = s.Lease(100)
		return err
	}, func() {
		if n++; n != 4 {
			return
		}
		for _, r := range lease(t, s, 20) {
			other[r] = true
		}
	}))
	require.Len(t, got, 100)
	for _, r := range got {
		require.NotContains(t, other, r)
	}
	counts(t, s, 20_000*63+100+uint64(len(other)), 20_000*63, 0)
}

// A checkpoint that is taken while a Lease reads a page lists what that Lease has
// allocated so far, so that a crash gives it back.
func TestCheckpointDuringALeaseThatMisses(t *testing.T) {
	const words, step = 100 << 10, 1 << 10
	a := newArea(threePages)
	s := a.filled(t, words, func(i uint64) uint64 {
		if i%step == 0 {
			return math.MaxUint64 - 0xff0
		}
		return math.MaxUint64
	})
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
	require.Equal(t, uint64(words/step*8), size(got))
	require.Greater(t, half, 10, "no checkpoint while slots were allocated")
	counts(t, s, used+size(got), used, 0)
}

// nearlyFull is 1 TiB of 64 KiB slots of which the last one and one in 65,536
// are free.
func nearlyFull(b *testing.B, cacheBytes int64) *alloc.Slots {
	const words = 1 << 40 / (64 << 10) / 64
	a := newArea(cacheBytes)
	return a.filled(b, words, func(i uint64) uint64 {
		if i%(1<<10) == 1<<10-1 {
			return math.MaxUint64 >> 1
		}
		return math.MaxUint64
	})
}

// What the search for the last free slots of a nearly full volume costs, with its
// slot map in memory and not.
func BenchmarkLeaseNearlyFull(b *testing.B) {
	for _, c := range []struct {
		name  string
		cache int64
	}{{"cached", 1 << 30}, {"uncached", threePages}} {
		b.Run(c.name, func(b *testing.B) {
			s := nearlyFull(b, c.cache)
			for b.Loop() {
				for range 3 {
					got, err := resolveLease(s, &lock{}, 100)
					if err != nil {
						b.Fatal(err)
					}
					for _, r := range got {
						s.Return(r)
					}
				}
				if err := btree.Resolve(&lock{}, s.Freeze); err != nil {
					b.Fatal(err)
				}
				s.Thaw()
			}
		})
	}
}

// The usual case: an area with much room.
func BenchmarkLease(b *testing.B) {
	s := small(1 << 40)
	for b.Loop() {
		got, err := s.Lease(4096)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range got {
			s.Use(r)
		}
	}
}
