// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
)

// boundaries is a medium that calls at before and after each write and persist.
type boundaries struct {
	journal.Medium
	at func()
}

func (b boundaries) WriteAt(p []byte, off int64) (int, error) {
	b.at()
	n, err := b.Medium.WriteAt(p, off)
	b.at()
	return n, err
}

func (b boundaries) Persist(off, n int64) error {
	err := b.Medium.Persist(off, n)
	b.at()
	return err
}

// crashTest appends records to a ring that wraps many times, and cuts the power
// at every boundary.
type crashTest struct {
	rig
	machine  *memdev.Machine
	rng      *rand.Rand
	size     int64
	pos      layout.Position // durable: where a replay begins
	bodies   [][]byte        // of the records since
	returned int             // how many of them have been appended for sure
	extra    int             // replays that found one more
	short    int             // replays that did not, while there was one
}

// crash replays what a power cut leaves: every record whose Append has returned,
// and at most the one under way.
func (c *crashTest) crash(t *testing.T) {
	for range 6 {
		m := c.machine.Crash(c.rng, memdev.RandomFate(c.rng))
		got, _ := replayed(t, c.find(m), c.size, c.grain, testEpoch, c.pos)
		require.GreaterOrEqual(t, len(got), c.returned, "a record is lost")
		require.LessOrEqual(t, len(got), len(c.bodies))
		for i, b := range got {
			require.Equal(t, c.bodies[i], b)
		}
		if len(c.bodies) > c.returned {
			if len(got) > c.returned {
				c.extra++
			} else {
				c.short++
			}
		}
	}
}

func TestCrashAtEveryBoundary(t *testing.T) {
	for _, rig := range rigs {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", rig.name, seed), func(t *testing.T) {
				c := crashTest{
					rig: rig, machine: memdev.NewMachine(), rng: rand.New(rand.NewPCG(seed, 2)),
					size: 24 * rig.grain, pos: layout.Position{Seq: 1},
				}
				rig.build(c.machine, ringStart+c.size)
				c.run(t)
				require.Positive(t, c.extra)
				require.Positive(t, c.short)
			})
		}
	}
}

func (c *crashTest) run(t *testing.T) {
	medium := boundaries{c.find(c.machine), func() { c.crash(t) }}
	r := journal.New(medium, ringStart, c.size, c.grain, testUUID)
	r.Reset(testEpoch, c.pos.Seq)
	for range 60 {
		b := body(r.Position().Seq, c.rng.IntN(6*int(c.grain)))
		c.bodies = append(c.bodies, b)
		err := r.Append(layout.RecordBatch, b)
		if errors.Is(err, journal.ErrFull) {
			c.bodies = c.bodies[:c.returned]
		} else {
			require.NoError(t, err)
			c.returned++
		}
		if err != nil || c.rng.IntN(8) == 0 { // a checkpoint is durable
			c.pos = r.Position()
			r.Release(c.pos)
			c.bodies, c.returned = nil, 0
		}
	}
}

// A record whose power was cut is never taken for the next one, even if the next
// attempt has its number: the epoch differs.
func TestTornRecordOfAnEarlierEpoch(t *testing.T) {
	for _, rig := range rigs {
		rng := rand.New(rand.NewPCG(7, 7))
		m, size := memdev.NewMachine(), 24*rig.grain
		rig.build(m, ringStart+size)
		pos := layout.Position{Seq: 1}
		for epoch := uint64(1); epoch < 100; epoch++ {
			r := journal.New(rig.find(m), ringStart, size, rig.grain, testUUID)
			r.Reset(epoch, pos.Seq)
			pos = r.Position()
			want := [][]byte{}
			for range rng.IntN(3) {
				want = append(want, body(r.Position().Seq, rng.IntN(3*int(rig.grain))))
				require.NoError(t, r.Append(layout.RecordBatch, want[len(want)-1]))
			}
			lost := body(r.Position().Seq, rng.IntN(3*int(rig.grain)))
			medium := &failing{Medium: rig.find(m)}
			torn := journal.New(medium, ringStart, size, rig.grain, testUUID)
			require.NoError(t, torn.Replay(epoch, r.Position(), nil)) // go on there
			medium.left = 2                                           // written, not persisted
			require.Error(t, torn.Append(layout.RecordBatch, lost))
			m = m.Crash(rng, memdev.RandomFate(rng))
			got, again := replayed(t, rig.find(m), size, rig.grain, epoch, pos)
			if len(got) > len(want) {
				want = append(want, lost)
			}
			require.Equal(t, len(want), len(got))
			for i := range want {
				require.Equal(t, want[i], got[i])
			}
			pos = layout.Position{Seq: again.Position().Seq}
		}
	}
}
