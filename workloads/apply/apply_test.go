// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/gen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const size = 1 << 20

// recorder is a memory device that notes what it is asked and how much of it at
// once, and that fails at will.
type recorder struct {
	mu     sync.Mutex
	bytes  [size]byte
	log    []string
	active int
	most   int           // largest active
	during int           // largest active while a flush was under way
	delay  time.Duration // of each transfer
	fail   string        // the op that fails
}

var errBroken = errors.New("broken")

func (r *recorder) enter(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := fmt.Sprintf(format, args...)
	r.log = append(r.log, entry)
	r.active++
	r.most = max(r.most, r.active)
	if entry == "flush" {
		r.during = max(r.during, r.active)
	}
	if entry == r.fail {
		return errBroken
	}
	return nil
}

func (r *recorder) leave() {
	time.Sleep(r.delay)
	r.mu.Lock()
	r.active--
	r.mu.Unlock()
}

func (r *recorder) ReadAt(p []byte, off int64) (int, error) {
	defer r.leave()
	err := r.enter("read %d+%d", off, len(p))
	return copy(p, r.bytes[off:]), err
}

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	defer r.leave()
	err := r.enter("write %d+%d", off, len(p))
	return copy(r.bytes[off:], p), err
}

func (r *recorder) WriteZeroes(off, n int64) error {
	defer r.leave()
	return r.enter("zero %d+%d", off, n)
}

func (r *recorder) Discard(off, n int64) error {
	defer r.leave()
	return r.enter("discard %d+%d", off, n)
}

func (r *recorder) Flush() error { defer r.leave(); return r.enter("flush") }
func (r *recorder) Size() int64  { return size }

func stream(lines ...string) workloads.Stream {
	return workloads.NewScanner(strings.NewReader(strings.Join(lines, "\n")))
}

func TestRunIssuesInOrderAndCounts(t *testing.T) {
	dev := &recorder{}
	r, err := apply.Run(t.Context(), dev, stream("write 0+4096", "read 0+512", "flush", "write 8192+512 fua",
		"zero 4096+1024", "discard 0+65536"), apply.Options{Seed: 1, Version: 2, Verify: true})
	require.NoError(t, err)
	require.Equal(t, []string{"write 0+4096", "read 0+512", "flush", "write 8192+512", "flush", "zero 4096+1024", "discard 0+65536"}, dev.log)
	require.NoError(t, gen.Verify(dev.bytes[:4096], 1, 0, 2))
	require.NoError(t, gen.Verify(dev.bytes[8192:8704], 1, 8192, 2))
	require.Equal(t, int64(6), r.Ops())
	require.Equal(t, int64(4096+512+512), r.Bytes())
	require.Equal(t, int64(2), r.ByKind[workloads.Write].Ops)
	require.Equal(t, int64(2), r.ByKind[workloads.Write].Latency.TotalCount())
	require.Equal(t, int64(65536), r.ByKind[workloads.Discard].Bytes)
	require.Positive(t, r.Elapsed)
}

func TestRunKeepsTheQueueFull(t *testing.T) {
	dev := &recorder{delay: time.Millisecond}
	s, err := gen.New(gen.Spec{Pattern: gen.Once, Range: size, Block: 4096, SyncEvery: 50})
	require.NoError(t, err)
	r, err := apply.Run(t.Context(), dev, s, apply.Options{Depth: 8})
	require.NoError(t, err)
	require.Equal(t, int64(256), r.ByKind[workloads.Write].Ops)
	require.Equal(t, 8, dev.most)
	require.Equal(t, 1, dev.during, "a flush is alone")
}

func TestLooseFlushIsNoBarrier(t *testing.T) {
	dev := &recorder{delay: time.Millisecond}
	s, err := gen.New(gen.Spec{Pattern: gen.Once, Range: size, Block: 4096, SyncEvery: 4})
	require.NoError(t, err)
	_, err = apply.Run(t.Context(), dev, s, apply.Options{Depth: 8, LooseFlush: true})
	require.NoError(t, err)
	require.Greater(t, dev.during, 1)
}

func TestOverlappingOpsKeepTheirOrder(t *testing.T) {
	dev := &recorder{delay: time.Millisecond}
	s, err := gen.New(gen.Spec{Pattern: gen.Random, Range: 8192, Block: 4096, Align: 512, Count: 100})
	require.NoError(t, err)
	_, err = apply.Run(t.Context(), dev, s, apply.Options{Depth: 16})
	require.NoError(t, err)
	require.LessOrEqual(t, dev.most, 2, "two ops of half the range")

	dev = &recorder{delay: time.Millisecond}
	_, err = apply.Run(t.Context(), dev, stream("read 0+4096", "read 0+4096", "read 0+4096"), apply.Options{Depth: 3})
	require.NoError(t, err)
	require.Equal(t, 3, dev.most, "reads may overlap")
}

