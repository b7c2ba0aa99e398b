// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/attach/uring"
)

// ublkControl gives commands to the driver through /dev/ublk-control, one at a
// time.
type ublkControl struct {
	fd     int
	ring   *uring.Ring
	memory []byte // what commands point at
	legacy bool   // the driver knows plain command numbers only
}

// openUblk fails where the kernel has no ublk driver.
func openUblk() (*ublkControl, error) {
	fd, err := unix.Open("/dev/ublk-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/ublk-control: %w", err)
	}
	c := &ublkControl{fd: fd}
	if c.ring, err = uring.New(4, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	c.memory, err = unix.Mmap(-1, 0, pages(1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *ublkControl) close() error {
	err := errors.Join(c.ring.Close(), unix.Close(c.fd))
	if c.memory != nil {
		err = errors.Join(err, unix.Munmap(c.memory))
	}
	return err
}

// do gives a command and waits for its end. length is how much of c.memory it
// reads or writes.
func (c *ublkControl) do(nr, device uint32, length int, data uint64) error {
	cmd := ublkControlCommand{device: device, length: uint16(length), data: data}
	if length > 0 {
		cmd.addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(c.memory))))
	}
	e, err := c.ring.Next(uring.OpURingCmd, c.fd, 0)
	if err != nil {
		return err
	}
	e.SetCommand(ublkCode(nr, c.legacy), cmd.encode())
	for {
		if err := c.ring.Submit(1); err != nil {
			return err
		}
		if done, ok := c.ring.Take(); ok {
			if done.Result < 0 {
				return syscall.Errno(-done.Result)
			}
			return nil
		}
	}
}

// add makes a device, and returns what the driver made of info.
func (c *ublkControl) add(info ublkDevInfo) (ublkDevInfo, error) {
	for {
		info.encode(c.memory)
		err := c.do(ublkAddDev, info.id, ublkDevInfoSize, 0)
		if err == nil {
			return parseUblkDevInfo(c.memory), nil
		}
		const notSupported = syscall.Errno(524) // ENOTSUPP, the kernel's own
		unknown := errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, notSupported)
		if c.legacy || !unknown {
			return info, fmt.Errorf("adding a ublk device: %w", err)
		}
		c.legacy = true
	}
}

func (c *ublkControl) setParams(id uint32, p ublkParams) error {
	p.encode(c.memory)
	if err := c.do(ublkSetParams, id, ublkParamsSize, 0); err != nil {
		return fmt.Errorf("setting the parameters of ublk device %d: %w", id, err)
	}
	return nil
}

func (c *ublkControl) info(id uint32) (ublkDevInfo, error) {
	err := c.do(ublkGetDevInfo, id, ublkDevInfoSize, 0)
	return parseUblkDevInfo(c.memory), err
}

// remove deletes a device. Without wait it is deleted once nobody has it open any
// more; Linux before 6.9 always waits.
func (c *ublkControl) remove(id uint32, wait bool) error {
	nr := uint32(ublkDelDevAsync)
	if wait || c.legacy {
		nr = ublkDelDev
	}
	err := c.do(nr, id, 0, 0)
	if err != nil && nr == ublkDelDevAsync && !errors.Is(err, unix.ENODEV) {
		err = c.do(ublkDelDev, id, 0, 0)
	}
	if errors.Is(err, unix.ENODEV) {
		err = nil // another was quicker
	}
	return err
}

// ublkMark is in the upper half of our devices' private flags; our process number
// is in the lower half.
const ublkMark = 0x7a756d61 // "zuma"

// listUblk finds our ublk devices.
func listUblk() ([]Info, error) {
	nodes, err := filepath.Glob("/dev/ublkc*")
	if err != nil || len(nodes) == 0 {
		return nil, err
	}
	c, err := openUblk()
	if err != nil {
		return nil, fmt.Errorf("listing ublk devices: %w", err)
	}
	defer c.close()
	var found []Info
	for _, node := range nodes {
		id, err := strconv.ParseUint(strings.TrimPrefix(node, "/dev/ublkc"), 10, 32)
		if err != nil {
			continue
		}
		info, err := c.info(uint32(id))
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			c.legacy = true
			info, err = c.info(uint32(id))
		}
		if err != nil || info.private>>32 != ublkMark {
			continue // gone meanwhile, or another's
		}
		pid := int(uint32(info.private))
		_, err = os.Stat(fmt.Sprintf("/proc/%d", pid))
		found = append(found, Info{Path: fmt.Sprintf("/dev/ublkb%d", id), Backend: Ublk, PID: pid,
			Dead: info.state == ublkStateDead && err != nil, remove: func() error { return removeUblk(uint32(id)) }})
	}
	return found, nil
}

func removeUblk(id uint32) error {
	c, err := openUblk()
	if err != nil {
		return err
	}
	return errors.Join(c.remove(id, false), c.close())
}
