// SPDX-License-Identifier: Apache-2.0

package server

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Transport carries the messages between the server and a client: a socket, or the
// rings of package ring. One goroutine reads it. What is written is wanted as a whole:
// after an error of Write the transport is of no more use. Close may come at any time,
// and ends what waits.
type Transport interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	// Sent returns how many bytes the client has sent in all: those that were read,
	// and those that are queued.
	Sent() (uint64, error)
}

// socket is a Unix stream socket as a Transport.
type socket struct {
	*net.UnixConn
	raw syscall.RawConn

	mu    sync.Mutex // held while bytes are taken off
	taken uint64
	p     []byte // to read into
	n     int    // what reading has returned
	err   error
	once  func(fd uintptr) bool
}

func newSocket(nc *net.UnixConn) (*socket, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{UnixConn: nc, raw: raw}
	s.once = s.tryRead // bound once: a read allocates nothing
	return s, nil
}

// Read implements Transport. The bytes are counted under the lock under which they are
// taken off.
func (s *socket) Read(p []byte) (int, error) {
	s.p = p
	err := s.raw.Read(s.once)
	switch {
	case err != nil:
		return 0, err
	case s.err != nil:
		return 0, s.err
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// tryRead reads, and reports whether there was anything.
func (s *socket) tryRead(fd uintptr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.n, s.err = unix.Read(int(fd), s.p)
		if s.err != unix.EINTR {
			break
		}
	}
	if s.n > 0 {
		s.taken += uint64(s.n)
	}
	return s.err != unix.EAGAIN
}

// Sent implements Transport.
func (s *socket) Sent() (sent uint64, err error) {
	cerr := s.raw.Control(func(fd uintptr) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var queued int
		if queued, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			sent = s.taken + uint64(queued)
		}
	})
	if cerr != nil {
		err = cerr
	}
	return sent, err
}
