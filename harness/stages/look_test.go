// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
)

// BenchmarkLook is what it costs that one request in so many is looked at, on a device
// that takes no time.
func BenchmarkLook(b *testing.B) {
	for _, bench := range []struct {
		name  string
		on    bool
		every uint32
	}{{"off", false, 1}, {"one-in-64", true, 64}, {"each", true, 1}} {
		b.Run(bench.name, func(b *testing.B) {
			began := time.Now()
			r := New(Options{Now: func() time.Duration { return time.Since(began) }, Chunk: 4096})
			dev, buf := r.Volume(r.Origin(memdev.New(1<<20))), device.Buffer(512)
			if bench.on {
				r.Begin(1)
			}
			for b.Loop() {
				r.every.Store(bench.every)
				if _, err := dev.WriteAt(buf, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestWhatIsLookedAtStandsForAll looks at one write in five.
func TestWhatIsLookedAtStandsForAll(t *testing.T) {
	const writes = 5000
	ticks := time.Duration(0)
	r := New(Options{Now: func() time.Duration { ticks++; return ticks }, Chunk: 4096})
	dev, buf := r.Volume(r.Origin(memdev.New(1<<20))), device.Buffer(512)
	r.Begin(1)
	for range writes {
		r.every.Store(5)
		_, err := dev.WriteAt(buf, 0)
		require.NoError(t, err)
	}
	a := r.End()
	require.Len(t, a.Classes, 1)
	c := a.Classes[0]
	require.InDelta(t, writes/5, c.Looked, 200, "seven standard deviations")
	require.Equal(t, 5*c.Looked, c.Requests)
	require.Equal(t, c.Requests, c.Times.TotalCount())
	require.Equal(t, 3*c.Requests, c.Nanoseconds, "the clock is read at four times")
	require.Equal(t, int64(writes), a.Flows[0].Operations, "all are counted")
}

// TestAdaptsToWhatRequestsTake looks at each of long requests, and few of short ones.
func TestAdaptsToWhatRequestsTake(t *testing.T) {
	r := New(Options{Now: func() time.Duration { return 0 }})
	for _, c := range []struct {
		took  time.Duration
		depth int
		every uint32
	}{{time.Millisecond, 1, 1}, {10 * time.Microsecond, 1, 5}, {time.Millisecond, 32, 1}, {320 * time.Microsecond, 32, 5}, {100, 1, mostEvery}} {
		r.Begin(c.depth)
		r.mu.Lock()
		r.adapt(c.took)
		r.mu.Unlock()
		require.Equal(t, c.every, r.every.Load(), "%v at depth %d", c.took, c.depth)
	}
}
