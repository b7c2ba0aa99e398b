// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
)

func TestCacheStaysWithinItsBound(t *testing.T) {
	const limit = 300 << 10
	a := newArea()
	_, tree := filled(t, a, btree.NewCache(roomy), 50_000)
	c := btree.NewCache(limit)
	tree = a.open(c, tree.Root())
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 9))
	for range 3000 {
		require.NoError(t, btree.Resolve(&mu, func() error {
			_, _, err := tree.Ceiling(entry{Chunk: rng.Uint64N(1 << 40)})
			return err
		}))
		require.LessOrEqual(t, c.Bytes(), int64(limit))
	}
	require.Greater(t, c.Bytes(), int64(limit/2))
}

// Dirty nodes alone may exceed the bound; then no clean node stays.
func TestDirtyNodesMayExceedTheBound(t *testing.T) {
	c := btree.NewCache(64 << 10)
	a := newArea()
	m, tree := filled(t, a, c, 3000)
	var mu sync.Mutex
	for _, e := range m {
		e.Sum++
		require.NoError(t, btree.Resolve(&mu, func() error { _, err := tree.Insert(e); return err }))
	}
	require.Equal(t, tree.Dirty(), c.DirtyPages())
	require.Greater(t, c.Bytes(), int64(64<<10))
	a.checkpoint(t, c, tree)
	require.LessOrEqual(t, c.Bytes(), int64(64<<10))
}

// A node that grew while it was dirty counts for more once it is clean; clean
// nodes make room for that before AdvanceEpoch does.
func TestGrownNodesMakeRoomWhenCleaned(t *testing.T) {
	const limit = 1 << 20
	c := btree.NewCache(limit)
	a := newArea()
	idle := a.create(c) // clean nodes that fill the cache
	for i := range uint64(60_000) {
		_, err := idle.Insert(entry{Chunk: i * i})
		require.NoError(t, err)
	}
	a.checkpoint(t, c, idle)
	tree := a.create(c)
	for i := range uint64(3000) {
		_, err := tree.Insert(entry{Chunk: i * i})
		require.NoError(t, err)
	}
	require.LessOrEqual(t, c.Bytes(), int64(limit))
	_, err := tree.Checkpoint(1, a.alloc, a.release, a.write)
	require.NoError(t, err)
	require.LessOrEqual(t, c.Bytes(), int64(limit))
}

// What is used again and again stays when a long scan passes through.
func TestCacheGivesASecondChance(t *testing.T) {
	a := newArea()
	m, tree := filled(t, a, btree.NewCache(roomy), 50_000)
	c := btree.NewCache(300 << 10)
	tree = a.open(c, tree.Root())
	var mu sync.Mutex
	hot := func() {
		require.NoError(t, btree.Resolve(&mu, func() error { _, _, err := tree.Ceiling(m[7]); return err }))
	}
	hot()
	again := 0
	for i := 1000; i < len(m); i += 100 {
		require.NoError(t, btree.Resolve(&mu, func() error { _, _, err := tree.Ceiling(m[i]); return err }))
		before := a.reads
		hot()
		again += a.reads - before
	}
	require.Zero(t, again)
}

// Until AdvanceEpoch a checkpoint's pages are served from memory, whatever the
// bound: they may not be on the device yet.
func TestPagesOfACheckpointStayUntilWritten(t *testing.T) {
	a, c := newArea(), btree.NewCache(0)
	tree := a.create(c)
	for i := range uint64(5000) {
		_, err := tree.Insert(entry{Chunk: i * i})
		require.NoError(t, err)
	}
	_, err := tree.Checkpoint(1, a.alloc, a.release, func(block.Page, []byte) error { return nil })
	require.NoError(t, err)
	require.Zero(t, c.DirtyPages())
	require.Len(t, all(t, tree), 5000)
	require.Zero(t, a.reads)
	c.AdvanceEpoch()
	require.Zero(t, c.Bytes())
}

// A read that began before its page was freed and reused must not bring the old
// content into the cache.
func TestLateReadsOfReusedPagesAreDropped(t *testing.T) {
	a, c := newArea(), btree.NewCache(0)
	tree := a.create(c)
	_, err := tree.Insert(entry{Chunk: 1, Sum: 1})
	require.NoError(t, err)
	old := a.checkpoint(t, c, tree).Page
	image := a.pages[old]

	_, _, err = tree.Ceiling(entry{})
	var miss *btree.Miss
	require.ErrorAs(t, err, &miss)
	require.Equal(t, old, miss.Page)

	// Two checkpoints, so that the address is freed and then used again.
	var mu sync.Mutex
	for sum := uint32(2); sum <= 3; sum++ {
		require.NoError(t, btree.Resolve(&mu, func() error {
			_, err := tree.Insert(entry{Chunk: 1, Sum: sum})
			return err
		}))
		a.checkpoint(t, c, tree)
	}
	require.Equal(t, old, tree.Root().Page)

	fresh := a.pages[old]
	for _, seen := range [][]byte{image, make([]byte, block.PageSize)} {
		a.pages[old] = seen // what the late read saw: the old content, or another use's
		require.NoError(t, tree.Load(miss))
	}
	a.pages[old] = fresh
	require.NoError(t, btree.Resolve(&mu, func() error {
		e, _, err := tree.Ceiling(entry{})
		if err == nil {
			require.Equal(t, uint32(3), e.Sum)
		}
		return err
	}))
}

