// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/model"
)

// Verb is a change of a store whose promises [Crashes] tries to break.
type Verb string

// The verbs.
const (
	VerbSnapshot     Verb = "snapshot"
	VerbSnapshotOf   Verb = "snapshot of a snapshot"
	VerbDelete       Verb = "delete"
	VerbDeleteAll    Verb = "delete recursively"
	VerbChange       Verb = "attributes"
	VerbWrite        Verb = "write to a snapshot"
	VerbResizeOrigin Verb = "resize the origin"
	VerbResizeStore  Verb = "resize the store"
	VerbRevert       Verb = "revert"
	VerbMerge        Verb = "merge"
	VerbDrop         Verb = "drop"
	VerbSquash       Verb = "squash"
	VerbGroup        Verb = "group snapshot"
)

// Verbs are all of them.
var Verbs = []Verb{
	VerbSnapshot, VerbSnapshotOf, VerbDelete, VerbDeleteAll, VerbChange, VerbWrite, VerbResizeOrigin, VerbResizeStore,
	VerbRevert, VerbMerge, VerbDrop, VerbSquash, VerbGroup,
}

// CrashReport says what [Crashes] has done.
type CrashReport struct {
	Verb    Verb
	Crashes int // power cuts while the verb was under way, each recovered from and compared with the promises
	Nested  int // of these recoveries, power cuts in them, recovered from likewise
	Runs    int // volumes on which the verb was done
}

// Bounds of a search by Crashes.
const (
	cutsARun = 25 // so that the cuts are spread over many volumes
	maxIdle  = 60 // runs in a row in which there was nothing to cut
)

// Crashes cuts the power at least n times while a verb is under way: at begin or end
// of flushes and at writes, picked at random over the whole verb, on volumes that are
// different each time, with all placements in turn. Now and then it cuts the power
// of the recovery too. After each it opens what is left and compares everything with
// what was promised. The error is the first broken promise, or says that fewer than n
// crashes could be had. The same seed gives the same crashes, but for group snapshots,
// whose stores work at the same time.
func Crashes(ctx context.Context, verb Verb, n int, seed uint64) (CrashReport, error) {
	return crashes(ctx, verb, n, seed, new(breaker))
}

// breaker is something between the layers that breaks a rule from when broken is set
// on. The zero breaker is nothing.
type breaker struct {
	rig.Wrappers
	broken atomic.Bool
}

// crashes is Crashes with something between the layers.
func crashes(ctx context.Context, verb Verb, n int, seed uint64, b *breaker) (CrashReport, error) {
	report := CrashReport{Verb: verb}
	for idle := 0; report.Crashes < n; report.Runs++ {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		rng := rand.New(rand.NewPCG(seed, uint64(report.Runs)))
		run := crashRun
		if verb == VerbGroup {
			run = groupRun
		}
		cuts, again, err := run(rng, verb, min(cutsARun, n-report.Crashes), b)
		report.Crashes += cuts
		report.Nested += again
		if err != nil {
			return report, fmt.Errorf("%s: seed %d, run %d: %w", verb, seed, report.Runs, err)
		}
		if idle++; cuts > 0 {
			idle = 0
		}
		if idle == maxIdle {
			return report, fmt.Errorf("%s: seed %d: only %d crashes of %d could be had", verb, seed, report.Crashes, n)
		}
	}
	return report, nil
}

// crashRun makes a volume with a past, does the verb and cuts the power meanwhile.
func crashRun(rng *rand.Rand, verb Verb, most int, b *breaker) (cuts, again int, err error) {
	o := pick(rng, setups()...)
	if verb == VerbDrop || verb == VerbSquash {
		o.Policy, o.StoreSize = layout.PolicyDrop.String(), 5<<20
	}
	b.broken.Store(false)
	r, err := NewRunner(o, b.Wrappers)
	if err != nil {
		return 0, 0, err
	}
	defer func() { r.Rig.Abandon() }()
	before := past(rng, o, verb)
	if err := r.All(before); err != nil {
		return 0, 0, fmt.Errorf("before: %w", err)
	}
	ops := deed(rng, r, verb)
	does, err := doing(o, before, ops, verb)
	if err != nil {
		return 0, 0, err
	}
	b.broken.Store(true)
	c := &cutter{of: r, rng: rng, draws: 1, depth: 1, every: 1 + rng.IntN(3), most: most}
	for i, op := range ops[:len(does)] {
		if does[i] {
			c.watch()
		}
		err := r.Do(op)
		r.Rig.Machine.SetHook(nil)
		if err == nil {
			err = c.err
		}
		if err != nil {
			return c.cuts, c.again, fmt.Errorf("%v: %w", op, err)
		}
	}
	return c.cuts, c.again, r.Compare()
}

// fewEnough is how often a verb is done on one volume.
const fewEnough = 5

// doing does the operations to a volume without crashes and returns which of them do
// the verb: only then are crashes crashes in it.
func doing(o rig.Options, before, ops []Op, verb Verb) (does []bool, err error) {
	r, err := NewRunner(o, rig.Wrappers{})
	if err != nil {
		return nil, err
	}
	defer func() { r.Rig.Abandon() }()
	if err := r.All(before); err != nil {
		return nil, err
	}
	for n := 0; len(does) < len(ops) && n < fewEnough; {
		effect := r.effect(verb)
		if err := r.Do(ops[len(does)]); err != nil {
			return nil, err
		}
		does = append(does, effect())
		if does[len(does)-1] {
			n++
		}
	}
	return does, nil
}

