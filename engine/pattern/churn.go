// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/device"
)

// Device is what a Churn works on: a [device.Device], or a file with Sync for Flush.
// A write is durable only after a Flush that began when the write had returned.
type Device interface {
	io.ReaderAt
	io.WriterAt
	Flush() error
}

// Options tune a Churn; the zero value of each field means its default.
type Options struct {
	Workers    int    // requests under way at most; default 1
	Align      int    // of writes and reads, in bytes, a multiple of SectorSize; default SectorSize
	MostBytes  int    // of one request; default 32 KiB
	FlushEvery int    // requests between flushes of a worker, on average; default 16
	Seed       uint64 // of what is written where
	// Spare says of an error of the device whether the load goes on all the same. A
	// write that had it may have happened, in whole or in part, and may not.
	Spare func(error) bool
}

// Churn is a load: random writes, each of which may overlap others that have ended,
// with reads that are checked at once, and flushes.
type Churn struct {
	ledger *Ledger
	opts   Options
	ops    atomic.Int64
	runs   uint64
}

// NewChurn returns a load that keeps the ledger.
func NewChurn(l *Ledger, o Options) *Churn {
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.Align == 0 {
		o.Align = SectorSize
	}
	if o.MostBytes == 0 {
		o.MostBytes = 32 << 10
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = 16
	}
	return &Churn{ledger: l, opts: o}
}

// Ops returns how many requests have succeeded.
func (c *Churn) Ops() int64 { return c.ops.Load() }

// Run loads the device until ctx ends, which is no error, or a request fails. Then it
// waits for the requests under way. It may run again, on the same device or, after a
// crash and [Ledger.Recover], on another way to it.
func (c *Churn) Run(ctx context.Context, d Device) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.runs++
	errs := make([]error, c.opts.Workers)
	var workers sync.WaitGroup
	for i := range errs {
		rng := rand.New(rand.NewPCG(c.opts.Seed, c.runs<<16+uint64(i)))
		workers.Go(func() {
			buf := device.Buffer(c.opts.MostBytes)
			for ctx.Err() == nil {
				if errs[i] = c.step(d, rng, buf); errs[i] != nil {
					cancel(errs[i])
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// step writes, reads, and now and then flushes.
func (c *Churn) step(d Device, rng *rand.Rand, buf []byte) error {
	first, n := c.place(rng)
	s, ok, err := c.ledger.Begin(first, n)
	if err != nil {
		return err
	}
	if ok {
		p, off := buf[:n*SectorSize], int64(first)*SectorSize
		Fill(p, off, s)
		_, err := d.WriteAt(p, off)
		if err := errors.Join(c.failed(err), c.ledger.End(first, n, s, err == nil)); err != nil {
			return fmt.Errorf("writing %d bytes at %d: %w", len(p), off, err)
		}
	}
	first, n = c.place(rng)
	p, off := buf[:n*SectorSize], int64(first)*SectorSize
	err = c.ledger.read(p, off, func() error {
		_, err := d.ReadAt(p, off)
		return err
	})
	if err := c.failed(err); err != nil {
		return fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
	}
	if rng.IntN(c.opts.FlushEvery) == 0 {
		if err := c.failed(c.ledger.Flush(d.Flush)); err != nil {
			return fmt.Errorf("flushing: %w", err)
		}
	}
	return nil
}

// failed counts a request that has succeeded, and returns an error that ends the load.
func (c *Churn) failed(err error) error {
	if err == nil {
		c.ops.Add(1)
		return nil
	}
	if c.opts.Spare != nil && !errors.Is(err, ErrWrong) && c.opts.Spare(err) {
		return nil
	}
	return err
}

// place chooses sectors.
func (c *Churn) place(rng *rand.Rand) (first, n int) {
	unit := c.opts.Align / SectorSize
	all := len(c.ledger.issued) / unit
	n = 1 + rng.IntN(min(c.opts.MostBytes/c.opts.Align, all))
	return rng.IntN(all-n+1) * unit, n * unit
}
