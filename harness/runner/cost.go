// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"time"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// onBed reports whether a procedure is measured on the bed. The others have devices
// of their own.
func onBed(p spec.Procedure) bool {
	switch p {
	case spec.Peer, spec.Server, spec.Scale, spec.Crashes, spec.Kills, spec.Deltas, spec.Streams, spec.Changes, spec.Cuts, spec.Gate:
		return false
	}
	return true
}

// bedSize returns the size of a bed for all experiments that are measured on it.
func bedSize(all []spec.Experiment) stack.Size {
	var size stack.Size
	for _, e := range all {
		if !e.Measured || !onBed(e.Procedure) {
			continue
		}
		need := stack.Size{Origin: e.Origin, Stores: e.Store * int64(storesOf(e.Variants))}
		switch e.Procedure {
		case spec.Read, spec.Snapshots:
			need.Stores = e.Store * int64(stacksHeld(e))
		case spec.Untar:
			need = untarSize(e)
		}
		size.Origin, size.Stores = max(size.Origin, need.Origin), max(size.Stores, need.Stores)
	}
	return size
}

func untarSize(e spec.Experiment) stack.Size {
	phases, size, err := loadPhases(e.Trace)
	if err != nil {
		return stack.Size{} // the procedure's own prepare says what is wrong
	}
	u := untar{bench: bench{Experiment: e}, phases: phases, size: size}
	need := stack.Size{Origin: size}
	for _, c := range u.configs(e.Phases) {
		need.Stores = max(need.Stores, c.StoreOff+c.StoreSize)
	}
	return need
}

// stacksHeld returns how many stacks an experiment on numbers of snapshots keeps.
func stacksHeld(e spec.Experiment) int {
	n := 0
	for _, v := range e.Variants {
		if spec.IsPlacement(v) {
			n += len(e.Chunks) * len(e.Snapshots)
		} else {
			n++
		}
	}
	return n
}

// cost is a guess of the time that an experiment takes. Only proportions matter:
// the time that is left is scaled by how long the work done has taken.
type cost struct {
	prepare time.Duration
	models  time.Duration // in the first round
	round   time.Duration
}

func (c cost) roundCost(n int) time.Duration {
	if n == 0 {
		return c.round + c.models
	}
	return c.round
}

// Guesses of single steps.
const (
	bedRate        = 1 << 30 // bytes a second at which a bed is filled
	snapshotCost   = 3 * time.Millisecond
	modelCost      = 150 * time.Millisecond // of one setting
	modelPhaseCost = 150 * time.Millisecond
	phaseCost      = 700 * time.Millisecond
	crashCost      = 15 * time.Millisecond
	killCost       = 200 * time.Millisecond
	attachCost     = 300 * time.Millisecond  // of probes, and to detach them
	cutCost        = 20 * time.Millisecond   // a fault of replication and what it causes
	deltaCost      = 1500 * time.Millisecond // made and applied
	listCost       = 60 * time.Millisecond
	exceptionCost  = time.Microsecond
	duelCost       = 10 * time.Second
	peerCost       = 400 * time.Millisecond // of a new snapshot on both sides
)

func bedCost(size stack.Size) time.Duration {
	return time.Duration(float64(size.Origin+size.Stores) / bedRate * float64(time.Second))
}

func costOf(e spec.Experiment) cost {
	windows := func(n int) time.Duration { return time.Duration(n) * e.Window * 6 / 5 }
	cells := len(e.Chunks) * len(e.Depths) * len(e.Variants)
	var c cost
	switch e.Procedure {
	case spec.Write:
		c.models = time.Duration(cells*len(e.Models)*len(e.Ops)) * modelCost
		c.round = windows(cells * len(e.Ops))
	case spec.Untar:
		stacks := len(e.Chunks) * len(e.Variants)
		c.models = time.Duration(stacks*len(e.Models)*e.ModelPhases) * modelPhaseCost
		c.round = time.Duration(stacks*e.Phases) * phaseCost
	case spec.Read, spec.Snapshots:
		for _, n := range e.Snapshots {
			c.prepare += time.Duration(n) * snapshotCost
		}
		c.round = windows(stacksHeld(e) * len(e.Depths))
		c.models = time.Duration(len(e.Volumes)) * 6 * time.Second
	case spec.Peer, spec.Server:
		c.prepare = 3 * time.Second
		c.round = windows(cells*len(e.Ops)) + time.Duration(len(e.Depths))*peerCost
	}
	switch e.Procedure {
	case spec.Scale:
		c.prepare = time.Duration(len(e.Snapshots)*e.Exceptions) * exceptionCost
		c.round = c.prepare + windows(2)
	case spec.Deltas:
		c.prepare = time.Duration(len(e.Data)) * 2 * time.Second
		c.round = time.Duration(len(e.Data)*len(e.Variants)) * deltaCost
	case spec.Streams:
		c.round = time.Duration(e.Origin/bedRate*8+1) * time.Second
	case spec.Changes:
		c.prepare = time.Duration(e.Exceptions) * exceptionCost
		c.round = time.Duration(e.MinOps) * listCost
	case spec.Crashes:
		c.round = time.Duration(len(e.Ops)*e.MinOps) * crashCost
	case spec.Probes:
		c.round = windows(len(e.Depths)*len(e.Variants)) + time.Duration(len(e.Depths)*turns)*attachCost
	case spec.Kills:
		c.round = time.Duration(e.MinOps) * killCost
	case spec.Gate:
		c.round = time.Duration(e.MinOps) * duelCost
	case spec.Cuts:
		c.round = time.Duration(e.MinOps) * cutCost
	}
	if !e.Measured {
		c.round = 0
	}
	return c
}

// remaining returns the guess for all that is not recorded yet.
func remaining(all []spec.Experiment, record *results.Run) time.Duration {
	var total time.Duration
	measured := false
	for _, e := range all {
		if record.Completed(e.Name) {
			continue
		}
		c := costOf(e)
		total += c.prepare
		first, end := e.Span()
		for n := max(first, record.Rounds(e.Name)); n < end; n++ {
			total += c.roundCost(n)
		}
		if looksOnce(e) {
			total += c.round
		}
		measured = measured || e.Measured && onBed(e.Procedure)
	}
	if measured {
		total += bedCost(bedSize(all))
	}
	return total
}
