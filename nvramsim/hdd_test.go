// SPDX-License-Identifier: Apache-2.0

package nvramsim_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/nvramsim"
)

// disk returns a typical disk as one partition.
func disk(t testing.TB, change func(*nvramsim.HDDParams)) (*nvramsim.Model, *nvramsim.Partition) {
	t.Helper()
	p := nvramsim.TypicalHDD()
	if change != nil {
		change(&p)
	}
	m := nvramsim.NewHDD(new(nvramsim.Clock), p)
	return m, partition(t, m, 0, p.Size)
}

func took(m *nvramsim.Model, f func()) time.Duration {
	start := m.Elapsed()
	f()
	return m.Elapsed() - start
}

func read(t testing.TB, d device.Device, off, n int64) {
	_, err := d.ReadAt(make([]byte, n), off)
	require.NoError(t, err)
}

func write(t testing.TB, d device.Device, off, n int64) {
	_, err := d.WriteAt(make([]byte, n), off)
	require.NoError(t, err)
}

// random returns n ops of 4 KiB at random places of the whole disk.
func random(kind device.OpKind, n int, size int64) []device.Op {
	rng := rand.New(rand.NewPCG(5, 6))
	ops := make([]device.Op, n)
	for i := range ops {
		ops[i] = device.Op{Kind: kind, Off: rng.Int64N(size/4096) * 4096, Data: make([]byte, 4096)}
	}
	return ops
}

