// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/gen"
)

// Sizes of all experiments.
const (
	originSize = 64 << 20
	storeSize  = 96 << 20
	depth      = 32
	pageSize   = 4096
	seed       = 1
)

// experiment is one stack that goes through all steps.
type experiment struct {
	variant, model string
	chunk          int64
	through        func(device.Device) device.Device // for tests: a build that does more
}

func (e experiment) name(step string) string {
	return fmt.Sprintf("%s/chunk=%dK/%s/%s", e.variant, e.chunk>>10, e.model, step)
}

// experiments are all that are recorded.
func experiments() []experiment {
	var all []experiment
	for _, variant := range []string{"inline", "disk", "nvram", "pmem"} {
		for _, chunk := range []int64{16 << 10, 64 << 10} {
			all = append(all, experiment{variant: variant, model: "ssd", chunk: chunk})
		}
	}
	return append(all, experiment{variant: "inline", model: "hdd", chunk: 16 << 10}, experiment{variant: "inline", model: "nvme", chunk: 4 << 10})
}

// Take carries out all experiments and returns their counters. It takes seconds.
func Take(ctx context.Context) (Record, error) { return take(ctx, experiments()) }

func take(ctx context.Context, all []experiment) (Record, error) {
	records, errs := make([]Record, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() { records[i], errs[i] = e.take(ctx) })
	}
	wg.Wait()
	// Allocations are counted alone: the counter is that of the whole process.
	for i, e := range all {
		if errs[i] == nil && e.model == "ssd" {
			var allocs Counter
			allocs, errs[i] = e.allocations()
			records[i] = append(records[i], allocs)
		}
	}
	var out Record
	for _, r := range records {
		out = append(out, r...)
	}
	return out, errors.Join(errs...)
}

// bench is an experiment under way.
type bench struct {
	experiment
	bed      *stack.Bed
	stack    *stack.Stack
	messages stack.MessageMeter
	record   Record
}

func (e experiment) build() (*bench, error) {
	b := &bench{experiment: e}
	var err error
	if b.bed, err = stack.NewModel(e.model, stack.Size{Origin: originSize, Stores: storeSize}); err != nil {
		return nil, err
	}
	b.stack, err = b.bed.Build(stack.Config{
		Variant: e.variant, ChunkSize: e.chunk, Origin: originSize, StoreSize: storeSize, Messages: &b.messages, Through: e.through,
	})
	return b, err
}

func (e experiment) take(ctx context.Context) (r Record, err error) {
	b, err := e.build()
	if err != nil {
		return nil, fmt.Errorf("experiment %s: %w", e.name("build"), err)
	}
	defer func() { err = errors.Join(err, b.stack.Close()) }()
	once := gen.Spec{Pattern: gen.Once, Seed: seed, Range: originSize / 4, Block: e.chunk}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"snapshot", func() error { return b.stack.Snapshot(1) }},
		{"firstwrite", func() error { return b.issue(ctx, once, pageSize) }},
		{"rewrite", func() error { return b.issue(ctx, once, pageSize) }},
		{"another-snapshot", func() error { return b.stack.Snapshot(2) }},
		{"sequential", func() error {
			return b.issue(ctx, gen.Spec{Pattern: gen.Sequential, Range: originSize / 4, Block: 64 << 10, Count: originSize / 4 / (64 << 10)}, 0)
		}},
		{"snapshot-read", b.readSnapshot},
		{"delete", b.delete},
		{"checkpoint", b.stack.Checkpoint},
	} {
		if err := b.count(step.name, step.do); err != nil {
			return nil, fmt.Errorf("experiment %s: %w", e.name(step.name), err)
		}
	}
	st := b.stack.Status()
	b.add("end", "exceptions", int64(st.Exceptions))
	b.add("end", "index-pages", int64(st.MetadataUsed))
	b.add("end", "index-bytes", int64(st.MetadataBytes))
	b.add("end", "slots", int64(st.SlotsUsed))
	b.add("end", "checkpoints", int64(st.Checkpoint))
	return b.record, nil
}

