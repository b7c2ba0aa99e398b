// SPDX-License-Identifier: Apache-2.0

package gen_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/gen"
)

func take(t *testing.T, spec gen.Spec, n int) []workloads.Op {
	t.Helper()
	s, err := gen.New(spec)
	require.NoError(t, err)
	var ops []workloads.Op
	for range n {
		op, ok := s.Next()
		if !ok {
			break
		}
		if err := op.Check(spec.Start + spec.Range); err != nil || op.Kind != workloads.Flush && op.Off < spec.Start {
			t.Fatalf("%v is not within %d+%d: %v", op, spec.Start, spec.Range, err)
		}
		ops = append(ops, op)
	}
	return ops
}

// TestGolden pins the streams: a change would silently change every experiment.
func TestGolden(t *testing.T) {
	base := gen.Spec{Seed: 42, Start: 1 << 20, Range: 1 << 20, Block: 4096}
	for pattern, want := range map[gen.Pattern]string{
		gen.Random:     "[write 2080768+4096 write 1372160+4096 flush write 1576960+4096 read 1765376+4096]",
		gen.Sequential: "[write 1048576+4096 write 1052672+4096 flush write 1056768+4096 read 1060864+4096]",
		gen.Zipfian:    "[write 1208320+4096 write 1089536+4096 flush write 1093632+4096 read 1835008+4096]",
		gen.Once:       "[write 1208320+4096 write 1957888+4096 flush write 1740800+4096 read 1835008+4096]",
	} {
		spec := base
		spec.Pattern, spec.Reads, spec.SyncEvery, spec.Theta = pattern, 0.3, 2, 0.99
		got := fmt.Sprint(take(t, spec, 5))
		require.Equal(t, got, fmt.Sprint(take(t, spec, 5)), "same seed, same stream")
		require.Equal(t, want, got, pattern)
		spec.Seed++
		if pattern != gen.Sequential {
			require.NotEqual(t, got, fmt.Sprint(take(t, spec, 5)), "another seed, another stream")
		}
	}
}

func TestOnceTouchesEachBlockOnce(t *testing.T) {
	for _, blocks := range []int{1, 2, 3, 5, 64, 1000, 4097} {
		ops := take(t, gen.Spec{Pattern: gen.Once, Seed: 7, Range: int64(blocks) * 4096, Block: 4096}, 2*blocks)
		require.Len(t, ops, blocks)
		seen := make(map[int64]bool)
		for _, op := range ops {
			seen[op.Off] = true
		}
		require.Len(t, seen, blocks)
	}
}

func TestPermutationOfHugeRange(t *testing.T) {
	p := gen.NewPermutation(1, 1<<61+12345)
	seen := make(map[uint64]bool)
	for i := range uint64(1000) {
		at := p.At(i)
		require.Less(t, at, uint64(1<<61+12345))
		seen[at] = true
	}
	require.Len(t, seen, 1000)
}

func TestRandomIsUniform(t *testing.T) {
	const places, n = 64, 64000
	var hits [places]int
	for _, op := range take(t, gen.Spec{Pattern: gen.Random, Seed: 1, Range: places * 4096, Block: 4096}, n) {
		hits[op.Off/4096]++
	}
	for place, h := range hits {
		require.InDelta(t, n/places, h, 6*math.Sqrt(n/places), "place %d", place)
	}
}

func TestZipfianHasItsShape(t *testing.T) {
	const places, n = 1000, 200000
	for _, theta := range []float64{0.5, 0.99, 1, 1.2} {
		hits := make(map[int64]int)
		spec := gen.Spec{Pattern: gen.Zipfian, Seed: 3, Range: places * 4096, Block: 4096, Theta: theta}
		for _, op := range take(t, spec, n) {
			hits[op.Off/4096]++
		}
		sum := 0.0
		for k := 1; k <= places; k++ {
			sum += math.Pow(float64(k), -theta)
		}
		scatter := gen.NewPermutation(3, places)
		for _, rank := range []uint64{0, 1, 9, 99} {
			want := n * math.Pow(float64(rank+1), -theta) / sum
			require.InDelta(t, want, hits[int64(scatter.At(rank))], 6*math.Sqrt(want), "theta %v, rank %d", theta, rank)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Run("sequential wraps", func(t *testing.T) {
		ops := take(t, gen.Spec{Pattern: gen.Sequential, Start: 8192, Range: 8192, Block: 4096}, 3)
		require.Equal(t, "[write 8192+4096 write 12288+4096 write 8192+4096]", fmt.Sprint(ops))
	})
	t.Run("alignment below the block size stays in range", func(t *testing.T) {
		for _, op := range take(t, gen.Spec{Pattern: gen.Random, Range: 10240, Block: 8192, Align: 512}, 1000) {
			require.LessOrEqual(t, op.End(), int64(10240))
		}
	})
	t.Run("count and reads", func(t *testing.T) {
		ops := take(t, gen.Spec{Pattern: gen.Random, Range: 1 << 30, Block: 4096, Count: 10000, Reads: 0.7, FUA: true}, 1<<20)
		require.Len(t, ops, 10000)
		reads := 0
		for _, op := range ops {
			require.Equal(t, op.Kind == workloads.Write, op.FUA)
			if op.Kind == workloads.Read {
				reads++
			}
		}
		require.InDelta(t, 7000, reads, 300)
	})
	t.Run("a sync follows the last write", func(t *testing.T) {
		ops := take(t, gen.Spec{Pattern: gen.Once, Range: 4 * 512, Block: 512, SyncEvery: 2}, 100)
		require.Len(t, ops, 6)
		require.Equal(t, workloads.Flush, ops[2].Kind)
		require.Equal(t, workloads.Flush, ops[5].Kind)
	})
}

func TestNewRefuses(t *testing.T) {
	good := gen.Spec{Pattern: gen.Zipfian, Range: 1 << 20, Block: 4096, Theta: 0.9}
	for complaint, spoil := range map[string]func(*gen.Spec){
		"unknown pattern":        func(s *gen.Spec) { s.Pattern = "zigzag" },
		"block size 100":         func(s *gen.Spec) { s.Block = 100 },
		"block size 134217728":   func(s *gen.Spec) { s.Block = 128 << 20 },
		"alignment 100":          func(s *gen.Spec) { s.Align = 100 },
		"blocks would overlap":   func(s *gen.Spec) { s.Pattern, s.Align = gen.Once, 512 },
		"start 512":              func(s *gen.Spec) { s.Start = 512 },
		"range of 512":           func(s *gen.Spec) { s.Range = 512 },
		"range of 9223372036854": func(s *gen.Spec) { s.Start, s.Range = 8192, math.MaxInt64 },
		"share of reads":         func(s *gen.Spec) { s.Reads = math.NaN() },
		"theta":                  func(s *gen.Spec) { s.Theta = 0 },
		"count -1":               func(s *gen.Spec) { s.Count = -1 },
	} {
		spec := good
		spoil(&spec)
		_, err := gen.New(spec)
		require.ErrorContains(t, err, complaint)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	for _, p := range []gen.Pattern{gen.Random, gen.Sequential, gen.Zipfian, gen.Once} {
		s, err := gen.New(gen.Spec{Pattern: p, Range: 1 << 40, Block: 4096, Theta: 0.9, Reads: 0.5, SyncEvery: 3})
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(1000, func() { s.Next() }), p)
	}
}
