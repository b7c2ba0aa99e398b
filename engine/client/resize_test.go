// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/store"
)

// The origin's client is asked whether its device is large enough; what follows the
// size of the origin hears of it then, and after each resume, when a change may have
// been missed.
func TestTheOriginsSizeIsFollowed(t *testing.T) {
	b := newBed(t)
	require.ErrorIs(t, b.listen.Fit(t.Context(), originSize), store.ErrNoOrigin)
	sizes := make(chan int64, 16)
	c := b.dialWith(client.Options{Resized: func(size int64) error {
		sizes <- size
		return nil
	}})
	v := b.openOrigin(c)
	err := b.listen.Fit(t.Context(), originSize+512)
	require.ErrorIs(t, err, block.ErrGeometry)
	require.ErrorContains(t, err, "has 1048576 bytes, and not 1049088: make it larger first")
	require.Empty(t, sizes, "it is not to have that size")
	require.NoError(t, b.listen.Fit(t.Context(), originSize/2))
	require.EqualValues(t, originSize/2, <-sizes)

	b.kill()
	b.start(true)
	require.EqualValues(t, originSize, <-sizes)
	require.NoError(t, v.Close())
	b.alive.Store(false)
	require.ErrorIs(t, b.listen.Fit(t.Context(), originSize), store.ErrNoOrigin)
}

// A request for the process of the origin's client is answered by it, if it says that
// it does.
func TestTheVolumesProcessIsAsked(t *testing.T) {
	b := newBed(t)
	c := b.dial()
	v := b.openOrigin(c)
	_, err := b.listen.Manage(t.Context(), []byte("{}"))
	require.ErrorIs(t, err, store.ErrNoOrigin)
	require.NoError(t, v.Close())
	hold := make(chan struct{})
	c = b.dialWith(client.Options{Manage: func(ctx context.Context, request []byte) []byte {
		if string(request) == "wait" {
			<-hold
		}
		return append(request, " yes"...)
	}})
	v = b.openOrigin(c)
	answer, err := b.listen.Manage(t.Context(), []byte("really?"))
	require.NoError(t, err)
	require.Equal(t, "really? yes", string(answer))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.listen.Manage(ctx, []byte("wait"))
	require.ErrorIs(t, err, context.Canceled)
	close(hold)
	_, err = b.listen.Manage(t.Context(), []byte("still there?"))
	require.NoError(t, err)
	require.NoError(t, v.Close())
}