// issue writes the stream in groups, each op cut to length bytes if that is not zero,
// and flushes.
func (b *bench) issue(ctx context.Context, s gen.Spec, length int64) error {
	stream, err := gen.New(s)
	if err != nil {
		return err
	}
	_, err = apply.Replay(ctx, maintained{b.stack.Device(), b.stack}, &shortened{stream, length}, apply.Options{Depth: depth, Seed: seed, Version: 1})
	if err != nil {
		return err
	}
	return b.stack.Device().Flush()
}

// shortened is a stream whose ops are cut to a length.
type shortened struct {
	workloads.Stream
	length int64
}

func (s *shortened) Next() (workloads.Op, bool) {
	op, ok := s.Stream.Next()
	if s.length > 0 && op.Len > s.length {
		op.Len = s.length
	}
	return op, ok
}

// maintained is a stack whose background work is done between groups.
type maintained struct {
	device.Device
	stack *stack.Stack
}

func (m maintained) Do(ops []device.Op) error {
	if err := device.Do(m.Device, ops); err != nil {
		return err
	}
	return m.stack.Maintain()
}

// readSnapshot reads a block of each chunk of the first snapshot's first half: some
// were copied, some are shared with the origin.
func (b *bench) readSnapshot() error {
	s, err := b.stack.Open(1, false)
	if err != nil {
		return err
	}
	buf := device.Buffer(pageSize)
	for off := int64(0); off < originSize/2 && err == nil; off += b.chunk {
		_, err = s.ReadAt(buf, off)
	}
	return errors.Join(err, s.Close())
}

func (b *bench) delete() error {
	if err := b.stack.Delete(block.Tag(1)); err != nil {
		return err
	}
	return b.stack.Idle()
}

// count records what a step asked of the disk and of the server.
func (b *bench) count(step string, do func() error) error {
	before, asked, began := b.bed.Traffic(), b.messages.Count(), b.bed.Now()
	if err := do(); err != nil {
		return err
	}
	if err := b.stack.Maintain(); err != nil {
		return err
	}
	after := b.bed.Traffic()
	b.add(step, "reads", after.Reads-before.Reads)
	b.add(step, "writes", after.Writes-before.Writes)
	b.add(step, "flushes", after.Flushes-before.Flushes)
	b.add(step, "discards", after.Discards-before.Discards)
	b.add(step, "zeroings", after.Zeroings-before.Zeroings)
	b.add(step, "read-bytes", after.BytesRead-before.BytesRead)
	b.add(step, "written-bytes", after.BytesWritten-before.BytesWritten)
	if b.model == "hdd" {
		b.add(step, "seeks", after.Seeks-before.Seeks)
	}
	b.add(step, "messages", b.messages.Count()-asked)
	b.add(step, ModelTime, int64(b.bed.Now()-began))
	return nil
}

func (b *bench) add(step, name string, v int64) {
	b.record = append(b.record, Counter{b.name(step), name, v})
}

// allocations counts what a write of a settled chunk allocates, in all of many
// writes, rounded down to whole ones a write: what others allocate meanwhile is not
// of the path.
func (e experiment) allocations() (c Counter, err error) {
	b, err := e.build()
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, b.stack.Close()) }()
	if err := b.stack.Snapshot(1); err != nil {
		return c, err
	}
	const writes = 1000
	buf, dev := device.Buffer(pageSize), b.stack.Device()
	write := func() error { _, err := dev.WriteAt(buf, 0); return err }
	if err := write(); err != nil {
		return c, err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range writes {
		if err := write(); err != nil {
			return c, err
		}
	}
	runtime.ReadMemStats(&after)
	return Counter{e.name("rewrite"), "allocations-per-write", int64((after.Mallocs - before.Mallocs) / writes)}, nil
}
