// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"fmt"
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/workloads/gen"
)

const (
	fillPiece   = 1 << 20
	fillWriters = 4
	// ContentSeed is the seed of all content that the harness writes.
	ContentSeed = 0x7a6d
)

// fill writes every block of the bed once.
func (b *Bed) fill() error {
	if err := Fill(b.origin); err != nil {
		return fmt.Errorf("filling the origin: %w", err)
	}
	if err := write(b.stores, func([]byte, int64) {}); err != nil {
		return fmt.Errorf("filling the room for stores: %w", err)
	}
	return nil
}

// Fill writes every block of a device once, with content of version 0.
func Fill(d device.Device) error {
	return write(d, func(p []byte, off int64) { gen.Fill(p, ContentSeed, off, 0) })
}

// write puts what content makes into all of d.
func write(d device.Device, content func(p []byte, off int64)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, fillWriters)
	for i := range fillWriters {
		wg.Go(func() {
			p := device.Buffer(fillPiece)
			for errs[i] == nil {
				off := next.Add(fillPiece) - fillPiece
				if off >= d.Size() {
					return
				}
				part := p[:min(fillPiece, d.Size()-off)]
				content(part, off)
				_, errs[i] = d.WriteAt(part, off)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return d.Flush()
}
