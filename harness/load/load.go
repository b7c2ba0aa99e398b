// SPDX-License-Identifier: Apache-2.0

// Package load is a load on a block device whose every byte is accounted for, while a
// test does bad things to what is below.
//
// It owns a load's directory: the account of the device (a log of engine/pattern), and
// a file for each promise, which says what a snapshot holds that was made meanwhile. It
// does not own what is done meanwhile, nor what the bytes look like. The kernel tests
// call it, through "zbench lab load" and its neighbours. [Serve] answers others on a
// socket of its directory; [Ops] and [Promise] are calls from other processes. A load
// ends with the first request that fails or that reads what it should not, unless that
// error is one that is expected.
package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/pattern"
)

// Options are what a load does.
type Options struct {
	Dir    string // of the account, exists; from a load before, if it has one
	Device string
	Size   int64 // of the part of the device that is loaded
	// Lost says that what was not flushed may be gone since the load before, as
	// after a power cut.
	Lost bool
	// Spare are errors that requests may have, after which the load goes on.
	Spare []error
	Churn pattern.Options
}

const (
	stream  = 0x6c6f6164 // of all loads
	logName = "log"
)

// Device is a block device without the page cache.
type Device struct{ *os.File }

// OpenDevice opens a block device, for reading only unless write is set. Requests must
// be aligned as it wants them, and buffers to 4 KiB.
func OpenDevice(name string, write bool) (Device, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(name, flag|unix.O_DIRECT, 0)
	return Device{f}, err
}

// Flush makes all durable that was written.
func (d Device) Flush() error { return unix.Fdatasync(int(d.Fd())) }

// state is a load that runs.
type state struct {
	dir    string
	ledger *pattern.Ledger
	churn  *pattern.Churn
	spared atomic.Int64
}

// Serve loads the device until ctx ends. If the directory has an account already, it
// first checks that the device holds what it should; if not, it zeroes the device. An
// error that wraps [pattern.ErrWrong] says that the device held something else.
func Serve(ctx context.Context, o Options) (requests, spared int64, err error) {
	dev, err := OpenDevice(o.Device, true)
	if err != nil {
		return 0, 0, err
	}
	defer dev.Close()
	found, err := o.begin(dev)
	if err != nil {
		return 0, 0, err
	}
	f, log, err := writeAccount(filepath.Join(o.Dir, logName), found)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	s := &state{dir: o.Dir, ledger: pattern.NewLedger(found, log)}
	o.Churn.Spare = func(err error) bool {
		expected := slices.ContainsFunc(o.Spare, func(e error) bool { return errors.Is(err, e) })
		if expected {
			s.spared.Add(1)
		}
		return expected
	}
	s.churn = pattern.NewChurn(s.ledger, o.Churn)
	stop, err := s.listen()
	if err != nil {
		return 0, 0, err
	}
	defer stop()
	err = s.churn.Run(ctx, dev)
	return s.churn.Ops(), s.spared.Load(), err
}

// begin returns what is on the device, durably.
func (o *Options) begin(dev Device) (pattern.Bounds, error) {
	before, err := readAccount(filepath.Join(o.Dir, logName))
	if errors.Is(err, fs.ErrNotExist) {
		return pattern.Zeroes(stream, o.Size), zero(dev, o.Size)
	}
	if err != nil {
		return pattern.Bounds{}, err
	}
	held := before.Present()
	if o.Lost {
		held = before.Durable()
	}
	if n := int64(len(held.Least)) * pattern.SectorSize; n != o.Size {
		return held, fmt.Errorf("the account in %s is of %d bytes, not of %d", o.Dir, n, o.Size)
	}
	found, err := held.Check(dev)
	return found, errors.Join(err, dev.Flush())
}

func zero(dev Device, size int64) error {
	buf := device.Buffer(1 << 20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		if _, err := dev.WriteAt(buf[:min(int64(len(buf)), size-off)], off); err != nil {
			return err
		}
	}
	return dev.Flush()
}
