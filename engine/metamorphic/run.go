// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/model"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// Runner does operations to a rig and to the model of what it must be.
type Runner struct {
	Rig   *rig.Rig
	Model *model.Volume
	// Check is called with the rig closed, or cut off from power, and says what is
	// wrong with what is on its devices. Nil checks nothing.
	Check func(*rig.Rig) error
	// Tolerant lets operations fail with any error, and takes only wrong answers
	// for failures.
	Tolerant bool
	// Failed counts the operations that failed, for want of space or tolerated.
	Failed int
	// Answers is a checksum of all that was read, but for the content of what was
	// discarded.
	Answers uint32

	writers map[block.Tag]*volume.Snapshot // snapshots that are open for writing
}

// NewRunner builds a rig for the options and the model of its volume.
func NewRunner(o rig.Options, w rig.Wrappers) (*Runner, error) {
	r, err := rig.New(o, w)
	if err != nil {
		return nil, err
	}
	m := model.New(o.OriginSize)
	m.Drop = o.Policy == layout.PolicyDrop.String()
	return &Runner{Rig: r, Model: m}, nil
}

// Run does all operations under the options, then compares everything, as it is
// and opened again. The error names the operation.
func Run(o rig.Options, ops []Op, check func(*rig.Rig) error) (*Runner, error) {
	r, err := NewRunner(o, rig.Wrappers{})
	if err != nil {
		return nil, err
	}
	defer func() { r.Rig.Abandon() }()
	r.Check = check
	if err := r.All(ops); err != nil {
		return r, err
	}
	if err := r.Compare(); err != nil {
		return r, fmt.Errorf("at the end: %w", err)
	}
	if err := r.Do(Op{Kind: Reopen}); err != nil {
		return r, fmt.Errorf("at the end: %w", err)
	}
	return r, nil
}

// All does operations one after another.
func (r *Runner) All(ops []Op) error {
	for i, o := range ops {
		if err := r.Do(o); err != nil {
			return fmt.Errorf("operation %d, %v: %w", i, o, err)
		}
	}
	return nil
}

// Do does one operation, and takes in what a full store has dropped for it.
func (r *Runner) Do(o Op) error {
	o, ok := r.clamp(o)
	if !ok {
		return nil
	}
	err := r.do(o)
	if err == nil && r.Model.Drop {
		err = r.Model.Dropped(r.list())
	}
	return err
}

func (r *Runner) do(o Op) error {
	switch o.Kind {
	case Write:
		return r.change(o, model.Written(o.Seed), func() error {
			_, err := r.Rig.Volume.WriteAt(o.data(), o.Off)
			return err
		})
	case Zero:
		return r.change(o, model.Same(model.Zero), func() error { return r.Rig.Volume.WriteZeroes(o.Off, o.Len) })
	case Discard:
		return r.change(o, model.Same(model.Any), func() error { return r.Rig.Volume.Discard(o.Off, o.Len) })
	case Flush:
		return r.flush()
	case Read:
		return r.read(o)
	case Vector:
		return r.vector(o.Ops)
	case Checkpoint:
		_, err := r.Rig.Server.Checkpoint()
		return r.tolerate(err)
	case Maintain:
		_, err := r.Rig.Server.Maintain()
		return r.tolerate(err)
	case Reopen:
		return r.reopen()
	case Resize:
		return r.resize(o.Len)
	case ResizeSt:
		return r.resizeStore(o.Len)
	case Revert, Merge:
		return r.restore(o.Tag, o.Kind == Merge)
	case Crash:
		return r.Crash(r.Rig.Crash(rand.New(rand.NewPCG(o.Seed, 0)), o.Fate))
	}
	return r.doSnapshot(o)
}

// clamp returns the part of an operation that lies within the origin as it is now, if
// there is one.
func (r *Runner) clamp(o Op) (Op, bool) {
	switch o.Kind {
	case Write, Zero, Discard, Read:
		o.Len = min(o.Len, r.Model.Origin.Size()-o.Off)
		return o, o.Len > 0
	case Vector:
		var inside []Op
		for _, p := range o.Ops {
			if p, ok := r.clamp(p); ok {
				inside = append(inside, p)
			}
		}
		o.Ops = inside
	}
	return o, true
}

// data returns what a write writes.
func (o Op) data() []byte {
	p := device.Buffer(int(o.Len))
	model.Written(o.Seed).Fill(p, o.Off/block.SectorSize)
	return p
}

// tolerate passes an error on unless it may occur.
func (r *Runner) tolerate(err error) error {
	if err == nil {
		return nil
	}
	if r.Tolerant || errors.Is(err, alloc.ErrNoSpace) {
		r.Failed++
		return nil
	}
	return err
}

// change does a write, zeroing or discard. One that fails for want of space must
// have changed nothing; one that fails otherwise may have, in part.
func (r *Runner) change(o Op, p model.Pattern, do func() error) error {
	r.Model.Origin.Writing(o.Off, o.Len, p)
	err := do()
	switch {
	case err == nil:
		r.Model.Origin.Wrote(o.Off, o.Len, p)
		return nil
	case errors.Is(err, alloc.ErrNoSpace):
		r.Model.Origin.Withdraw(o.Off, o.Len)
	case r.Tolerant:
		if err := r.settle(o); err != nil {
			return err
		}
	}
	return r.tolerate(err)
}

// settle finds out what a failed write has left.
func (r *Runner) settle(o Op) error {
	p := make([]byte, o.Len)
	if _, err := r.Rig.Machine.Device(rig.Origin).ReadAt(p, o.Off); err != nil {
		return err
	}
	return r.Model.Origin.Settle(o.Off, p)
}

