// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/runner"
)

// TestTunedIsExplained pins what tune says of known figures.
func TestTunedIsExplained(t *testing.T) {
	rows := []runner.Tuned{
		{Chunk: 16 << 10, Time: 8 * time.Second, Cost: 1.6, Copied: 60 << 20, Index: 1 << 20},
		{Chunk: 64 << 10, Time: 7100 * time.Millisecond, Cost: 1.42, Copied: 80 << 20, Index: 64 << 10},
		{Chunk: 256 << 10, Time: 7 * time.Second, Cost: 1.4, Copied: 120 << 20, Index: 8 << 10},
	}
	show := func(rows []runner.Tuned) string {
		var b bytes.Buffer
		require.NoError(t, (&app{out: &b}).showTuned(rows, "ssd"))
		return b.String()
	}
	require.Equal(t, `   chunk    time  against raw   copies   index     space 
─────────────────────────────────────────────────────────
  16 KiB     8 s       1.60 x   60 MiB   1 MiB    61 MiB 
  64 KiB  7.10 s       1.42 x   80 MiB  64 KiB  80.1 MiB 
 256 KiB     7 s       1.40 x  120 MiB   8 KiB   120 MiB 

Use a chunk size of 64 KiB on a device like the ssd model: it takes 1.42 times as long as without snapshots, within 5 % of the fastest, 256 KiB, which takes 120 MiB of space.
The snapshots of the trace take 80.1 MiB: 80 MiB of copies and 64 KiB of index.

  ddsnap initialize --chunksize 64k SNAPDEV ORGDEV
`, show(rows))
	require.Contains(t, show(rows[:1]), "the least of all, and no other within 5 % of it takes less space.\n")
}