func TestRunEndsWithTheFirstError(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"device":       {[]string{"write 0+512", "write 512+512", "write 1024+512"}, "write 512+512: broken"},
		"flush":        {[]string{"flush", "write 0+512", "write 512+512"}, "write 512+512: broken"},
		"out of range": {[]string{"write 0+512", "write 1048576+512"}, "exceeds the device size"},
		"bad stream":   {[]string{"write 0+512", "scribble"}, "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, depth := range []int{1, 4} {
				dev := &recorder{fail: "write 512+512"}
				r, err := apply.Run(t.Context(), dev, stream(tc.lines...), apply.Options{Depth: depth})
				require.ErrorContains(t, err, tc.want)
				require.Less(t, r.Ops(), int64(3))
				dev = &recorder{fail: "write 512+512"}
				_, err = apply.Replay(t.Context(), dev, stream(tc.lines...), apply.Options{Depth: depth})
				require.ErrorContains(t, err, tc.want[strings.Index(tc.want, ":")+1:])
			}
		})
	}
}

func TestRunStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := gen.New(gen.Spec{Pattern: gen.Random, Range: size, Block: 4096}) // endless
	require.NoError(t, err)
	time.AfterFunc(5*time.Millisecond, cancel)
	_, err = apply.Run(ctx, &recorder{}, s, apply.Options{Depth: 4})
	require.ErrorIs(t, err, context.Canceled)

	_, err = apply.Run(ctx, &recorder{}, stream("flush gap=1h"), apply.Options{Gaps: true})
	require.ErrorIs(t, err, context.Canceled)
	_, err = apply.Replay(ctx, &recorder{}, s, apply.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestGapsAreHonoured(t *testing.T) {
	r, err := apply.Run(t.Context(), &recorder{}, stream("flush", "flush gap=20ms", "flush gap=20ms"), apply.Options{Gaps: true, Depth: 2})
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Elapsed, 40*time.Millisecond)
}

func TestVerifyFindsDamage(t *testing.T) {
	for name, f := range map[string]func(context.Context, device.Device, workloads.Stream, apply.Options) (apply.Result, error){
		"run": apply.Run, "replay": apply.Replay,
	} {
		t.Run(name, func(t *testing.T) {
			dev := &recorder{}
			_, err := f(t.Context(), dev, stream("write 0+4096", "read 0+8192"), apply.Options{Verify: true})
			require.NoError(t, err)
			dev.bytes[700] ^= 1
			_, err = f(t.Context(), dev, stream("read 0+8192"), apply.Options{Verify: true})
			require.ErrorIs(t, err, gen.ErrContent)
			require.ErrorContains(t, err, "sector at 512")
		})
	}
}

func TestProgressEndsAtTheTotal(t *testing.T) {
	var last apply.Progress
	r, err := apply.Run(t.Context(), &recorder{}, stream("write 0+4096", "flush"),
		apply.Options{OnProgress: func(p apply.Progress) { last = p }})
	require.NoError(t, err)
	require.Equal(t, apply.Progress{Ops: r.Ops(), Bytes: 4096}, last)
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []apply.Options{{Depth: -1}, {Depth: 1 << 20}, {BufferAlign: 100}, {BufferAlign: 8192}} {
		_, err := apply.Run(t.Context(), &recorder{}, stream(), o)
		require.Error(t, err)
		_, err = apply.Replay(t.Context(), &recorder{}, stream(), o)
		require.Error(t, err)
	}
}

// quiet is a device that does nothing, and does not allocate either.
type quiet struct{}

func (quiet) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (quiet) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (quiet) Flush() error                           { return nil }
func (quiet) Discard(int64, int64) error             { return nil }
func (quiet) Size() int64                            { return 1 << 30 }

func (quiet) Do([]device.Op) error { return nil }

func TestLoopAllocatesNothing(t *testing.T) {
	allocs := func(count int64, f func(context.Context, device.Device, workloads.Stream, apply.Options) (apply.Result, error)) float64 {
		return testing.AllocsPerRun(5, func() {
			s, err := gen.New(gen.Spec{Pattern: gen.Random, Range: 1 << 30, Block: 4096, Count: count, SyncEvery: 10, Reads: 0.5})
			require.NoError(t, err)
			_, err = f(t.Context(), quiet{}, s, apply.Options{Depth: 4})
			require.NoError(t, err)
		})
	}
	require.InDelta(t, allocs(100, apply.Run), allocs(2000, apply.Run), 20)
	require.InDelta(t, allocs(100, apply.Replay), allocs(2000, apply.Replay), 20)
}

func BenchmarkRun(b *testing.B) {
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			s, err := gen.New(gen.Spec{Pattern: gen.Random, Range: 1 << 30, Block: 4096, Count: int64(b.N)})
			require.NoError(b, err)
			b.ReportAllocs()
			b.ResetTimer()
			_, err = apply.Run(b.Context(), quiet{}, s, apply.Options{Depth: depth})
			require.NoError(b, err)
		})
	}
}