// An operation on several trees gets its pages together even without any room.
func TestResolveAcrossTreesMakesProgress(t *testing.T) {
	a, c := newArea(), btree.NewCache(0)
	m, one := filled(t, a, c, 20_000)
	_, two := filled(t, a, c, 20_000)
	var mu sync.Mutex
	runs := 0
	require.NoError(t, btree.Resolve(&mu, func() error {
		runs++
		if _, _, err := one.Floor(m[100]); err != nil {
			return err
		}
		_, _, err := two.Floor(m[15_000])
		return err
	}))
	require.Equal(t, 1+int(one.Root().Level)+1+int(two.Root().Level)+1, runs)
	require.Zero(t, c.Bytes(), "nothing stays pinned")

	other := errors.New("other")
	require.ErrorIs(t, btree.Resolve(&mu, func() error { return other }), other)
}

func TestLookupsAllocateNothingWhenCached(t *testing.T) {
	_, tree := filled(t, newArea(), btree.NewCache(roomy), 20_000)
	rng := rand.New(rand.NewPCG(4, 4))
	dst := make([]entry, 0, 100)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		key := entry{Chunk: rng.Uint64N(1 << 40)}
		_, _, _ = tree.Ceiling(key)
		_, _, _ = tree.Floor(key)
		_, _ = tree.Scan(key, 100, dst)
	}))
}

// One writer with checkpoints, and readers that load pages meanwhile, on a cache
// that holds next to nothing. Each chunk's Slot tells whether an answer is right.
func TestLoadsGoAlongWithMutations(t *testing.T) {
	defer goleak.VerifyNone(t)
	const chunks = 20_000
	a, c := newArea(), btree.NewCache(40<<10)
	tree := a.create(c)
	var mu sync.RWMutex
	for i := range uint64(chunks) {
		_, err := tree.Insert(entry{Chunk: 2 * i, Slot: 14 * i})
		require.NoError(t, err)
	}
	a.checkpoint(t, c, tree)

	var wg sync.WaitGroup
	done := make(chan struct{})
	for seed := range uint64(3) {
		wg.Go(func() { read(t, tree, mu.RLocker(), seed, 2*chunks, done) })
	}
	rng := rand.New(rand.NewPCG(6, 6))
	for round := range 60 {
		for range 40 {
			e := entry{Chunk: rng.Uint64N(2 * chunks), Sum: rng.Uint32()}
			e.Slot = 7 * e.Chunk
			if err := btree.Resolve(&mu, func() (err error) {
				if e.Chunk%2 == 0 {
					_, err = tree.Insert(e)
				} else if round%2 == 0 {
					_, err = tree.Insert(e)
				} else {
					_, err = tree.Delete(e)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
		mu.Lock()
		a.checkpoint(t, c, tree)
		mu.Unlock()
	}
	close(done)
	wg.Wait()
}

// read looks up chunks below limit until done, and checks what it gets: even
// chunks are always there.
func read(t *testing.T, tree *btree.Tree[entry], lock sync.Locker, seed, limit uint64, done chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, 7))
	for {
		select {
		case <-done:
			return
		default:
		}
		key := entry{Chunk: rng.Uint64N(limit/2) * 2}
		var got entry
		err := btree.Resolve(lock, func() (err error) {
			got, _, err = tree.Ceiling(key)
			return err
		})
		if err != nil || got.Chunk != key.Chunk || got.Slot != 7*key.Chunk {
			t.Errorf("chunk %d: got %+v, %v", key.Chunk, got, err)
			return
		}
	}
}

// A dirty node was counted as what it took when it became dirty: a cache that
// kept to its bound by its own count held more.
func TestDirtyNodesCountAsTheyGrow(t *testing.T) {
	c := btree.NewCache(roomy)
	a := newArea()
	tree := a.create(c)
	const size = 32 // bytes of an entry at least
	for i := range uint64(20_000) {
		_, err := tree.Insert(entry{Chunk: i * 7 % 20_011})
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, c.Fixed(), int64(20_000*size))
	require.Equal(t, c.Bytes(), c.Fixed(), "all nodes are dirty")
	a.checkpoint(t, c, tree)
	require.Zero(t, c.Fixed())
	require.NotZero(t, c.Bytes())
	for range 10_000 {
		_, err := tree.Delete(entry{Chunk: uint64(tree.Len())})
		require.NoError(t, err)
	}
	a.checkpoint(t, c, tree)
	require.Zero(t, c.Fixed())
}
