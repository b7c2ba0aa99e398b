// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/nvramsim"
)

var testUUID = layout.UUID{9, 8, 7}

const (
	ringStart = 8192
	testEpoch = 5
)

// body returns what record seq of a test holds: n bytes that depend on both.
func body(seq uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seq, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if n >= 8 {
		binary.LittleEndian.PutUint64(b, seq)
	}
	return b
}

// replayed returns the records that a new ring finds on m, and the ring.
func replayed(t testing.TB, m journal.Medium, size, grain int64, epoch uint64, pos layout.Position) ([][]byte, *journal.Ring) {
	t.Helper()
	r := journal.New(m, ringStart, size, grain, testUUID)
	var got [][]byte
	require.NoError(t, r.Replay(epoch, pos, func(h layout.RecordHeader, b []byte) error {
		require.Equal(t, layout.Identity{UUID: testUUID, Epoch: epoch, Seq: pos.Seq + uint64(len(got))}, h.Identity)
		require.Equal(t, layout.RecordBatch, h.Kind)
		require.Equal(t, h.Seq-1, h.Durable)
		got = append(got, bytes.Clone(b))
		return nil
	}))
	require.Equal(t, pos.Seq+uint64(len(got)), r.Position().Seq)
	return got, r
}

// rig is a kind of medium on a machine that can lose power.
type rig struct {
	name  string
	grain int64
	build func(m *memdev.Machine, size int64)
	find  func(m *memdev.Machine) journal.Medium
}

// parts of a machine after a crash.
var rigs = []rig{
	{
		"device", 4096,
		func(m *memdev.Machine, size int64) { m.NewVolatile("ring", size) },
		func(m *memdev.Machine) journal.Medium { return journal.OnDevice{Device: m.Device("ring")} },
	},
	{
		"pmem", 64,
		func(m *memdev.Machine, size int64) {
			nvramsim.NewPMem(m, "ring", &nvramsim.Clock{}, size, nvramsim.PMemParams{})
		},
		func(m *memdev.Machine) journal.Medium { return m.Part("ring").(journal.Medium) },
	},
}
