// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"zumastor.org/zumastor/workloads"
)

// Trace is a whole trace in memory.
type Trace struct {
	Header
	Ops   []workloads.Op
	Marks []Mark // in order
}

// Phase is the part of a trace from one mark to the next.
type Phase struct {
	Name string
	Ops  []workloads.Op
}

// Read reads a whole trace from r.
func Read(r io.Reader) (*Trace, error) {
	d, err := NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	t := &Trace{Header: d.Header()}
	for op, ok := d.Next(); ok; op, ok = d.Next() {
		t.Ops = append(t.Ops, op)
	}
	t.Marks = d.Marks()
	return t, d.Err()
}

// Open reads the whole trace in the named file.
func Open(path string) (*Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Write writes the trace to w.
func (t *Trace) Write(w io.Writer) error {
	e, err := NewWriter(w, t.Header)
	if err != nil {
		return err
	}
	marks := t.Marks
	for i, op := range t.Ops {
		for ; len(marks) > 0 && marks[0].At <= i; marks = marks[1:] {
			if err := e.Mark(marks[0].Name); err != nil {
				return err
			}
		}
		if err := e.Op(op); err != nil {
			return err
		}
	}
	for _, m := range marks {
		if err := e.Mark(m.Name); err != nil {
			return err
		}
	}
	return e.Close()
}

// Stream returns a stream of all ops, with its own position.
func (t *Trace) Stream() *workloads.Slice { return workloads.NewSlice(t.Ops) }

// Phases cuts the trace at its marks. Ops before the first mark form a phase
// without a name; a mark without ops up to the next yields an empty phase.
func (t *Trace) Phases() []Phase {
	var phases []Phase
	from, name := 0, ""
	for _, m := range t.Marks {
		if m.At > from || name != "" {
			phases = append(phases, Phase{name, t.Ops[from:m.At]})
		}
		from, name = m.At, m.Name
	}
	if from < len(t.Ops) || name != "" {
		phases = append(phases, Phase{name, t.Ops[from:]})
	}
	return phases
}

// Dump writes the trace as text: the header and the marks as comments, the ops a
// line each, so that workloads.Scanner reads the ops back.
func (t *Trace) Dump(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "# trace %s of a device of %d bytes in blocks of %d\n", t.Name, t.Size, t.BlockSize)
	for line := range strings.Lines(t.Description) {
		fmt.Fprintf(b, "# %s\n", strings.TrimRight(line, "\n"))
	}
	for _, p := range t.Phases() {
		if p.Name != "" {
			fmt.Fprintf(b, "# mark %q\n", p.Name)
		}
		if err := workloads.Format(b, workloads.NewSlice(p.Ops)); err != nil {
			return fmt.Errorf("dumping trace %s: %w", t.Name, err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("dumping trace %s: %w", t.Name, err)
	}
	return nil
}
