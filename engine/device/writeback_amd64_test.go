// SPDX-License-Identifier: Apache-2.0

package device

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLines(t *testing.T) {
	p := Buffer(4096)
	for _, c := range []struct {
		off, n, skip int
		lines        uintptr
	}{{0, 1, 0, 1}, {0, 64, 0, 1}, {0, 65, 0, 2}, {63, 1, 0, 1}, {63, 2, 0, 2}, {64, 128, 64, 2}, {100, 200, 64, 4}} {
		first, n := lines(p[c.off : c.off+c.n])
		require.Equal(t, c.lines, n, "%+v", c)
		require.Equal(t, &p[c.skip], (*byte)(first), "%+v", c)
	}
}

// TestEachInstruction runs those that this processor has.
func TestEachInstruction(t *testing.T) {
	p := Buffer(4096)
	_, extended, _, _ := cpuid(7, 0)
	_, _, _, features := cpuid(1, 0)
	t.Logf("clwb %d, clflushopt %d, clflush %d", extended>>24&1, extended>>23&1, features>>19&1)
	p[100] = 42
	if extended>>24&1 != 0 {
		clwb(lines(p))
	}
	if extended>>23&1 != 0 {
		clflushopt(lines(p))
	}
	if features>>19&1 != 0 {
		clflush(lines(p))
	}
	require.Equal(t, byte(42), p[100])
}
