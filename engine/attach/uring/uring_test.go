// SPDX-License-Identifier: Apache-2.0

package uring

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newRing(t *testing.T, commands int, large bool) *Ring {
	t.Helper()
	r, err := New(commands, large)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip("this machine has no io_uring for us:", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// TestPoll waits for eventfds to become readable, many times around the ring.
func TestPoll(t *testing.T) {
	for _, large := range []bool{false, true} {
		r := newRing(t, 4, large)
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		defer unix.Close(fd)
		for i := range uint64(20) {
			e, err := r.Next(OpPollAdd, fd, 100+i)
			require.NoError(t, err)
			e.SetPoll(unix.POLLIN)
			require.NoError(t, r.Submit(0))
			require.Zero(t, r.Ready())
			_, err = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
			require.NoError(t, err)
			require.NoError(t, r.Submit(1))
			c, ok := r.Take()
			require.True(t, ok)
			require.Equal(t, Completion{Data: 100 + i, Result: unix.POLLIN}, c)
			_, ok = r.Take()
			require.False(t, ok)
			_, err = unix.Read(fd, make([]byte, 8))
			require.NoError(t, err)
		}
	}
}

func TestFull(t *testing.T) {
	r := newRing(t, 4, false)
	for range 4 {
		_, err := r.Next(OpPollAdd, -1, 0)
		require.NoError(t, err)
	}
	_, err := r.Next(OpPollAdd, -1, 0)
	require.ErrorContains(t, err, "full")
	require.NoError(t, r.Submit(4))
	for range 4 {
		c, ok := r.Take()
		require.True(t, ok)
		require.EqualValues(t, -int32(unix.EBADF), c.Result)
	}
}

// TestSizes compares with the kernel's structures: the command must end where the
// entry does.
func TestSizes(t *testing.T) {
	require.Equal(t, 16, commandSize)
	require.Equal(t, 80, largeCommandSize)
}