// effect returns what tells later whether the verb was done meanwhile.
func (r *Runner) effect(verb Verb) func() bool {
	before, failed := r.squashed(), r.Failed
	listed := len(r.Model.Snapshots())
	return func() bool {
		switch verb {
		case VerbDrop:
			return len(r.Model.Snapshots()) < listed
		case VerbSquash:
			return r.squashed() > before
		}
		return r.Failed == failed
	}
}

func (r *Runner) squashed() (n int) {
	for _, s := range r.Model.Snapshots() {
		if s.Squashed {
			n++
		}
	}
	return n
}

// past returns operations that give a volume a past.
func past(rng *rand.Rand, o rig.Options, verb Verb) []Op {
	size := o.OriginSize
	write := func() Op {
		g := generator{rng: rng, size: size}
		return g.write()
	}
	ops := []Op{{Kind: Write, Len: size, Seed: rng.Uint64N(1 << 32)}}
	for tag := block.Tag(1); tag <= 4; tag++ {
		ops = append(ops, Op{Kind: Snapshot, Tag: tag}, write(), write())
	}
	ops = append(ops,
		Op{Kind: WriteSnap, Tag: 2, Off: rng.Int64N(100) * block.SectorSize, Len: 40 * block.SectorSize, Seed: rng.Uint64N(1 << 32)},
		Op{Kind: SnapOf, Tag: 5, Of: 2}, Op{Kind: SnapOf, Tag: 6, Of: 5},
		Op{Kind: WriteSnap, Tag: 5, Len: 30 * block.SectorSize, Seed: rng.Uint64N(1 << 32)})
	if rng.IntN(2) == 0 {
		ops = append(ops, Op{Kind: FlushSnap, Tag: 5})
	}
	if verb != VerbWrite && rng.IntN(3) > 0 || verb != VerbSnapshotOf {
		ops = append(ops, Op{Kind: CloseSnap, Tag: 2}, Op{Kind: CloseSnap, Tag: 5})
	}
	for range rng.IntN(5) {
		ops = append(ops, pick(rng, write(), Op{Kind: Flush}, Op{Kind: Checkpoint}, Op{Kind: Maintain}, Op{Kind: Delete, Tag: 3}))
	}
	return ops
}

// deed returns the operations that do the verb.
func deed(rng *rand.Rand, r *Runner, verb Verb) (ops []Op) {
	size := r.Model.Origin.Size()
	sectors := size / block.SectorSize
	switch verb {
	case VerbSnapshot:
		return []Op{{Kind: Snapshot, Tag: 10}, {Kind: Snapshot, Tag: 11}}
	case VerbSnapshotOf:
		return []Op{{Kind: SnapOf, Tag: 10, Of: 5}, {Kind: SnapOf, Tag: 11, Of: 10}}
	case VerbDelete:
		return []Op{{Kind: Delete, Tag: 6}, {Kind: Delete, Tag: 1}, {Kind: Maintain}, {Kind: Maintain}}
	case VerbDeleteAll:
		return []Op{{Kind: DeleteAll, Tag: 2}, {Kind: Maintain}}
	case VerbChange:
		return []Op{
			{Kind: Change, Tag: 1, Attrs: model.Attributes{Held: true, Priority: 3}},
			{Kind: Change, Tag: 5, Attrs: model.Attributes{Name: "five", UseCount: 2}}, {Kind: Change, Tag: 1},
		}
	case VerbWrite:
		for range 4 {
			at := rng.Int64N(sectors - 1)
			n := 1 + rng.Int64N(min(64, sectors-at))
			ops = append(ops, Op{Kind: WriteSnap, Tag: pick[block.Tag](rng, 1, 2, 5, 6), Off: at * block.SectorSize, Len: n * block.SectorSize, Seed: rng.Uint64()})
		}
		return append(ops, Op{Kind: FlushSnap, Tag: 2}, Op{Kind: FlushSnap, Tag: 6}, Op{Kind: CloseSnap, Tag: 5})
	case VerbResizeOrigin:
		return []Op{
			{Kind: Resize, Len: (1 + rng.Int64N(sectors-1)) * block.SectorSize}, {Kind: Resize, Len: size + rng.Int64N(200)*block.SectorSize},
		}
	case VerbResizeStore:
		at := r.Rig.StoreSize
		return []Op{{Kind: ResizeSt, Len: at - at/4 - rng.Int64N(at/8)}, {Kind: ResizeSt, Len: at + rng.Int64N(at)}}
	case VerbRevert:
		return []Op{{Kind: Revert, Tag: pick[block.Tag](rng, 1, 2, 4, 5, 6)}}
	case VerbMerge:
		return []Op{{Kind: Merge, Tag: pick[block.Tag](rng, 1, 4, 6)}}
	case VerbDrop, VerbSquash:
		return filling(rng, size, verb)
	}
	panic("no such verb: " + string(verb))
}

// filling returns operations that fill the store again and again. To have snapshots
// squashed it holds them.
func filling(rng *rand.Rand, size int64, verb Verb) (ops []Op) {
	for tag := block.Tag(10); tag < 80; tag++ {
		ops = append(ops, Op{Kind: Snapshot, Tag: tag})
		if verb == VerbSquash {
			ops = append(ops, Op{Kind: Change, Tag: tag, Attrs: model.Attributes{Held: true}})
		}
		ops = append(ops, Op{Kind: Write, Len: size, Seed: rng.Uint64N(1 << 32)})
	}
	return ops
}
