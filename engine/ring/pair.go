// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pair returns both ends of a connection that goes through no kernel module: rings in a
// file in memory, and an event descriptor for each side to be woken by. It is for tests
// of what serves rings. Of either end the same holds as of one that [Bind] returns;
// client is the kernel's. The sizes are those of the rings, in bytes, powers of two.
func Pair(toServer, toKernel int) (server, client *Conn, err error) {
	size := headerBytes + toServer + toKernel
	fd, err := unix.MemfdCreate("rings", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("making rings: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, nil, fmt.Errorf("making rings: %w", err)
	}
	var events [4]int // for each side one to wait on, and another for what wakes it
	for i := 0; i < len(events); i += 2 {
		if events[i], err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
			return nil, nil, fmt.Errorf("making rings: %w", err)
		}
		if events[i+1], err = unix.FcntlInt(uintptr(events[i]), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return nil, nil, fmt.Errorf("making rings: %w", err)
		}
	}
	if server, err = end(fd, size, events[0], events[3]); err != nil {
		return nil, nil, err
	}
	if client, err = end(fd, size, events[2], events[1]); err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	a := direction{&server.shared.toServer, server.memory[headerBytes:][:toServer]}
	b := direction{&server.shared.toKernel, server.memory[headerBytes+toServer:]}
	server.in, server.out = a, b
	client.in = direction{&client.shared.toKernel, client.memory[headerBytes+toServer:]}
	client.out = direction{&client.shared.toServer, client.memory[headerBytes:][:toServer]}
	return server, client, nil
}

// end returns one end: it waits on the descriptor waits, and wakes the other by wakes.
func end(fd, size, waits, wakes int) (*Conn, error) {
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping rings: %w", err)
	}
	other := os.NewFile(uintptr(wakes), "event")
	wake := func(uintptr) error {
		_, err := other.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
		return err
	}
	c, err := newConn(os.NewFile(uintptr(waits), "event"), memory, wake)
	if err != nil {
		return nil, err
	}
	c.ending = func() {
		c.shared.closed.Store(1)
		_ = wake(0)
		_ = other.Close()
	}
	return c, nil
}