func (r *Runner) flush() error {
	err := r.Rig.Volume.Flush()
	if err == nil {
		r.Model.Origin.Flushed()
	}
	return r.tolerate(err)
}

// note takes an answer into the checksum.
func (r *Runner) note(p []byte) {
	r.Answers = crc32.Update(r.Answers, crcTable, p)
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func (r *Runner) read(o Op) error {
	p := make([]byte, o.Len)
	if _, err := r.Rig.Volume.ReadAt(p, o.Off); err != nil {
		return r.tolerate(err)
	}
	r.note(p)
	return r.Model.Origin.Check(o.Off, p)
}

// vector submits writes and reads at once. Their ranges should be disjoint.
func (r *Runner) vector(ops []Op) error {
	sub := make([]device.Op, len(ops))
	for i, o := range ops {
		if o.Kind == Read {
			sub[i] = device.Op{Kind: device.Read, Off: o.Off, Data: device.Buffer(int(o.Len))}
			continue
		}
		r.Model.Origin.Writing(o.Off, o.Len, model.Written(o.Seed))
		sub[i] = device.Op{Kind: device.Write, Off: o.Off, Data: o.data()}
	}
	err := r.Rig.Volume.Do(sub)
	for i, o := range ops {
		var differs error
		switch {
		case o.Kind == Read && err == nil:
			r.note(sub[i].Data)
			differs = r.Model.Origin.Check(o.Off, sub[i].Data)
		case o.Kind == Write && err == nil:
			r.Model.Origin.Wrote(o.Off, o.Len, model.Written(o.Seed))
		case o.Kind == Write && errors.Is(err, alloc.ErrNoSpace):
			r.Model.Origin.Withdraw(o.Off, o.Len)
		case o.Kind == Write && r.Tolerant:
			differs = r.settle(o)
		}
		if differs != nil {
			return differs
		}
	}
	return r.tolerate(err)
}

// reopen closes the volume, has it checked, opens it and compares everything.
func (r *Runner) reopen() error {
	for _, s := range r.Model.Snapshots() {
		if err := r.closeWriter(s.Tag); err != nil {
			return err
		}
	}
	if err := r.tolerate(r.Rig.Close()); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("check after closing: %w", err)
	}
	if err := r.Rig.Open(); err != nil {
		return err
	}
	return r.Compare()
}

func (r *Runner) check() error {
	if r.Check == nil {
		return nil
	}
	return r.Check(r.Rig)
}

// Crash goes on with what a power cut has left: it has that checked, opens it and
// compares everything with what was promised.
func (r *Runner) Crash(left *rig.Rig) error {
	r.Rig.Abandon()
	r.Rig, r.writers = left, nil
	if err := r.check(); err != nil {
		return fmt.Errorf("check after a power cut: %w", err)
	}
	if err := left.Open(); err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	return r.Recovered()
}

// Recovered compares what was opened after a power cut with what was promised. A
// revert or merge that the power cut has interrupted is brought to its end.
func (r *Runner) Recovered() error {
	if r.Rig.Background { // it goes on by itself
		if err := r.Rig.Volume.Restore(context.Background()); err != nil {
			return fmt.Errorf("after a power cut: %w", err)
		}
	}
	found, err := r.found()
	if err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	if err := r.Model.Recover(found); err != nil {
		return err
	}
	if err := r.Compare(); err != nil || !found.Restoring {
		return err
	}
	if err := r.endRestore(); err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	return r.Compare()
}

// found returns all that there is.
func (r *Runner) found() (found model.State, err error) {
	found.Snapshots = r.list()
	found.Restoring = r.Rig.Server.Status().Restore != nil
	for i := range found.Snapshots {
		f := &found.Snapshots[i]
		info, err := r.Rig.Server.Find(wire.SnapshotRef{Tag: f.Tag})
		if err != nil {
			return found, err
		}
		if f.Squashed {
			continue
		}
		f.Content, err = r.Rig.ReadSnapshot(f.Tag, 0, info.Size)
		if found.Restoring && errors.Is(err, store.ErrInUse) {
			continue // it is being merged
		}
		if err != nil {
			return found, err
		}
	}
	found.Origin, err = r.Rig.ReadOrigin()
	return found, err
}

// list returns the snapshots, without content.
func (r *Runner) list() []model.Found {
	var list []model.Found
	tags := make(map[block.Branch]block.Tag)
	for _, s := range r.Rig.Server.Snapshots() {
		tags[block.Branch(s.Generation)] = s.Tag
		list = append(list, model.Found{
			Tag: s.Tag, Of: model.Parent{Snapshot: s.Parent != 0, Tag: tags[s.Parent]}, Squashed: s.State == layout.SnapshotSquashed,
			Attributes: model.Attributes{Name: s.Name, Priority: s.Priority, UseCount: s.UseCount, Held: s.Held},
		})
	}
	return list
}

// Compare compares the origin, the list of snapshots and each of them, whole. A server
// that works by itself may drop snapshots meanwhile, for slots that it leases ahead.
func (r *Runner) Compare() error {
	for {
		list := r.list()
		drops := r.Rig.Background && r.Model.Drop
		if drops {
			if err := r.Model.Dropped(list); err != nil {
				return err
			}
		}
		err := r.compare(list)
		if err == nil || !drops || reflect.DeepEqual(list, r.list()) {
			return err
		}
	}
}

func (r *Runner) compare(list []model.Found) error {
	if err := r.Model.CheckList(list); err != nil {
		return err
	}
	if err := r.read(Op{Kind: Read, Len: r.Model.Origin.Size()}); err != nil {
		return err
	}
	for _, s := range r.Model.Snapshots() {
		if err := r.readSnapshot(s.Tag, 0, s.Size()); err != nil {
			return err
		}
	}
	return nil
}
