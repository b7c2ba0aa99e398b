// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The width grows while a deletion is behind, and is one again when it is not; what it
// was ahead once counts for a second only.
func TestPace(t *testing.T) {
	const second = 1e9
	p := pace{least: 100}
	p.begin(0)
	step := func(done int, now int64) int {
		p.done = done
		p.looked(now)
		return p.width
	}
	require.Equal(t, 1, step(10000, second), "far ahead")
	require.Equal(t, 1, step(0, 2*second), "just no longer ahead")
	for i, want := range []int{2, 4, 8, 16, 32, 32} {
		require.Equal(t, want, step(50, int64(3+i)*second), "behind")
	}
	for i, want := range []int{16, 8, 4, 2, 1, 1} {
		require.Equal(t, want, step(300, int64(9+i)*second))
	}
	p.begin(1000 * second)
	require.Equal(t, 32, func() int {
		for i := range 6 {
			step(0, int64(1000+i)*second)
		}
		return p.width
	}())
	p.going = false
	p.begin(2000 * second)
	require.Equal(t, 1, p.width, "another deletion")
}
