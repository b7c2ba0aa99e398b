// SPDX-License-Identifier: Apache-2.0

package duel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
)

// PaceCommand is the hidden command of zbench that runs [RunPace].
const PaceCommand = "pace"

// The benchmarks of a pace: writes to a volume in memory.
const (
	PaceRewrite    = "rewrite"
	PaceFirstWrite = "firstwrite"
)

// Pace is this program as a side, so that the gate itself can be measured without
// building anything.
type Pace struct {
	Program []string // zbench
	// Slower is by how many percent of its own time it is slowed down on purpose.
	Slower int
}

// Measure implements [Side].
func (p Pace) Measure(ctx context.Context, benchmark string, times, ops int) ([]float64, error) {
	args := append(p.Program[1:len(p.Program):len(p.Program)], PaceCommand, benchmark, strconv.Itoa(times), strconv.Itoa(ops), strconv.Itoa(p.Slower))
	out, err := exec.CommandContext(ctx, p.Program[0], args...).Output()
	if err != nil {
		return nil, commandError(err)
	}
	var all []float64
	for _, f := range strings.Fields(string(out)) {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the pace: %w", err)
		}
		all = append(all, v)
	}
	if len(all) != times {
		return nil, fmt.Errorf("%d times in place of %d", len(all), times)
	}
	return all, nil
}

// commandError adds what a command said to its error.
func commandError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// Sizes of a pace's volume. A chunk is a block: a first write is the most of code and
// the least of copying.
const (
	paceOrigin = 1 << 30
	paceChunk  = 4 << 10
	paceBlock  = 4 << 10
	paceBatch  = 64 // operations between looks at the clock
)

// RunPace runs a benchmark in this process: args are those of [Pace.Measure]. It
// prints the nanoseconds of an operation, a line a repetition.
func RunPace(args []string, out io.Writer) (err error) {
	if len(args) != 4 {
		return fmt.Errorf("a pace takes benchmark, times, operations and percent, not %d arguments", len(args))
	}
	var n [3]int
	for i, a := range args[1:] {
		if n[i], err = strconv.Atoi(a); err != nil {
			return fmt.Errorf("reading the arguments of a pace: %w", err)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // who waits for whom is not to be a matter of luck
	p, err := newPace(args[0], n[2])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stack.Close(), p.bed.Close()) }()
	for i := range n[0] {
		ns, err := p.repeat(i, n[1])
		if err != nil {
			return err
		}
		fmt.Fprintln(out, ns)
	}
	return nil
}

// pace is a volume in memory that is written to.
type pace struct {
	bed    *stack.Bed
	stack  *stack.Stack
	buf    []byte
	slower time.Duration // percent
	first  bool          // each write is the first to its chunk
	next   int
}

func newPace(benchmark string, slower int) (*pace, error) {
	if benchmark != PaceRewrite && benchmark != PaceFirstWrite {
		return nil, fmt.Errorf("no benchmark %q: there are %s and %s", benchmark, PaceRewrite, PaceFirstWrite)
	}
	p := &pace{
		bed: stack.NewMemory(stack.Size{Origin: paceOrigin, Stores: 4 * paceOrigin}), buf: device.Buffer(paceBlock),
		slower: time.Duration(slower), first: benchmark == PaceFirstWrite,
	}
	var err error
	p.stack, err = p.bed.BuildAll("inline", paceChunk)
	return p, err
}

// repeat makes a snapshot, settles what is to be settled, and times ops writes.
func (p *pace) repeat(i, ops int) (nsPerOp float64, err error) {
	const chunks = paceOrigin / paceChunk
	if err := p.stack.Snapshot(block.Tag(i + 1)); err != nil {
		return 0, err
	}
	span := chunks
	if !p.first {
		span = 256
		if err := p.write(span, span); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for left := min(ops, chunks); left > 0; left -= paceBatch {
		start := time.Now()
		if err := p.write(min(left, paceBatch), span); err != nil {
			return 0, err
		}
		for end := time.Since(start) * (100 + p.slower) / 100; time.Since(start) < end; {
			continue // what a slower build would do
		}
	}
	return float64(time.Since(began)) / float64(min(ops, chunks)), nil
}

// write writes n blocks, in the order of their places, and round again after span.
func (p *pace) write(n, span int) error {
	if !p.first {
		for range n {
			p.next++
			if _, err := p.stack.Device().WriteAt(p.buf, int64(p.next%span)*paceChunk); err != nil {
				return err
			}
		}
		return nil
	}
	ops := make([]device.Op, n)
	for i := range ops {
		p.next++
		ops[i] = device.Op{Kind: device.Write, Off: int64(p.next%span) * paceChunk, Data: p.buf}
	}
	return device.Do(p.stack.Device(), ops)
}
