// SPDX-License-Identifier: Apache-2.0

// Package attach makes any [device.Device] a Linux block device, such as
// /dev/ublkb0, /dev/nbd0 or /dev/loop0, that file systems can be made and
// mounted on.
//
// It owns three backends behind one interface: the kernel's ublk driver, its NBD
// client on package nbd's server, and a FUSE file under a loop device. It does
// not own the device.Device: who opened it closes it, after Detach. Command
// ddsnap calls it; package freeze, below it, stops the file systems on a block
// device for a moment. An [Attached] is safe for concurrent use. All need root.
//
// A device's error fails the request that met it: with ENOSPC where it says so
// (not through nbd, whose protocol in the kernel knows EIO only), else with EIO.
// Whoever reads or writes a block device of its own process can deadlock when
// memory is short: call [HoldMemory] first. A process that is killed leaves
// nothing behind on nbd and loop once what was mounted on them is unmounted, and
// a dead device on ublk, that [Cleanup] removes.
package attach

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// ErrNotSupported is wrapped by the error of a backend that this machine does
// not have; the error says what is missing.
var ErrNotSupported = errors.New("is not supported here")

// Backend is a way to make a block device, by name.
type Backend string

// The backends.
const (
	Ublk Backend = "ublk" // /dev/ublkbN; Linux 6.0 and newer with module ublk_drv
	NBD  Backend = "nbd"  // /dev/nbdN; module nbd
	FUSE Backend = "fuse" // /dev/loopN on a file of a FUSE file system; Linux 5.8 and newer
)

// Backends returns all backends, the best first.
func Backends() []Backend { return []Backend{Ublk, NBD, FUSE} }

// Options tune an attached device. Zero fields take the default named.
type Options struct {
	// Name is shown by [List] (not by ublk, which has no place for it). It is cut
	// to 32 bytes.
	Name     string
	ReadOnly bool
	// BlockSize is the logical block size, 512 or 4096; default 512. The
	// device's size must be a multiple of it. File systems that were made with
	// 512 can't be mounted on 4096.
	BlockSize int
	// ChunkSize, a power of two, is told as the best size of requests, where the
	// backend can tell it; default 64 KiB.
	ChunkSize int
	Queues    int          // default: one for each processor, at most 4; fuse has one
	Depth     int          // requests in flight in each queue, at most 256; default 64
	Logger    *slog.Logger // default: none
}

func (o Options) complete(size int64) (Options, error) {
	if o.BlockSize == 0 {
		o.BlockSize = block.SectorSize
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = 64 << 10
	}
	if o.Queues <= 0 {
		o.Queues = min(runtime.NumCPU(), 4)
	}
	if o.Depth <= 0 {
		o.Depth = 64
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.BlockSize != 512 && o.BlockSize != 4096:
		return o, fmt.Errorf("attach: block size %d is neither 512 nor 4096", o.BlockSize)
	case o.ChunkSize < o.BlockSize || o.ChunkSize&(o.ChunkSize-1) != 0:
		return o, fmt.Errorf("attach: chunk size %d is not a power of two of at least a block", o.ChunkSize)
	case o.Depth > maxDepth:
		return o, fmt.Errorf("attach: depth %d is more than %d", o.Depth, maxDepth)
	case o.Queues > maxQueues:
		return o, fmt.Errorf("attach: %d queues are more than %d", o.Queues, maxQueues)
	}
	return o, checkSize(size, o.BlockSize)
}

// Bounds of Options: what the queues' buffers may take is 1 GiB at most.
const (
	maxDepth  = 256
	maxQueues = 16
)

func checkSize(size int64, blockSize int) error {
	if size <= 0 || size%int64(blockSize) != 0 {
		return fmt.Errorf("attach: size %d is not a positive multiple of the block size %d", size, blockSize)
	}
	return nil
}

// binding is what a backend keeps of an attached device.
type binding interface {
	// path returns the block device's path.
	path() string
	// resize tells the kernel a new size in bytes.
	resize(size int64) error
	// stop removes the block device and returns when no request is under way.
	// Where someone opened the device since it was found unused, it stops only if
	// force is set, and returns an error wrapping device.ErrInUse otherwise.
	stop(force bool) error
	// done is closed when the block device serves no more; failure then says why,
	// or nil after stop.
	done() <-chan struct{}
	failure() error
}

// Attached is a block device. It must be detached before the process ends.
type Attached struct {
	backend Backend
	bound   binding
	target  *target
	opts    Options
	passed  []error

	mu       sync.Mutex // one resize or detach at a time
	detached bool
}

