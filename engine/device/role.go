// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Role says as what a process opens a device that processes of several roles share:
// a store's. Each holds one byte of the file by an open file description lock, which
// the kernel frees when the process ends, however it ends; so others can tell who
// lives. The bytes are part of the protocol between server and clients; package wire
// describes it.
type Role uint8

const (
	// Alone is the role of a process that shares the file with none, or only with
	// others that are alone and read only.
	Alone Role = iota
	// Server is the role of the metadata server. Of a block device, it has the
	// kernel's claim too, so that nobody mounts it.
	Server
	// Origin is the role of the origin's client.
	Origin
	// Snapshots is the role of a client that opens snapshots. There may be many.
	Snapshots
)

// The bytes that are locked. Part of the protocol, must not change.
const (
	ServerByte        = 0
	OriginByte        = 1
	FirstSnapshotByte = 16
	LastSnapshotByte  = 1023
)

// lockRole takes the lock of the file's role.
func (f *File) lockRole() error {
	switch f.role {
	case Alone:
		return f.setLock(f.lockKind(), 0, 0)
	case Server:
		return f.take(ServerByte, "a server")
	case Origin:
		return f.take(OriginByte, "an origin client")
	}
	for b := uint32(FirstSnapshotByte); b <= LastSnapshotByte; b++ {
		if err := f.TakeByte(b); !errors.Is(err, ErrInUse) {
			return err
		}
	}
	return fmt.Errorf("%w: too many clients of snapshots", ErrInUse)
}

func (f *File) take(b uint32, who string) error {
	err := f.TakeByte(b)
	if errors.Is(err, ErrInUse) {
		return fmt.Errorf("%w: %s has it already, or a process that wants it for itself", ErrInUse, who)
	}
	return err
}

// lockKind returns the kind of lock that keeps others out as far as they disturb.
func (f *File) lockKind() int16 {
	if f.readOnly {
		return unix.F_RDLCK
	}
	return unix.F_WRLCK
}

// TakeByte locks a byte for this file, until Close. The error wraps [ErrInUse] if
// another process, or another File, has it. The file must be open for writing.
func (f *File) TakeByte(b uint32) error {
	if err := f.setLock(unix.F_WRLCK, int64(b), 1); err != nil {
		return err
	}
	if b >= FirstSnapshotByte {
		f.held = b
	}
	return nil
}

// HeldByte returns the byte that a file of role [Snapshots] has locked.
func (f *File) HeldByte() uint32 { return f.held }

// setLock locks n bytes from start on, all if n is zero.
func (f *File) setLock(kind int16, start, n int64) error {
	l := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: start, Len: n}
	err := f.control(func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l) })
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: %s", ErrInUse, lockHolder(f.file))
	}
	return err
}

// written reports whether others have locks as writers. One that only reads has a read
// lock, or none any more while it closes the file.
func (f *File) written() bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := f.control(func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) })
	return err != nil || l.Type == unix.F_WRLCK
}

// Orphaned reports whether clients of a server have the file at path, and no server.
func Orphaned(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	f := &File{path: path, file: file}
	if f.raw, err = file.SyscallConn(); err != nil {
		return false
	}
	server, err := f.TakenBytes(ServerByte, ServerByte)
	if err != nil || len(server) > 0 {
		return false
	}
	clients, err := f.TakenBytes(OriginByte, LastSnapshotByte)
	return err == nil && len(clients) > 0
}

// TakenBytes returns which of the bytes from first to last others have locked,
// ascending.
func (f *File) TakenBytes(first, last uint32) (list []uint32, err error) {
	for at := int64(first); at <= int64(last); {
		l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: int64(last) + 1 - at}
		if err := f.control(func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) }); err != nil {
			return nil, f.wrap("looking for locks", at, l.Len, err)
		}
		if l.Type == unix.F_UNLCK {
			break
		}
		// The kernel tells of any lock that is in the way: look at each byte before it.
		end := int64(last) + 1
		if l.Len > 0 {
			end = min(end, l.Start+l.Len)
		}
		if l.Start > at {
			before, err := f.TakenBytes(uint32(at), uint32(l.Start-1))
			if err != nil {
				return nil, err
			}
			list = append(list, before...)
		}
		for b := max(at, l.Start); b < end; b++ {
			list = append(list, uint32(b))
		}
		at = end
	}
	return list, nil
}
