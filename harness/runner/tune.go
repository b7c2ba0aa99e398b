// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"zumastor.org/zumastor/analysis/chunksize"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/trace"
)

// TuneOptions say what chunk sizes are tried on.
type TuneOptions struct {
	Trace  *trace.Trace
	Model  string  // of the device: hdd, ssd or nvme
	Chunks []int64 // bytes
}

// Tuned is what a trace costs at a chunk size.
type Tuned struct {
	Chunk int64 // bytes
	// Time is that of all phases on the model, and Cost is it divided by that of the
	// bare device.
	Time time.Duration
	Cost float64
	// Copied is the bytes of the store that hold copies and the records of their
	// batches, Index those of the trees.
	Copied, Index int64
}

// Space returns what the snapshots of all phases take, in bytes.
func (t Tuned) Space() int64 { return t.Copied + t.Index }

// tuneDepth is how many ops of a trace are handed over at once.
const tuneDepth = 32

// Tune replays a trace on a modelled device at each chunk size, of placement inline,
// with a snapshot before each phase. It takes seconds for each size, no real device,
// and gives the same figures on every machine.
func Tune(ctx context.Context, o TuneOptions) ([]Tuned, error) {
	if len(o.Chunks) == 0 {
		return nil, errors.New("no chunk sizes to try")
	}
	phases, size, err := tunePhases(o.Trace)
	if err != nil {
		return nil, err
	}
	raw, err := tuneOne(ctx, o.Model, phases, stack.Config{Variant: spec.Raw, Origin: size})
	if err != nil {
		return nil, err
	}
	rows := make([]Tuned, len(o.Chunks))
	err = parallel(len(rows), func(i int) (err error) {
		chunk := o.Chunks[i]
		rows[i], err = tuneOne(ctx, o.Model, phases, stack.Config{
			Variant: "inline", ChunkSize: chunk, Origin: size, StoreSize: storeSize(phases, len(phases), chunk),
		})
		if err != nil {
			return fmt.Errorf("chunk size %d: %w", chunk, err)
		}
		rows[i].Cost = float64(rows[i].Time) / float64(max(1, raw.Time))
		return nil
	})
	return rows, err
}

// tunePhases returns the phases of a trace: those called rounds, else all that write.
func tunePhases(t *trace.Trace) (phases [][]workloads.Op, size int64, err error) {
	all := t.Phases()
	rounds := slices.DeleteFunc(slices.Clone(all), func(p trace.Phase) bool { return !strings.HasPrefix(p.Name, phasePrefix) })
	if len(rounds) > 0 {
		all = rounds
	}
	for _, p := range all {
		if slices.ContainsFunc(p.Ops, workloads.Op.Mutates) {
			phases = append(phases, p.Ops)
		}
		for _, op := range p.Ops {
			size = max(size, op.End())
		}
	}
	if len(phases) == 0 {
		return nil, 0, errors.New("the trace writes nothing: there is nothing to tune")
	}
	const unit = 64 << 20
	return phases, (size + unit - 1) / unit * unit, nil
}

func tuneOne(ctx context.Context, model string, phases [][]workloads.Op, c stack.Config) (t Tuned, err error) {
	bed, err := stack.NewModel(model, stack.Size{Origin: c.Origin, Stores: max(c.StoreSize, 1<<20)})
	if err != nil {
		return t, err
	}
	st, err := bed.Build(c)
	if err != nil {
		return t, err
	}
	defer closeAll([]*stack.Stack{st}, &err)
	t.Chunk = c.ChunkSize
	for i, ops := range phases {
		if err := st.Snapshot(block.Tag(i + 1)); err != nil {
			return t, err
		}
		r, err := driveGroups(ctx, st, workloads.NewSlice(ops), tuneDepth, 0)
		if err != nil {
			return t, fmt.Errorf("phase %d: %w", i, err)
		}
		t.Time += r.Elapsed
	}
	if c.Variant == spec.Raw {
		return t, nil
	}
	if err := st.Checkpoint(); err != nil { // the index is on the device then
		return t, err
	}
	s := st.Status()
	t.Copied, t.Index = int64(s.SlotsUsed)*c.ChunkSize, int64(s.MetadataBytes)
	return t, nil
}

// Choices returns the rows as what package chunksize chooses among.
func Choices(rows []Tuned) []chunksize.Choice {
	out := make([]chunksize.Choice, len(rows))
	for i, r := range rows {
		out[i] = chunksize.Choice{Chunk: r.Chunk, Time: float64(r.Time), Space: r.Space()}
	}
	return out
}
