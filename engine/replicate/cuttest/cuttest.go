// SPDX-License-Identifier: Apache-2.0

// Package cuttest cuts and kills replication, as often as it is told to, and counts what
// came of it.
//
// It owns two machines in memory, the load on the first, whose snapshots the second
// takes over TCP and TLS, and the faults: connections that are cut after any byte, senders
// and receivers that are killed, and receivers that lose power. It does not own what is
// tested: package replicate and all below it. Tests call it, and so may whoever wants the
// number. One [Run] uses a loopback port and some MiB of memory; several may run at a time.
// It returns an error only where the test itself cannot go on.
package cuttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/replicate/pin"
)

// Options say how much is done. The zero value is valid.
type Options struct {
	Faults int // zero: 200
	Seed   uint64
}

// Outcome counts what was done, and what came of it.
type Outcome struct {
	Cuts          int // of connections
	SenderKills   int
	ReceiverKills int
	PowerCuts     int // of receivers
	Sessions      int
	Snapshots     int // that arrived
	Resumed       int // sessions that began behind what an earlier one had written

	// Corrupted is how often a copy was not as it is to be: a snapshot that differs, or an
	// origin that is neither what its newest snapshot is nor said to be between two.
	Corrupted int
	// MostLost is the most records that one session carried again although the receiver
	// had written them whole before a cut or kill, but for losses of power.
	MostLost int
	// MostLostPower is the same of losses of power, which may cost what was not flushed.
	MostLostPower int
	// Trouble says what the first corruption was, or the first error that is none of a fault.
	Trouble string
}

// Faults returns how many there were.
func (o *Outcome) Faults() int { return o.Cuts + o.SenderKills + o.ReceiverKills + o.PowerCuts }

// defaultFaults is the number of the project's goal.
const defaultFaults = 200

// mostSessions bounds how often one snapshot is tried.
const mostSessions = 200

// Run replicates snapshots of a volume in use until so many faults have happened and the
// last one has arrived.
func Run(ctx context.Context, o Options) (out Outcome, err error) {
	if o.Faults == 0 {
		o.Faults = defaultFaults
	}
	r := &run{out: &out, rng: rand.New(rand.NewPCG(o.Seed, 0xc07)), faults: o.Faults, expected: make(map[block.Tag][]byte)}
	if r.keys, err = newKeys(); err != nil {
		return out, err
	}
	if r.from, err = newSource(); err != nil {
		return out, err
	}
	defer r.from.close()
	if r.to, err = newCopy(); err != nil {
		return out, err
	}
	defer func() { r.to.rig.Abandon() }()
	for tag := block.Tag(1); out.Faults() < o.Faults; tag++ {
		if err := r.round(ctx, tag); err != nil {
			return out, fmt.Errorf("snapshot %d: %w", tag, err)
		}
	}
	return out, nil
}

// run is one Run.
type run struct {
	out      *Outcome
	rng      *rand.Rand
	faults   int
	keys     keys
	from     *source
	to       *copied
	expected map[block.Tag][]byte // of the copy's snapshots
	coming   []byte               // content of the snapshot that is sent
	written  []int64              // ends of records that the copy has whole, of that
	power    bool                 // the last fault was a loss of power
}

// keys are those of both machines.
type keys struct{ from, to *pin.Key }

func newKeys() (k keys, err error) {
	if k.from, err = pin.NewKey(); err != nil {
		return k, err
	}
	k.to, err = pin.NewKey()
	return k, err
}

// round makes a snapshot, and has it arrive.
func (r *run) round(ctx context.Context, tag block.Tag) (err error) {
	if r.coming, err = r.from.snapshot(r.rng, tag); err != nil {
		return err
	}
	stop := r.from.load(r.rng.Uint64())
	defer stop()
	r.written, r.power = nil, false
	for tries := 0; ; tries++ {
		if tries == mostSessions {
			return errors.New("it does not arrive")
		}
		f := r.fault()
		arrived, err := r.session(ctx, tag, f)
		if err != nil {
			return err
		}
		if err := r.verify(tag, arrived); err != nil {
			return err
		}
		if arrived {
			break
		}
	}
	r.out.Snapshots++
	for old := range r.expected {
		if old != tag {
			delete(r.expected, old)
			if err := r.to.forget(old); err != nil {
				return err
			}
		}
	}
	return r.from.forget(tag - 1)
}

// corrupted notes that the copy is not as it is to be.
func (r *run) corrupted(format string, values ...any) {
	r.out.Corrupted++
	r.trouble(fmt.Errorf(format, values...))
}

func (r *run) trouble(err error) {
	if r.out.Trouble == "" {
		r.out.Trouble = err.Error()
	}
}

// verify compares the copy with what it is to be.
func (r *run) verify(tag block.Tag, arrived bool) error {
	if arrived {
		r.expected[tag] = r.coming
	}
	st, err := r.to.state()
	if err != nil {
		return err
	}
	if _, there := st.snapshots[tag]; there {
		r.expected[tag] = r.coming // it is there, and the sender does not know
	}
	for tag, want := range r.expected {
		if got := st.snapshots[tag]; !bytes.Equal(got, want) {
			r.corrupted("snapshot %d of the copy is not what it was", tag)
		}
	}
	if len(st.snapshots) != len(r.expected) {
		r.corrupted("the copy has %d snapshots, and %d were made", len(st.snapshots), len(r.expected))
	}
	if st.newest != 0 && !st.applying && !bytes.Equal(st.origin, r.expected[st.newest]) {
		r.corrupted("the copy's origin is not what its newest snapshot %d is", st.newest)
	}
	return nil
}
