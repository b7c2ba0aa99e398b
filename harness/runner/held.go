// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
)

// held is a stack that keeps a number of snapshots.
type held struct {
	*stack.Stack
	count  int
	oldest block.Tag
	newest block.Tag
}

// buildHeld builds a stack for each placement, chunk size and number of
// snapshots, and makes the snapshots, with writes between them. The others of the
// variants come first, once, without snapshots.
func (b *bench) buildHeld(ctx context.Context, meter func() *stack.FlushMeter) ([]*held, error) {
	var all []*held
	share := stack.Share{Of: stacksHeld(b.Experiment)}
	add := func(variant string, chunk int64, snapshots int) error {
		st, err := b.bed.Build(stack.Config{
			Variant: variant, ChunkSize: chunk, Origin: b.Origin, Share: share, StoreSize: b.Store, Meter: meter(),
			Account: b.accounts != nil,
		})
		if err != nil {
			return err
		}
		if variant != spec.Raw {
			share.Nth++
		}
		h := &held{Stack: st, oldest: 1}
		all = append(all, h)
		if err := h.make(ctx, snapshots, b); err != nil {
			return fmt.Errorf("making %d snapshots: %w", snapshots, err)
		}
		return nil
	}
	for _, v := range b.Variants {
		if !spec.IsPlacement(v) {
			if err := add(v, b.Chunks[0], 0); err != nil {
				return all, err
			}
			continue
		}
		for _, chunk := range b.Chunks {
			for _, n := range b.Snapshots {
				if err := add(v, chunk, n); err != nil {
					return all, err
				}
			}
		}
	}
	return all, nil
}

// heldWrites is how many writes are made between the snapshots at most: what they
// copy stays.
const heldWrites = 512

// make makes n snapshots, with a write of a block behind each, or behind every
// so many.
func (h *held) make(ctx context.Context, n int, b *bench) error {
	a := newAddresses(b.seed, b.Origin, h.ChunkSize, b.Block, 1)
	p := device.Buffer(int(b.Block))
	every := (n + heldWrites - 1) / heldWrites
	for range n {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := h.create(); err != nil {
			return err
		}
		if h.count%every != 0 {
			continue
		}
		if _, err := h.Device().WriteAt(p, a.op(h.count%heldWrites).Off); err != nil {
			return err
		}
	}
	return nil
}

func (h *held) create() error {
	if err := h.Snapshot(h.newest + 1); err != nil {
		return err
	}
	h.newest++
	h.count++
	return nil
}

// drop deletes the oldest snapshot and waits until what it held is freed.
func (h *held) drop() error {
	if err := h.Delete(h.oldest); err != nil {
		return err
	}
	h.oldest++
	h.count--
	return h.Idle()
}

// lookHeld has all stacks find out where the time goes, as look does.
func lookHeld(depth int, all []*held) {
	for _, h := range all {
		look(depth, h.Stack)
	}
}

func closeHeld(all []*held, err *error) {
	stacks := make([]*stack.Stack, len(all))
	for i, h := range all {
		stacks[i] = h.Stack
	}
	closeAll(stacks, err)
}
