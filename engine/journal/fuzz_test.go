// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
)

const fuzzSize = 16 << 10

// ringBytes returns a ring of 16 KiB with some records.
func ringBytes(t testing.TB, grain int64) []byte {
	r, m := newRing(fuzzSize, grain)
	appendAll(t, r, 100, 3000, 600)
	b := make([]byte, fuzzSize)
	_, err := m.ReadAt(b, ringStart)
	require.NoError(t, err)
	return b
}

// replayBytes replays arbitrary bytes; what it finds must be sane.
func replayBytes(t testing.TB, ring []byte, grain int64, pos layout.Position) int {
	m := journal.OnDevice{Device: memdev.New(ringStart + fuzzSize)}
	_, err := m.WriteAt(append(ring, make([]byte, fuzzSize)...)[:fuzzSize], ringStart)
	require.NoError(t, err)
	r := journal.New(m, ringStart, fuzzSize, grain, testUUID)
	n := 0
	err = r.Replay(testEpoch, pos, func(h layout.RecordHeader, b []byte) error {
		require.Equal(t, pos.Seq+uint64(n), h.Seq)
		require.Less(t, len(b), fuzzSize)
		n++
		return nil
	})
	if err != nil {
		require.ErrorIs(t, err, layout.ErrCorrupt)
		return 0
	}
	require.LessOrEqual(t, n, fuzzSize/int(grain))
	require.Less(t, r.Position().Place, uint64(fuzzSize))
	return n
}

func FuzzReplay(f *testing.F) {
	f.Add(ringBytes(f, 512), uint64(0), uint64(1))
	f.Add(ringBytes(f, 512), uint64(512), uint64(2))
	f.Add([]byte{}, uint64(fuzzSize), uint64(0))
	f.Add(make([]byte, fuzzSize), uint64(1<<63), uint64(1))
	f.Fuzz(func(t *testing.T, ring []byte, place, seq uint64) {
		replayBytes(t, ring, 512, layout.Position{Place: place, Seq: seq})
	})
}

// Whatever bytes of a ring are damaged, a replay finds the records before the
// damage, none that was damaged, and does not fail.
func TestReplayOfADamagedRing(t *testing.T) {
	for _, grain := range []int64{512, 4096} {
		rng := rand.New(rand.NewPCG(1, uint64(grain)))
		whole := ringBytes(t, grain)
		all := replayBytes(t, whole, grain, layout.Position{Seq: 1})
		require.Equal(t, 3, all)
		lost := 0
		for range 400 {
			ring := append([]byte(nil), whole...)
			at := rng.IntN(len(ring))
			ring[at] ^= 1 << rng.IntN(8)
			n := replayBytes(t, ring, grain, layout.Position{Seq: 1})
			require.LessOrEqual(t, n, all)
			if at < 64+100 {
				require.Zero(t, n)
			} else {
				require.Positive(t, n)
			}
			lost += all - n
		}
		require.Positive(t, lost)
	}
}
