// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/wire"
)

func TestBuffersFit(t *testing.T) {
	var b buffers
	for _, n := range []int{1, 512, 4096, 4097, 64 << 10, 1<<20 + 1, wire.MaxPayload - 1, wire.MaxPayload} {
		p := b.get(n)
		require.GreaterOrEqual(t, len(*p), n)
		require.Less(t, len(*p), max(2*n, 4097))
		require.True(t, device.Aligned(*p, 4096))
		require.Equal(t, bufferClass(n), bufferClass(len(*p)), "returns to where it came from")
		b.put(p)
	}
}

func TestBudgetServesInOrder(t *testing.T) {
	b := budget{left: 10}
	require.True(t, b.try(8))
	big, small := make(chan bool, 1), make(chan bool, 1)
	go func() { big <- b.take(10, nil) }()
	waitFor(t, &b, 1)
	require.False(t, b.try(1), "must not overtake the one that waits")
	go func() { small <- b.take(1, nil) }()
	waitFor(t, &b, 2)
	b.give(8)
	require.True(t, <-big)
	require.Empty(t, small)
	b.give(10)
	require.True(t, <-small)
	require.EqualValues(t, 9, b.left)
}

// TestBudgetGivesUp has a waiter leave, which must let the next one in.
func TestBudgetGivesUp(t *testing.T) {
	b := budget{left: 2}
	done := make(chan struct{})
	big, small := make(chan bool, 1), make(chan bool, 1)
	go func() { big <- b.take(5, done) }()
	waitFor(t, &b, 1)
	go func() { small <- b.take(2, nil) }()
	waitFor(t, &b, 2)
	close(done)
	require.False(t, <-big)
	require.True(t, <-small)
	require.Zero(t, b.left)
}

func waitFor(t *testing.T, b *budget, waiters int) {
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.waiters) == waiters
	}, testPatience, testTick)
}
