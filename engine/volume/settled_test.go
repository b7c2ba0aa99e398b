// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
)

// A map that changes its size forgets no bit, but whether the other chunks are settled
// is no longer known: what the origin did not have may have been settled before.
func TestSettledMapChangesItsSize(t *testing.T) {
	m := newSettledMap(100, 1<<20)
	m.begin(7)
	m.set(7, 3)
	list, known := m.unsettled(7, 0, 5, nil)
	require.True(t, known)
	require.Equal(t, []block.Chunk{0, 1, 2, 4}, list)
	for _, chunks := range []uint64{3 * settledPageChunks, 50, 5 * settledPageChunks} {
		m.resize(chunks)
		_, known = m.unsettled(7, 0, 5, nil)
		require.False(t, known)
		require.True(t, m.all(7, 3, 4))
		require.False(t, m.all(7, 4, 5))
		_, known = m.unsettled(7, 2*settledPageChunks, 2*settledPageChunks+1, nil)
		require.False(t, known)
		m.learn(7, 0, 10, []block.Chunk{4})
		list, known = m.unsettled(7, 0, 10, nil)
		require.True(t, known)
		require.Equal(t, []block.Chunk{4}, list)
	}
	m.begin(8)
	_, known = m.unsettled(8, 0, 5, nil)
	require.True(t, known)
}
