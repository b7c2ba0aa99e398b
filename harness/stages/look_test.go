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
