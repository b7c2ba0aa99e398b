// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"time"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// procedure carries out one experiment.
type procedure interface {
	// prepare builds what all rounds share.
	prepare(ctx context.Context) error
	// round measures every setting once.
	round(ctx context.Context, n int) ([]results.Sample, error)
	// close takes down what prepare built, whether or not it succeeded.
	close() error
}

// noter is a procedure that has something to say of what it is about to measure.
type noter interface{ notes() []string }

// bench is what the procedure of an experiment is given.
type bench struct {
	spec.Experiment
	bed         *stack.Bed // nil when nothing is measured on it
	seed        uint64
	dir         string   // for files of its own
	overwritten string   // the block device that the bed is on, if it is on one
	program     []string // serves an export: see package harness/export
	version     uint64   // of the content written last
	accounts    *ledger  // nil if nobody asks where the time goes
}

// newVersion returns the version of content that was not written before, so that
// every write changes what is there.
func (b *bench) newVersion() uint64 {
	b.version++
	return b.version
}

// errSkipped is wrapped by prepare when an experiment cannot be carried out here.
var errSkipped = errors.New("skipped")

func newProcedure(b bench) procedure {
	switch b.Procedure {
	case spec.Untar:
		return &untar{bench: b}
	case spec.Read:
		return &read{bench: b}
	case spec.Snapshots:
		return &snapshots{bench: b}
	case spec.Peer:
		return &peer{contest: contest{bench: b}}
	case spec.SnapshotIO:
		return &snapshotIO{b}
	case spec.Server:
		return &served{contest: contest{bench: b}}
	case spec.Scale:
		return &scale{bench: b}
	case spec.Crashes:
		return &crashes{b}
	case spec.Kills:
		return &kills{bench: b}
	case spec.Deltas:
		return &deltas{bench: b}
	case spec.Streams:
		return &streams{bench: b}
	case spec.Changes:
		return &changes{bench: b}
	case spec.Cuts:
		return &cuts{b}
	case spec.Gate:
		return &gate{b}
	case spec.Probes:
		return &probed{bench: b}
	case spec.FIO:
		return &fioJobs{peer{contest: contest{bench: b}}}
	}
	return &write{bench: b, counts: map[cell]int{}}
}

// How many slices a window is cut into: the turns of each variant. First writes
// have few, for a slice begins with an empty queue and ends with a flush; what
// can be repeated has many short ones, which see the same machine.
const (
	turns      = 4
	shortTurns = 12
)

// turnsOf returns the number of slices of an op's windows.
func turnsOf(op string) int {
	if op == "rewrite" || op == "read" {
		return shortTurns
	}
	return turns
}

// shortTurn is how long a turn of what can be repeated need not exceed.
const shortTurn = 30 * time.Millisecond

// turnsWithin is turnsOf for long windows: more turns, of the same length.
func turnsWithin(op string, window time.Duration) int {
	if n := turnsOf(op); n == shortTurns {
		return max(n, int(window/shortTurn))
	}
	return turnsOf(op)
}

// random returns the generator of a round: orders and addresses follow from the
// seed alone.
func (b *bench) random(round int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", b.Name, round)
	return rand.New(rand.NewPCG(b.seed, h.Sum64()))
}

// inTurns calls measure for every slice of every one of n variants, in an order
// drawn anew for each slice.
func inTurns(ctx context.Context, rng *rand.Rand, slices, n int, measure func(variant, slice int) error) error {
	for slice := range slices {
		for _, v := range rng.Perm(n) {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if err := measure(v, slice); err != nil {
				return err
			}
		}
	}
	return nil
}

// parallel calls do for 0 to n-1 on all processors, and returns the first error
// by number. It is for modelled figures only: they do not depend on what else
// runs.
func parallel(n int, do func(i int) error) error {
	errs := make([]error, n)
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := range next {
				errs[i] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// config makes a sample's settings in the order that all names have. Empty values
// are left out.
func config(op, variant string, chunk int64, qd, snapshots int, model string) results.Config {
	var c results.Config
	add := func(key, value string) {
		if value != "" {
			c = append(c, results.Pair{Key: key, Value: value})
		}
	}
	add("op", op)
	add("variant", variant)
	if chunk > 0 {
		add("chunk", strconv.FormatInt(chunk, 10))
	}
	if qd > 0 {
		add("qd", strconv.Itoa(qd))
	}
	if snapshots >= 0 {
		add("snapshots", strconv.Itoa(snapshots))
	}
	add("model", model)
	return c
}

// noSnapshots leaves the key "snapshots" out of a config.
const noSnapshots = -1

// closeAll closes stacks, and adds what fails to *err.
func closeAll(stacks []*stack.Stack, err *error) {
	for _, s := range stacks {
		if s != nil {
			*err = errors.Join(*err, s.Close())
		}
	}
}
