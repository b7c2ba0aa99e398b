// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is the node of the kernel's module.
const Device = "/dev/ddsnap"

// UUID is the identity of a store.
type UUID = [16]byte

// The kernel's interface; see kernel/include/ddsnap_dev.h. Must not change.
const (
	interfaceVersion = 1
	ioctlQuery       = 0xc030dd01
	ioctlBind        = 0x4020dd02
	ioctlKick        = 0x0000dd03

	hasOrigin  = 1
	hasSession = 2
	hasServer  = 4
)

// Sizes of the rings: room for any message of a client, and for any of a server, whose
// largest are mappings.
const (
	toServerBytes = 4 << 20
	toKernelBytes = 1 << 20
)

// bindRequest is struct ddsnap_bind.
type bindRequest struct {
	version, flags             uint32
	uuid                       UUID
	toServerSize, toKernelSize uint32
}

// queryRequest is struct ddsnap_query.
type queryRequest struct {
	uuid      UUID
	flags     uint32
	snapshots uint32
	_         [6]uint32
}

// ErrNoDevice is wrapped by errors of a machine without the kernel's module.
var ErrNoDevice = errors.New("the kernel has no module dm-ddsnap loaded")

// ErrBound is wrapped by the error of [Bind] when the store has a server already.
var ErrBound = errors.New("the kernel has a server for the store already")

// open opens the device.
func open() (int, error) {
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT) && exists("/sys/class/misc/ddsnap"):
		return -1, fmt.Errorf("the kernel's module is loaded, and %s is not there: %w", Device, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return -1, fmt.Errorf("%w: %w", ErrNoDevice, err)
	case err != nil:
		return -1, fmt.Errorf("opening %s: %w", Device, err)
	}
	return fd, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Present reports whether the kernel's module is loaded.
func Present() bool { return exists(Device) || exists("/sys/class/misc/ddsnap") }

// Bind makes this process the server of the store's targets in the kernel. The
// connection may be silent for ever: the kernel speaks once the store has a target. It
// needs CAP_SYS_ADMIN. Errors wrap [ErrNoDevice] or [ErrBound].
func Bind(uuid UUID) (*Conn, error) {
	fd, err := open()
	if err != nil {
		return nil, err
	}
	request := bindRequest{version: interfaceVersion, uuid: uuid, toServerSize: toServerBytes, toKernelSize: toKernelBytes}
	err = control(uintptr(fd), ioctlBind, unsafe.Pointer(&request))
	if errors.Is(err, unix.EBUSY) {
		err = ErrBound
	}
	var memory []byte
	if err == nil {
		memory, err = unix.Mmap(fd, 0, headerBytes+toServerBytes+toKernelBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("binding %s: %w", Device, err), unix.Close(fd))
	}
	c, err := newConn(os.NewFile(uintptr(fd), Device), memory, kick)
	if err != nil {
		return nil, err
	}
	c.in = direction{&c.shared.toServer, memory[headerBytes:][:toServerBytes]}
	c.out = direction{&c.shared.toKernel, memory[headerBytes+toServerBytes:]}
	return c, nil
}

func kick(fd uintptr) error { return control(fd, ioctlKick, nil) }

// control is ioctl, again when a signal interrupts it.
func control(fd, number uintptr, argument unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, number, uintptr(argument))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// State is what the kernel has of a store.
type State struct {
	Origin    bool `json:"origin"`    // a target of the origin
	Session   bool `json:"session"`   // which has written as no server may know
	Server    bool `json:"server"`    // a process is bound as the store's server
	Snapshots int  `json:"snapshots"` // targets of snapshots
}

// Targets reports whether the kernel has any target of the store.
func (s State) Targets() bool { return s.Origin || s.Snapshots > 0 }

// Query returns what the kernel has of a store. Without the module that is nothing.
func Query(uuid UUID) (State, error) {
	fd, err := open()
	if errors.Is(err, ErrNoDevice) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	request := queryRequest{uuid: uuid}
	err = control(uintptr(fd), ioctlQuery, unsafe.Pointer(&request))
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return State{}, fmt.Errorf("asking %s for a store: %w", Device, err)
	}
	return State{
		Origin: request.flags&hasOrigin != 0, Session: request.flags&hasSession != 0, Server: request.flags&hasServer != 0,
		Snapshots: int(request.snapshots),
	}, nil
}
