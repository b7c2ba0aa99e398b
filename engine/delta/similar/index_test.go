// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/corpus"
)

// hits returns how many windows of content are found at their places.
func hits(x *Index, content []byte, offset int64) (right, wrong int) {
	for _, c := range x.find(nil, content, 0, len(content)) {
		if c.place == offset+int64(c.end) {
			right++
		} else {
			wrong++
		}
	}
	return right, wrong
}

func TestIndexFinds(t *testing.T) {
	x, err := NewIndex(0, 1<<20)
	require.NoError(t, err)
	content := corpus.Random(1, 1<<20)
	const far = 15 << 40
	x.Add(far, content)
	right, wrong := hits(x, content, far)
	require.Greater(t, right, 1<<20/128*9/10)
	require.Zero(t, wrong)
	right, wrong = hits(x, corpus.Random(2, 1<<20), far)
	require.Zero(t, right)
	require.Less(t, wrong, 5)
	require.LessOrEqual(t, x.Memory(), 1<<18)
}

// TestIndexThins fills an index over and over: it keeps its memory, and still
// finds of all that was added one window in some.
func TestIndexThins(t *testing.T) {
	x, err := NewIndex(1<<16, 1<<40)
	require.NoError(t, err)
	require.Equal(t, 1<<16, x.Memory())
	const piece = 1 << 20
	for i := range 16 {
		x.Add(int64(i)*piece, corpus.Random(uint64(i), piece))
	}
	require.Equal(t, 1<<16, x.Memory())
	require.Greater(t, x.rate, uint(densest+2))
	for i := range 16 {
		right, wrong := hits(x, corpus.Random(uint64(i), piece), int64(i)*piece)
		require.Greater(t, right, piece>>x.rate/3, "piece %d", i)
		require.Less(t, wrong, 5)
	}
	used := 0
	for _, e := range x.entries {
		if e != 0 {
			used++
		}
	}
	require.Equal(t, used, x.used)
}

// TestIndexFull shows that the sparsest index leaves out what comes late.
func TestIndexFull(t *testing.T) {
	x, err := NewIndex(MinMemory, 1<<40)
	require.NoError(t, err)
	for i := range 64 {
		x.Add(int64(i)<<20, corpus.Random(uint64(i), 1<<20))
	}
	x.rate = sparsest
	x.Add(0, corpus.Random(99, 1<<20))
	require.Equal(t, MinMemory, x.Memory())
}

func TestIndexRuns(t *testing.T) {
	x, err := NewIndex(0, 1<<20)
	require.NoError(t, err)
	for b := range 256 {
		run := make([]byte, 4096)
		for i := range run {
			run[i] = byte(b)
		}
		x.Add(0, run)
	}
	require.LessOrEqual(t, x.used, 256, "a run is found at most at its begin")
}

func TestIndexConcurrent(t *testing.T) {
	x, err := NewIndex(1<<16, 1<<20)
	require.NoError(t, err)
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for k := range 8 {
				content := corpus.Random(uint64(k), 1<<16)
				if i%2 == 0 {
					x.Add(int64(k)<<16, content)
				} else {
					x.find(nil, content, 0, len(content))
				}
			}
		})
	}
	wait.Wait()
}

func TestIndexOptions(t *testing.T) {
	_, err := NewIndex(100, 1)
	require.ErrorContains(t, err, "at least 4096")
	_, err = NewIndex(-1, 1)
	require.ErrorContains(t, err, "at least 4096")
	_, err = NewIndex(0, -1)
	require.ErrorContains(t, err, "of the base")
	x, err := NewIndex(0, 0)
	require.NoError(t, err)
	x.Add(-1, make([]byte, 4096))
	x.Add(1<<44, corpus.Random(1, 4096))
	require.Zero(t, x.used)
}
