// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestParallelProcessors: a scheduler that was told to have more threads than there are
// processors, for the sake of I/O, does not get a codec's memory for each.
func TestParallelProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 6))
	jobs, workers := parallel(0, 0, 1<<20)
	require.Equal(t, runtime.NumCPU(), workers)
	require.LessOrEqual(t, int64(jobs)*buffersPerJob<<20, int64(DefaultMemory))
	_, workers = parallel(1, 0, 1<<20)
	require.Equal(t, 1, workers)
}