// Probe returns nil if the machine has the backend, else an error that wraps
// [ErrNotSupported] and says what is missing. It loads the kernel module where
// that is all that is missing.
func (b Backend) Probe() error {
	switch b {
	case Ublk:
		return probeUblk()
	case NBD:
		return probeNBD()
	case FUSE:
		return probeFUSE()
	case DM:
		return probeDM()
	}
	return fmt.Errorf("attach: there is no backend %q; there are %v", b, Backends())
}

// Attach makes dev a block device. The block device is ready when it returns,
// and gets its requests from several goroutines until Detach.
func (b Backend) Attach(dev device.Device, o Options) (*Attached, error) {
	o, err := o.complete(dev.Size())
	if err != nil {
		return nil, err
	}
	if err := b.Probe(); err != nil {
		return nil, err
	}
	if b == DM {
		return nil, fmt.Errorf("attaching with %s: it takes a store with a server of its own, and no process serves it", b)
	}
	t := &target{dev: dev, log: o.Logger, readOnly: o.ReadOnly}
	start := map[Backend]func(*target, Options) (binding, error){Ublk: startUblk, NBD: startNBD, FUSE: startFUSE}[b]
	bound, err := start(t, o)
	if err != nil {
		return nil, fmt.Errorf("attaching with %s: %w", b, err)
	}
	o.Logger.Info("attached", "device", bound.path(), "backend", string(b), "size", dev.Size(), "readonly", o.ReadOnly)
	return &Attached{backend: b, bound: bound, target: t, opts: o}, nil
}

// Best attaches with the first of [Backends] that the machine has. If it has
// none, the error says for each what is missing.
func Best(dev device.Device, o Options) (*Attached, error) {
	return best(Backends(), func(b Backend) (*Attached, error) { return b.Attach(dev, o) })
}

func best(backends []Backend, attach func(Backend) (*Attached, error)) (*Attached, error) {
	var passed []error
	for _, b := range backends {
		a, err := attach(b)
		if err == nil {
			a.passed = passed
			return a, nil
		}
		passed = append(passed, err)
		if !errors.Is(err, ErrNotSupported) {
			break
		}
	}
	return nil, errors.Join(passed...)
}

// Path returns the block device's path, such as /dev/loop0.
func (a *Attached) Path() string { return a.bound.path() }

// Backend returns the backend that serves the device.
func (a *Attached) Backend() Backend { return a.backend }

// PassedOver returns why [Best] did not take the backends before this one.
func (a *Attached) PassedOver() []error { return a.passed }

// Done is closed when the block device serves no more requests: after Detach, or
// because the kernel or another process took it down. See Err.
func (a *Attached) Done() <-chan struct{} { return a.bound.done() }

// Err returns why the device ended without Detach. It is nil before Done is
// closed, and after a Detach.
func (a *Attached) Err() error {
	if !isClosed(a.bound.done()) {
		return nil
	}
	return a.bound.failure()
}

// Wait returns Err once Done is closed.
func (a *Attached) Wait() error {
	<-a.bound.done()
	return a.bound.failure()
}

// Resize tells the kernel that the device has a new size in bytes, which the
// device.Device must have already when it grows, and must keep until Resize
// returns when it shrinks. What is mounted on it must be resized by its own
// tools: after this when growing, before when shrinking.
func (a *Attached) Resize(size int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.detached {
		return fmt.Errorf("resizing %s: %w", a.Path(), device.ErrClosed)
	}
	if err := checkSize(size, a.opts.BlockSize); err != nil {
		return err
	}
	if err := a.bound.resize(size); err != nil {
		return fmt.Errorf("resizing %s to %d bytes: %w", a.Path(), size, err)
	}
	return nil
}

// Detach removes the block device and flushes the device.Device. Where the block
// device is mounted, held or open, it changes nothing and returns an error that
// wraps [device.ErrInUse] and says by whom; with force it goes on, and whoever
// uses the device gets I/O errors. Short openers such as udev are waited for.
// When it returns without such an error no request is under way or will come. A
// second Detach does nothing.
func (a *Attached) Detach(force bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.detached {
		return nil
	}
	if !force && !isClosed(a.bound.done()) {
		if err := checkUnused(a.Path()); err != nil {
			return fmt.Errorf("detaching: %w", err)
		}
	}
	err := a.bound.stop(force)
	if errors.Is(err, device.ErrInUse) {
		return fmt.Errorf("detaching: %w", err)
	}
	a.detached = true
	a.target.down.Store(true)
	if !a.opts.ReadOnly {
		err = errors.Join(err, a.target.dev.Flush())
	}
	a.opts.Logger.Info("detached", "device", a.Path(), "forced", force, "error", err)
	if err != nil {
		return fmt.Errorf("detaching %s: %w", a.Path(), err)
	}
	return nil
}
