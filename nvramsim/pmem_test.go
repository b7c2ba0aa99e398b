// SPDX-License-Identifier: Apache-2.0

package nvramsim_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/nvramsim"
)

var (
	_ device.Region = (*nvramsim.PMem)(nil)
	_ memdev.Part   = (*nvramsim.PMem)(nil)
)

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func store(t require.TestingT, r device.Region, b byte, off int64, n int) {
	_, err := r.WriteAt(fill(b, n), off)
	require.NoError(t, err)
}

func load(t require.TestingT, r device.Region, off int64, n int) []byte {
	p := make([]byte, n)
	_, err := r.ReadAt(p, off)
	require.NoError(t, err)
	return p
}

func pmem(size int64) (*memdev.Machine, *nvramsim.PMem) {
	m := memdev.NewMachine()
	return m, nvramsim.NewPMem(m, "pmem", new(nvramsim.Clock), size, nvramsim.TypicalPMem())
}

func cut(m *memdev.Machine, rng *rand.Rand, fate memdev.Fate) *nvramsim.PMem {
	return m.Crash(rng, fate).Part("pmem").(*nvramsim.PMem)
}

func TestPMemKeepsWhatWasPersisted(t *testing.T) {
	m, r := pmem(4096)
	rng := rand.New(rand.NewPCG(1, 1))
	store(t, r, 1, 10, 200)
	require.Equal(t, fill(0, 4096), load(t, cut(m, rng, memdev.Fate{}), 0, 4096), "stores are not durable")
	require.NoError(t, r.WriteBack(10, 200))
	require.Equal(t, fill(0, 4096), load(t, cut(m, rng, memdev.Fate{}), 0, 4096), "nor is what was written back")
	store(t, r, 2, 10, 10)
	r.Fence()
	left := cut(m, rng, memdev.Fate{})
	require.Equal(t, fill(1, 200), load(t, left, 10, 200), "as it was when written back")
	require.Equal(t, fill(2, 10), load(t, r, 10, 10), "loads see the newest store")
	kept := cut(m, rng, memdev.Fate{Keep: 1})
	require.Equal(t, append(fill(2, 10), fill(1, 190)...), load(t, kept, 10, 200))
	require.NoError(t, r.Persist(10, 1))
	require.Equal(t, fill(2, 10), load(t, cut(m, rng, memdev.Fate{}), 10, 10), "the whole line goes back")
}

func TestPMemTearsByWord(t *testing.T) {
	m, r := pmem(4096)
	rng := rand.New(rand.NewPCG(1, 1))
	store(t, r, 1, 0, 128)
	torn, old := false, false
	store(t, r, 2, 0, 64)
	for range 300 {
		got := load(t, cut(m, rng, memdev.Fate{Keep: 0.2, Tear: 0.6}), 0, 128)
		for at := 0; at < 128; at += 8 {
			require.Equal(t, fill(got[at], 8), got[at:at+8], "words are whole")
			old = old || at < 64 && got[at] == 1
		}
		torn = torn || bytes.IndexByte(got[64:], 0) >= 0 && bytes.IndexByte(got[64:], 1) >= 0
	}
	require.True(t, torn)
	require.True(t, old, "a line may have been evicted between two stores")
}

func TestPMemRangesTimeAndCounts(t *testing.T) {
	m := memdev.NewMachine()
	clock := new(nvramsim.Clock)
	r := nvramsim.NewPMem(m, "pmem", clock, 4096, nvramsim.PMemParams{ReadRate: 1e9, WriteBack: 30, Fence: 100})
	for _, err := range []error{r.Persist(4096, 1), r.Persist(-1, 1), r.WriteBack(0, 4097)} {
		require.ErrorIs(t, err, device.ErrRange)
	}
	_, err := r.WriteAt(make([]byte, 2), 4095)
	require.ErrorIs(t, err, device.ErrRange)
	store(t, r, 1, 60, 100)
	require.NoError(t, r.Persist(60, 100)) // lines 0, 1 and 2
	load(t, r, 0, 1000)
	require.Equal(t, 3*30*time.Nanosecond+100+1000, clock.Now())
	require.Equal(t, nvramsim.PMemStats{BytesRead: 1000, BytesWritten: 100, WriteBacks: 3, Fences: 1}, r.Stats())
}

// TestPMemAgainstPlainBytes: loads see all stores; what is persisted survives any
// power cut; every byte is one that was there since.
func TestPMemAgainstPlainBytes(t *testing.T) {
	const size = 512
	rapid.Check(t, func(rt *rapid.T) {
		m, r := pmem(size)
		want := make([]byte, size)
		var seen [size]map[byte]bool // since persisted
		for i := range seen {
			seen[i] = map[byte]bool{0: true}
		}
		for range rapid.IntRange(1, 40).Draw(rt, "ops") {
			off := rapid.Int64Range(0, size-1).Draw(rt, "off")
			n := rapid.Int64Range(0, size-off).Draw(rt, "n")
			if rapid.Bool().Draw(rt, "store") {
				b := rapid.Byte().Draw(rt, "byte")
				store(rt, r, b, off, int(n))
				for i := off; i < off+n; i++ {
					want[i] = b
					seen[i][b] = true
				}
			} else {
				require.NoError(rt, r.Persist(off, n))
				for i := off; i < off+n; i++ {
					seen[i] = map[byte]bool{want[i]: true}
				}
			}
			require.Equal(rt, want, load(rt, r, 0, size))
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		for i, b := range load(rt, cut(m, rng, memdev.RandomFate(rng)), 0, size) {
			require.True(rt, seen[i][b], "byte %d is %d", i, b)
		}
	})
}

// TestStackCrashesAtOneInstant puts an NVRAM, a disk and a pmem into one machine
// with one clock.
func TestStackCrashesAtOneInstant(t *testing.T) {
	m, clock := memdev.NewMachine(), new(nvramsim.Clock)
	hdd := nvramsim.NewHDD(clock, nvramsim.TypicalHDD())
	origin, err := hdd.Partition(0, m.NewVolatile("origin", 1<<20))
	require.NoError(t, err)
	log, err := nvramsim.NewNVRAM(clock, nvramsim.TypicalNVRAM()).Partition(0, m.New("log", 1<<20))
	require.NoError(t, err)
	region := nvramsim.NewPMem(m, "pmem", clock, 4096, nvramsim.TypicalPMem())

	start := clock.Now()
	write := func(d device.Device) {
		_, err := d.WriteAt(fill(1, 4096), 0)
		require.NoError(t, err)
	}
	write(log)
	require.Equal(t, 10*time.Microsecond+2048, clock.Now()-start)
	require.NoError(t, log.Flush())
	require.Equal(t, 10*time.Microsecond+2048, clock.Now()-start, "a flush of NVRAM is free")
	write(origin)
	store(t, region, 1, 0, 8)
	left := m.Crash(rand.New(rand.NewPCG(1, 1)), memdev.Fate{})
	got := make([]byte, 4096)
	_, err = left.Device("log").ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, fill(1, 4096), got)
	_, err = left.Device("origin").ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, fill(0, 4096), got)
	require.Equal(t, fill(0, 8), load(t, left.Part("pmem").(*nvramsim.PMem), 0, 8))
}
