// SPDX-License-Identifier: Apache-2.0

package memdev_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/device/memdev"
)

const sector = 512

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func put(t testing.TB, d *memdev.Device, b byte, off int64, n int) {
	t.Helper()
	_, err := d.WriteAt(fill(b, n), off)
	require.NoError(t, err)
}

func get(t testing.TB, d *memdev.Device, off int64, n int) []byte {
	t.Helper()
	p := fill(0xEE, n)
	_, err := d.ReadAt(p, off)
	require.NoError(t, err)
	return p
}

func rng() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestHugeDeviceCostsWhatItHolds(t *testing.T) {
	for _, d := range []*memdev.Device{memdev.New(1 << 50), memdev.NewVolatile(1 << 50)} {
		require.NoError(t, d.WriteZeroes(0, 1<<50))
		put(t, d, 0, 1<<49, 1<<20)
		put(t, d, 7, 1<<50-sector, sector)
		require.NoError(t, d.Flush())
		require.EqualValues(t, 4096, d.Stored())
		require.Equal(t, fill(7, sector), get(t, d, 1<<50-sector, sector))
		require.NoError(t, d.WriteZeroes(sector, 1<<50-sector))
		require.NoError(t, d.Flush())
		require.Zero(t, d.Stored())
	}
}

func TestRewriteAllocatesNothing(t *testing.T) {
	d, p := memdev.New(1<<20), fill(3, 64<<10)
	put(t, d, 9, 0, 1<<20)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = d.WriteAt(p, 128<<10)
		_, _ = d.ReadAt(p, 128<<10)
	}))
}

func TestClonesAreApart(t *testing.T) {
	d := memdev.NewVolatile(1 << 20)
	put(t, d, 1, 0, 8192)
	require.NoError(t, d.Flush())
	put(t, d, 2, 4096, sector)
	c := d.Clone()
	put(t, d, 3, 0, sector)
	put(t, c, 4, sector, sector)
	require.NoError(t, d.Flush())
	require.NoError(t, c.Flush())
	require.Equal(t, append(fill(3, sector), fill(1, sector)...), get(t, d, 0, 2*sector))
	require.Equal(t, append(fill(1, sector), fill(4, sector)...), get(t, c, 0, 2*sector))
	require.Equal(t, fill(2, sector), get(t, c, 4096, sector))
	require.Equal(t, fill(2, sector), get(t, d, 4096, sector))
}

func TestCrashLosesOnlyWhatIsNotFlushed(t *testing.T) {
	d := memdev.NewVolatile(1 << 20)
	put(t, d, 1, 0, 4096)
	require.NoError(t, d.Flush())
	put(t, d, 2, 0, 2048)
	lost := d.Crash(rng(), memdev.Fate{})
	require.Equal(t, fill(1, 4096), get(t, lost, 0, 4096))
	kept := d.Crash(rng(), memdev.Fate{Keep: 1})
	require.Equal(t, append(fill(2, 2048), fill(1, 2048)...), get(t, kept, 0, 4096))
	require.Equal(t, append(fill(2, 2048), fill(1, 2048)...), get(t, d, 0, 4096), "the original goes on")
	again := kept.Crash(rng(), memdev.Fate{})
	require.Equal(t, get(t, kept, 0, 4096), get(t, again, 0, 4096), "what survived a crash is durable")
}

func TestCrashTearsAndReorders(t *testing.T) {
	d, r := memdev.NewVolatile(1<<20), rng()
	put(t, d, 1, 0, 8*sector)
	put(t, d, 2, 1<<16, sector)
	put(t, d, 3, 0, sector)
	seen := make(map[string]bool)
	for range 400 {
		c := d.Crash(r, memdev.Fate{Keep: 0.3, Tear: 0.4})
		first, later, next := get(t, c, 0, sector)[0], get(t, c, 1<<16, sector)[0], get(t, c, sector, 7*sector)
		seen["first="+string('0'+first)] = true
		if later == 2 && first == 0 {
			seen["reordered"] = true
		}
		if bytes.IndexByte(next, 0) >= 0 && bytes.IndexByte(next, 1) >= 0 {
			seen["torn"] = true
		}
		for off := 0; off < len(next); off += sector {
			require.Equal(t, fill(next[off], sector), next[off:off+sector], "a sector is never torn")
		}
	}
	for _, what := range []string{"first=0", "first=1", "first=3", "reordered", "torn"} {
		require.True(t, seen[what], what)
	}
}

func TestCrashIsRepeatable(t *testing.T) {
	run := func() []byte {
		d, r := memdev.NewVolatile(1<<20), rng()
		for i := range 64 {
			put(t, d, byte(i+1), int64(r.IntN(100))*sector, (1+r.IntN(20))*sector)
			if r.IntN(10) == 0 {
				require.NoError(t, d.Flush())
			}
		}
		return get(t, d.Crash(r, memdev.RandomFate(r)), 0, 1<<16)
	}
	require.Equal(t, run(), run())
}