// TestHDDSequential expects the data sheet's rate, at rim and hub.
func TestHDDSequential(t *testing.T) {
	const n = 64 << 20
	for _, c := range []struct {
		name string
		off  int64
		rate float64
	}{{"rim", 0, 210e6}, {"hub", 1e12/4096*4096 - n - 1<<20, 100e6}} {
		t.Run("read at the "+c.name, func(t *testing.T) {
			m, d := disk(t, nil)
			read(t, d, c.off, 4096) // be there
			got := took(m, func() {
				for off := int64(4096); off < n; off += 64 << 10 {
					read(t, d, c.off+off, 64<<10)
				}
			})
			require.InEpsilon(t, n/c.rate, got.Seconds(), 0.01)
			require.EqualValues(t, 1, m.Stats().Seeks+b2i(c.off == 0))
		})
		t.Run("write at the "+c.name, func(t *testing.T) {
			m, d := disk(t, nil)
			got := took(m, func() {
				for off := int64(0); off < n; off += 1 << 20 {
					write(t, d, c.off+off, 1<<20)
				}
				require.NoError(t, d.Flush())
			})
			require.InEpsilon(t, n/c.rate, got.Seconds(), 0.04)
		})
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestHDDSequentialReaderMayThink: the drive reads on while the host thinks.
func TestHDDSequentialReaderMayThink(t *testing.T) {
	m, d := disk(t, nil)
	read(t, d, 0, 64<<10)
	for i := int64(1); i < 200; i++ {
		m.Advance(time.Millisecond) // three times what 64 KiB take to pass
		got := took(m, func() { read(t, d, i*64<<10, 64<<10) })
		require.Less(t, got, time.Millisecond, "read %d", i)
	}
	require.EqualValues(t, 0, m.Stats().Seeks)
}

// TestHDDRandomRead: 50 µs + 8.5 ms + half of 8.33 ms + transfer, 78 a second.
func TestHDDRandomRead(t *testing.T) {
	m, d := disk(t, nil)
	ops := random(device.Read, 2000, d.Size())
	one := took(m, func() {
		for _, op := range ops {
			read(t, d, op.Off, 4096)
		}
	})
	require.InEpsilon(t, 78, 2000/one.Seconds(), 0.03)
	st := m.Stats()
	require.InEpsilon(t, 8.5, st.SeekTime.Seconds()*1000/2000, 0.03)
	require.InEpsilon(t, 60.0/7200/2*1000, st.RotationTime.Seconds()*1000/2000, 0.05)

	m, d = disk(t, nil)
	queued := took(m, func() { require.NoError(t, d.Do(ops)) })
	require.Greater(t, one.Seconds()/queued.Seconds(), 1.8, "a queue of 32 shortens the way")
	require.Less(t, one.Seconds()/queued.Seconds(), 4.0)
	t.Logf("random 4 KiB reads a second: %.0f one at a time, %.0f queued", 2000/one.Seconds(), 2000/queued.Seconds())
}

func TestHDDWriteCache(t *testing.T) {
	m, d := disk(t, nil)
	ops := random(device.Write, 2000, d.Size())
	cached := took(m, func() {
		for _, op := range ops {
			write(t, d, op.Off, 4096)
		}
	})
	// 50 µs and 4 KiB over the bus at 550 MB/s each
	require.Equal(t, 2000*(50*time.Microsecond+7447*time.Nanosecond), cached)
	drained := took(m, func() { require.NoError(t, d.Flush()) })
	perSecond := 2000 / (cached + drained).Seconds()
	require.Greater(t, perSecond, 150.0, "sorted by the drive")
	require.Less(t, perSecond, 500.0)
	require.EqualValues(t, 2000*4096, m.Stats().MediaWrites)
	require.Equal(t, 50*time.Microsecond, took(m, func() { require.NoError(t, d.Flush()) }), "nothing is left")
	t.Logf("random 4 KiB writes a second through the cache: %.0f", perSecond)
}

func TestHDDWithoutCacheEveryWriteWaits(t *testing.T) {
	m, d := disk(t, func(p *nvramsim.HDDParams) { p.WriteCache = 0 })
	ops := random(device.Write, 500, d.Size())
	got := took(m, func() {
		for _, op := range ops {
			write(t, d, op.Off, 4096)
		}
	})
	require.InEpsilon(t, 72, 500/got.Seconds(), 0.05) // a settle of 1 ms more than reads
	require.Equal(t, 50*time.Microsecond, took(m, func() { require.NoError(t, d.Flush()) }))
}

// TestHDDFullCacheWaits: what exceeds the cache moves at the platter's rate.
func TestHDDFullCacheWaits(t *testing.T) {
	m, d := disk(t, nil)
	got := took(m, func() { write(t, d, 0, 256<<20) })
	require.InEpsilon(t, (256<<20-32<<20)/210e6, got.Seconds(), 0.02)
}

// TestHDDSyncedLog: each small write with a flush waits for its sector to come
// around again: 120 a second.
func TestHDDSyncedLog(t *testing.T) {
	m, d := disk(t, nil)
	write(t, d, 0, 4096)
	require.NoError(t, d.Flush())
	got := took(m, func() {
		for i := int64(1); i <= 400; i++ {
			write(t, d, i*4096, 4096)
			require.NoError(t, d.Flush())
		}
	})
	require.InEpsilon(t, 400*60/7200.0, got.Seconds(), 0.01)
}

func TestHDDIdleDriveEmptiesItsCache(t *testing.T) {
	m, d := disk(t, nil)
	for _, op := range random(device.Write, 50, d.Size()) {
		write(t, d, op.Off, 4096)
	}
	m.Advance(2 * time.Second)
	require.Equal(t, 50*time.Microsecond, took(m, func() { require.NoError(t, d.Flush()) }))
}

func TestHDDReadsItsCache(t *testing.T) {
	m, d := disk(t, nil)
	write(t, d, 1<<30, 64<<10)
	write(t, d, 1<<33, 64<<10)
	got := took(m, func() { read(t, d, 1<<33+4096, 8192) })
	require.Less(t, got, 100*time.Microsecond)
	require.EqualValues(t, 1, m.Stats().CacheHits)
	read(t, d, 1<<34, 64<<10)
	require.Less(t, took(m, func() { read(t, d, 1<<34, 4096) }), 100*time.Microsecond)
	write(t, d, 1<<34, 512)
	m.Advance(time.Second) // the write is on the platter
	require.Greater(t, took(m, func() { read(t, d, 1<<34, 4096) }), 100*time.Microsecond, "old data is not kept")
}

// TestHDDPartitionsShareTheArm: going to and fro costs seeks.
func TestHDDPartitionsShareTheArm(t *testing.T) {
	m := nvramsim.NewHDD(new(nvramsim.Clock), nvramsim.TypicalHDD())
	a, b := partition(t, m, 0, 1<<30), partition(t, m, 500<<30, 1<<30)
	alternate := took(m, func() {
		for i := range int64(100) {
			read(t, a, i*4096, 4096)
			read(t, b, i*4096, 4096)
		}
	})
	require.InDelta(t, 199, m.Stats().Seeks, 1)
	require.Greater(t, alternate, 199*9*time.Millisecond)
}

// TestCopyIsBoundByTransfers: copying in pieces of 32 MiB before each overwrite
// costs little over three transfers for one, as the seeks vanish.
func TestCopyIsBoundByTransfers(t *testing.T) {
	const total, piece = 256 << 20, 32 << 20
	m, d := disk(t, nil)
	raw := took(m, func() {
		for off := int64(0); off < total; off += piece {
			write(t, d, off, piece)
		}
		require.NoError(t, d.Flush())
	})
	m, d = disk(t, nil)
	copied := took(m, func() {
		for off := int64(0); off < total; off += piece {
			read(t, d, off, piece)
			write(t, d, 10<<30+off, piece)
			require.NoError(t, d.Flush())
			write(t, d, off, piece)
		}
		require.NoError(t, d.Flush())
	})
	require.InDelta(t, 3.2, copied.Seconds()/raw.Seconds(), 0.3)
	t.Logf("copy before write in 32 MiB: %.2f of raw", copied.Seconds()/raw.Seconds())
}

// TestSameSequenceSameTime runs a mixture on every model twice.
func TestSameSequenceSameTime(t *testing.T) {
	run := func(name string) (time.Duration, nvramsim.Stats) {
		m := drives(new(nvramsim.Clock))[name]
		d, rng := partition(t, m, 0, size), rand.New(rand.NewPCG(8, 9))
		for range 300 {
			off, n := rng.Int64N(size/8192)*4096, rng.Int64N(16)*4096
			switch rng.IntN(8) {
			case 0:
				require.NoError(t, d.Flush())
			case 1:
				m.Advance(time.Duration(rng.IntN(5000)) * time.Microsecond)
			case 2:
				require.NoError(t, d.Do(random(device.OpKind(rng.IntN(2)), 50, size)))
			case 3:
				require.NoError(t, d.WriteZeroes(off, n))
			case 4, 5:
				read(t, d, off, n)
			default:
				write(t, d, off, n)
			}
		}
		return m.Elapsed(), m.Stats()
	}
	for name := range drives(nil) {
		a, as := run(name)
		b, bs := run(name)
		require.Equal(t, a, b, name)
		require.Equal(t, as, bs, name)
	}
}

// TestHDDArmWorksNoLongerThanTimePasses holds for any sequence: the arm does one
// thing at a time, every command takes its overhead, a flush leaves nothing.
func TestHDDArmWorksNoLongerThanTimePasses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const overhead = 50 * time.Microsecond
		m, d := disk(t, func(p *nvramsim.HDDParams) { p.WriteCache = 256 << 10 })
		for range rapid.IntRange(1, 60).Draw(rt, "commands") {
			off := rapid.SampledFrom([]int64{0, 1 << 20, 1 << 30, 900 << 30}).Draw(rt, "area") +
				rapid.Int64Range(0, 64).Draw(rt, "off")*4096
			n := rapid.Int64Range(1, 32).Draw(rt, "n") * 4096
			got := took(m, func() {
				switch rapid.IntRange(0, 4).Draw(rt, "command") {
				case 0:
					require.NoError(rt, d.Flush())
				case 1:
					m.Advance(time.Duration(rapid.Int64Range(int64(overhead), 2e7).Draw(rt, "pause")))
				case 2:
					require.NoError(rt, d.Do([]device.Op{{Off: off, Data: make([]byte, n)},
						{Kind: device.Write, Off: off + n, Data: make([]byte, n)}, {Off: off + 3*n, Data: make([]byte, n)}}))
				case 3:
					read(t, d, off, n)
				default:
					write(t, d, off, n)
				}
			})
			require.GreaterOrEqual(rt, got, overhead)
			require.Less(rt, got, 500*time.Millisecond)
		}
		require.NoError(rt, d.Flush())
		st := m.Stats()
		require.LessOrEqual(rt, st.SeekTime+st.RotationTime+st.TransferTime, m.Elapsed())
		require.Equal(rt, overhead, took(m, func() { require.NoError(rt, d.Flush()) }))
	})
}

// TestHDDGolden pins the modelled time of one sequence, so that a change of the
// model shows.
func TestHDDGolden(t *testing.T) {
	m, d := disk(t, nil)
	for _, op := range random(device.Write, 100, 1<<30) {
		write(t, d, op.Off, 4096)
	}
	require.NoError(t, d.Flush())
	require.NoError(t, d.Do(random(device.Read, 100, 1<<30)))
	require.Equal(t, 551404919*time.Nanosecond, m.Elapsed())
}

func BenchmarkHDDRandomWrite(b *testing.B) {
	m := nvramsim.NewHDD(new(nvramsim.Clock), nvramsim.TypicalHDD())
	d, err := m.Partition(0, memdev.New(1<<30))
	require.NoError(b, err)
	ops := random(device.Write, 4096, 1<<30)
	for i := 0; b.Loop(); i++ {
		write(b, d, ops[i%len(ops)].Off, 4096)
	}
}
