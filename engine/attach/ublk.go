// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
)

// ublkDevice is a device of the kernel's ublk driver.
type ublkDevice struct {
	node    string
	id      uint32
	resizes bool // the driver can change the size
	legacy  bool
	char    int // descriptor of /dev/ublkcN
	queues  []*ublkQueue
	ended   chan struct{} // closed when all queues have ended

	mu      sync.Mutex
	stopped bool
	err     error // of the first queue that failed
}

// probeUblk says whether the kernel has the ublk driver and io_uring.
func probeUblk() error {
	loadModule("ublk_drv", "/dev/ublk-control")
	c, err := openUblk()
	if err != nil {
		return fmt.Errorf("ublk %w: kernel module ublk_drv (Linux 6.0) with io_uring: %w", ErrNotSupported, err)
	}
	return c.close()
}

func startUblk(t *target, o Options) (_ binding, err error) {
	c, err := openUblk()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	info, err := c.add(ublkDevInfo{
		queues: uint16(o.Queues), depth: uint16(o.Depth), maxIO: ublkMaxIO, id: ublkNewID,
		flags: ublkFlagUpdateSize, private: ublkMark<<32 | uint64(os.Getpid()),
	})
	if err != nil {
		return nil, err
	}
	d := &ublkDevice{
		node: fmt.Sprintf("/dev/ublkb%d", info.id), id: info.id, char: -1, legacy: c.legacy,
		resizes: info.flags&ublkFlagUpdateSize != 0, ended: make(chan struct{}),
	}
	if err := d.start(c, t, o, info); err != nil {
		_ = c.do(ublkStopDev, d.id, 0, 0)
		return nil, errors.Join(err, d.release(), c.remove(d.id, true))
	}
	return d, nil
}

// start serves the device and makes it appear. What it made is undone by release.
func (d *ublkDevice) start(c *ublkControl, t *target, o Options, info ublkDevInfo) error {
	err := c.setParams(d.id, ublkParams{
		size: t.dev.Size(), readOnly: o.ReadOnly, maxIO: ublkMaxIO, zeroes: t.zeroes(),
		blockShift: uint8(bits.TrailingZeros(uint(o.BlockSize))), chunkShift: uint8(bits.TrailingZeros(uint(o.ChunkSize))),
	})
	if err != nil {
		return err
	}
	if d.char, err = openNode(fmt.Sprintf("/dev/ublkc%d", d.id)); err != nil {
		return err
	}
	for id := range int(info.queues) { // the driver may have made fewer
		q, err := newUblkQueue(t, d.char, id, int(info.depth), d.legacy)
		if err != nil {
			return err
		}
		d.queues = append(d.queues, q)
	}
	var running sync.WaitGroup
	for _, q := range d.queues {
		running.Go(func() {
			if err := q.run(); err != nil {
				d.fail(err)
			}
		})
	}
	go func() {
		defer close(d.ended)
		running.Wait()
	}()
	if err := c.do(ublkStartDev, d.id, 0, uint64(os.Getpid())); err != nil {
		return fmt.Errorf("starting ublk device %d: %w", d.id, err)
	}
	fd, err := openNode(d.node) // wait for its node
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// fail notes that a queue can't be served any more.
func (d *ublkDevice) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// release waits for the queues to end and frees what they had.
func (d *ublkDevice) release() error {
	var errs []error
	if len(d.queues) > 0 {
		if !waitFor(d.ended, stopTimeout) {
			return fmt.Errorf("%s: requests are still under way", d.node)
		}
		for _, q := range d.queues {
			errs = append(errs, q.close())
		}
		d.queues = nil
	}
	if d.char >= 0 {
		errs = append(errs, unix.Close(d.char))
		d.char = -1
	}
	return errors.Join(errs...)
}

func (d *ublkDevice) path() string { return d.node }

func (d *ublkDevice) done() <-chan struct{} { return d.ended }

func (d *ublkDevice) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || d.stopped {
		return d.err
	}
	return fmt.Errorf("%s was stopped by another process", d.node)
}

func (d *ublkDevice) resize(size int64) error {
	if !d.resizes {
		return fmt.Errorf("a ublk device in use %w to be resized: Linux 6.16 can: %w", ErrNotSupported, errors.ErrUnsupported)
	}
	c, err := openUblk()
	if err != nil {
		return err
	}
	c.legacy = d.legacy
	return errors.Join(c.do(ublkUpdateSize, d.id, 0, uint64(size>>9)), c.close())
}

func (d *ublkDevice) stop(force bool) (err error) {
	claim := -1
	if !force {
		if claim, err = claimNode(d.node); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	c, err := openUblk()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	c.legacy = d.legacy
	err = c.do(ublkStopDev, d.id, 0, 0)
	if claim >= 0 {
		err = errors.Join(err, unix.Close(claim))
	}
	if e := d.release(); e != nil {
		return errors.Join(err, e) // the device can't be deleted while it is served
	}
	return errors.Join(err, c.remove(d.id, !force))
}

// claimNode opens a block device so that nobody can mount it, and writes its page
// cache out. For a device that is gone it returns -1.
func claimNode(node string) (fd int, err error) {
	fd, err = unix.Open(node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return -1, nil
	case errors.Is(err, unix.EBUSY):
		return -1, &device.UsedError{Path: node, By: "the kernel holds it"}
	case err != nil:
		return -1, fmt.Errorf("claiming %s: %w", node, err)
	}
	if err := unix.Fsync(fd); err != nil {
		return -1, errors.Join(fmt.Errorf("writing %s out: %w", node, err), unix.Close(fd))
	}
	return fd, nil
}