func TestFlushCoversOnlyWritesThatReturned(t *testing.T) {
	d := memdev.NewVolatile(1 << 20)
	d.SetHook(func(e memdev.Event) {
		if e.Kind == memdev.Wrote && e.Off == 0 {
			require.NoError(t, d.Flush(), "begins before the write at 0 returns")
		}
		if e.Kind == memdev.FlushBegin {
			d.SetHook(nil)
			put(t, d, 3, 8192, sector)
		}
	})
	put(t, d, 1, 4096, sector)
	put(t, d, 2, 0, sector)
	c := d.Crash(rng(), memdev.Fate{})
	require.Equal(t, fill(1, sector), get(t, c, 4096, sector), "returned before the flush began")
	require.Equal(t, fill(0, sector), get(t, c, 0, sector), "had not returned when it began")
	require.Equal(t, fill(0, sector), get(t, c, 8192, sector), "returned after it began")
	require.NoError(t, d.Flush())
	c = d.Crash(rng(), memdev.Fate{})
	require.Equal(t, fill(2, sector), get(t, c, 0, sector))
	require.Equal(t, fill(3, sector), get(t, c, 8192, sector))
}

func TestHookSeesEveryBoundary(t *testing.T) {
	d := memdev.NewVolatile(1 << 20)
	var before, after []byte
	d.SetHook(func(e memdev.Event) {
		switch e.Kind {
		case memdev.FlushBegin:
			before = get(t, e.Device.Crash(rng(), memdev.Fate{}), 0, sector)
		case memdev.FlushEnd:
			after = get(t, e.Device.Crash(rng(), memdev.Fate{}), 0, sector)
		}
	})
	put(t, d, 5, 0, sector)
	require.NoError(t, d.Flush())
	require.Equal(t, fill(0, sector), before)
	require.Equal(t, fill(5, sector), after)
}

func TestDiscardLeavesGarbage(t *testing.T) {
	d := memdev.NewVolatile(1 << 30)
	put(t, d, 5, 0, 4096)
	require.NoError(t, d.Flush())
	require.NoError(t, d.Discard(sector, 1<<30-sector))
	require.Equal(t, fill(5, sector), get(t, d, 0, sector))
	require.NotEqual(t, fill(5, sector), get(t, d, sector, sector))
	require.Equal(t, fill(5, 4096), get(t, d.Crash(rng(), memdev.Fate{}), 0, 4096))
}

func TestMachineCrashesAtOneInstant(t *testing.T) {
	m := memdev.NewMachine()
	log, data := m.NewVolatile("log", 1<<20), m.New("data", 1<<20)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := byte(1); ; i = i%250 + 1 {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = log.WriteAt(fill(i, sector), 0)
			_ = log.Flush()
			_, _ = data.WriteAt(fill(i, sector), 0)
		}
	}()
	r := rng()
	for range 300 {
		c := m.Crash(r, memdev.RandomFate(r))
		l, d := get(t, c.Device("log"), 0, sector)[0], get(t, c.Device("data"), 0, sector)[0]
		require.True(t, l == d || l == d%250+1, "log %d, data %d", l, d)
	}
	close(stop)
	<-done
	require.Equal(t, []string{"log", "data"}, m.Names())
	require.Nil(t, m.Device("none"))
}

// TestAgainstPlainBytes drives a volatile device beside an array of bytes, with
// crashes that keep all.
func TestAgainstPlainBytes(t *testing.T) {
	const size = 96 << 10
	rapid.Check(t, func(rt *rapid.T) {
		d, want := memdev.NewVolatile(size), make([]byte, size)
		for range rapid.IntRange(1, 40).Draw(rt, "ops") {
			off := rapid.Int64Range(0, size/sector-1).Draw(rt, "sector") * sector
			n := rapid.Int64Range(0, (size-off)/sector).Draw(rt, "sectors") * sector
			b := rapid.ByteRange(0, 2).Draw(rt, "byte")
			switch rapid.IntRange(0, 5).Draw(rt, "op") {
			case 0, 1:
				_, err := d.WriteAt(fill(b, int(n)), off)
				require.NoError(rt, err)
				copy(want[off:], fill(b, int(n)))
			case 2:
				require.NoError(rt, d.WriteZeroes(off, n))
				clear(want[off : off+n])
			case 3:
				require.NoError(rt, d.Flush())
			case 4:
				d = d.Clone()
			case 5:
				d = d.Crash(rng(), memdev.Fate{Keep: 1})
			}
			got := make([]byte, size)
			_, err := d.ReadAt(got, 0)
			require.NoError(rt, err)
			require.True(rt, bytes.Equal(want, got))
		}
	})
}
