// SPDX-License-Identifier: Apache-2.0

// Package metamorphic runs random operations against a volume and against the
// model of one, with crashes, under random options.
//
// It owns the operations as text, one a line, so that a failure is a file that
// can be run again; their generator; the runner that compares every result with
// package model's; and the reducer that makes a failing file short. The options
// change how the engine works and never what it answers: the same file passes
// under all of them. It does not own how a volume is put together (package rig).
// Its own tests run it for seconds, or with ZUMASTOR_SOAK=10m for as long as that
// says. Tests call it, one goroutine a runner. A difference, and every error that the
// model does not expect, ends a run with an error that names the operation.
package metamorphic

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/model"
)

// Kind says what an operation does; it is the first word of its line.
type Kind string

// The kinds of operation, with their operands.
const (
	Write      Kind = "write"      // off+len seed
	Zero       Kind = "zero"       // off+len
	Discard    Kind = "discard"    // off+len
	Flush      Kind = "flush"      //
	Read       Kind = "read"       // off+len
	Vector     Kind = "vector"     // [write off+len seed, read off+len, ...], in one submission
	Snapshot   Kind = "snapshot"   // tag
	Delete     Kind = "delete"     // tag
	ReadSnap   Kind = "readsnap"   // tag off+len
	SnapOf     Kind = "snapof"     // tag parent: a snapshot of a snapshot
	DeleteAll  Kind = "deleteall"  // tag: it and all under it
	Change     Kind = "change"     // tag held uses priority name, which may be -
	WriteSnap  Kind = "writesnap"  // tag off+len seed; opens the snapshot for writing if need be
	FlushSnap  Kind = "flushsnap"  // tag
	CloseSnap  Kind = "closesnap"  // tag: its writer
	Scrub      Kind = "scrub"      //
	Resize     Kind = "resize"     // bytes: of the origin
	ResizeSt   Kind = "resizest"   // bytes: of the store
	Revert     Kind = "revert"     // tag: the origin to the snapshot
	Merge      Kind = "merge"      // tag: the snapshot into the origin
	Checkpoint Kind = "checkpoint" //
	Maintain   Kind = "maintain"   //
	Reopen     Kind = "reopen"     //
	Crash      Kind = "crash"      // seed keep tear: the power cut's random source and memdev.Fate
)

// Op is one operation; which fields count depends on the kind.
type Op struct {
	Kind     Kind
	Off, Len int64
	Seed     uint64
	Tag      block.Tag
	Of       block.Tag // of a snapshot of a snapshot
	Attrs    model.Attributes
	Fate     memdev.Fate
	Ops      []Op // of a vector: writes and reads
}

// String returns the operation's line.
func (o Op) String() string {
	switch o.Kind {
	case Write:
		return fmt.Sprintf("%s %d+%d %d", o.Kind, o.Off, o.Len, o.Seed)
	case Zero, Discard, Read:
		return fmt.Sprintf("%s %d+%d", o.Kind, o.Off, o.Len)
	case Snapshot, Delete, DeleteAll, FlushSnap, CloseSnap, Revert, Merge:
		return fmt.Sprintf("%s %d", o.Kind, o.Tag)
	case Resize, ResizeSt:
		return fmt.Sprintf("%s %d", o.Kind, o.Len)
	case SnapOf:
		return fmt.Sprintf("%s %d %d", o.Kind, o.Tag, o.Of)
	case WriteSnap:
		return fmt.Sprintf("%s %d %d+%d %d", o.Kind, o.Tag, o.Off, o.Len, o.Seed)
	case Change:
		return fmt.Sprintf("%s %d %t %d %d %s", o.Kind, o.Tag, o.Attrs.Held, o.Attrs.UseCount, o.Attrs.Priority, cmp.Or(o.Attrs.Name, "-"))
	case ReadSnap:
		return fmt.Sprintf("%s %d %d+%d", o.Kind, o.Tag, o.Off, o.Len)
	case Crash:
		return fmt.Sprintf("%s %d %g %g", o.Kind, o.Seed, o.Fate.Keep, o.Fate.Tear)
	case Vector:
		parts := make([]string, len(o.Ops))
		for i, p := range o.Ops {
			parts[i] = p.String()
		}
		return fmt.Sprintf("%s [%s]", o.Kind, strings.Join(parts, ", "))
	}
	return string(o.Kind)
}

// ErrSyntax is wrapped by the errors of [ParseOp] and [ReadOps].
var ErrSyntax = errors.New("bad operation")

// ParseOp reads one line, the reverse of [Op.String].
func ParseOp(line string) (Op, error) {
	kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	o := Op{Kind: Kind(kind)}
	s := scanner{words: strings.Fields(rest)}
	switch o.Kind {
	case Write:
		o.Off, o.Len = s.extent()
		o.Seed = s.number(64)
	case Zero, Discard, Read:
		o.Off, o.Len = s.extent()
	case Snapshot, Delete, DeleteAll, FlushSnap, CloseSnap, Revert, Merge:
		o.Tag = s.tag()
	case Resize, ResizeSt:
		o.Len = int64(s.number(50))
		s.bad = s.bad || o.Len == 0 || o.Len%block.SectorSize != 0
	case SnapOf:
		o.Tag, o.Of = s.tag(), s.tag()
	case WriteSnap:
		o.Tag = s.tag()
		o.Off, o.Len = s.extent()
		o.Seed = s.number(64)
	case Change:
		o.Tag = s.tag()
		o.Attrs = s.attributes()
	case ReadSnap:
		o.Tag = s.tag()
		o.Off, o.Len = s.extent()
	case Crash:
		o.Seed = s.number(64)
		o.Fate = memdev.Fate{Keep: s.share(), Tear: s.share()}
	case Vector:
		return parseVector(rest)
	case Flush, Checkpoint, Maintain, Reopen, Scrub:
	default:
		s.bad = true
	}
	if s.bad || len(s.words) > 0 {
		return Op{}, fmt.Errorf("%w: %q", ErrSyntax, line)
	}
	return o, nil
}

func parseVector(rest string) (Op, error) {
	o := Op{Kind: Vector}
	inner, ok := strings.CutPrefix(strings.TrimSpace(rest), "[")
	inner, ok2 := strings.CutSuffix(inner, "]")
	if !ok || !ok2 {
		return Op{}, fmt.Errorf("%w: vector %q has no brackets", ErrSyntax, rest)
	}
	if strings.TrimSpace(inner) == "" {
		return o, nil
	}
	for part := range strings.SplitSeq(inner, ",") {
		p, err := ParseOp(part)
		if err != nil {
			return Op{}, err
		}
		if p.Kind != Write && p.Kind != Read {
			return Op{}, fmt.Errorf("%w: %q in a vector", ErrSyntax, part)
		}
		o.Ops = append(o.Ops, p)
	}
	return o, nil
}

// scanner takes the operands of a line one after another.
type scanner struct {
	words []string
	bad   bool
}

func (s *scanner) word() string {
	if len(s.words) == 0 {
		s.bad = true
		return ""
	}
	w := s.words[0]
	s.words = s.words[1:]
	return w
}

func (s *scanner) parse(w string, bits int) uint64 {
	n, err := strconv.ParseUint(w, 10, bits)
	s.bad = s.bad || err != nil
	return n
}

func (s *scanner) number(bits int) uint64 { return s.parse(s.word(), bits) }

func (s *scanner) tag() block.Tag { return block.Tag(s.number(32)) }

func (s *scanner) attributes() (a model.Attributes) {
	var err error
	a.Held, err = strconv.ParseBool(s.word())
	s.bad = s.bad || err != nil
	a.UseCount = uint32(s.number(32))
	priority, err := strconv.ParseInt(s.word(), 10, 8)
	s.bad = s.bad || err != nil
	a.Priority = int8(priority)
	if a.Name = s.word(); a.Name == "-" {
		a.Name = ""
	}
	return a
}

func (s *scanner) extent() (off, n int64) {
	first, second, _ := strings.Cut(s.word(), "+")
	off, n = int64(s.parse(first, 50)), int64(s.parse(second, 50))
	s.bad = s.bad || (off|n)%block.SectorSize != 0
	return off, n
}

func (s *scanner) share() float64 {
	f, err := strconv.ParseFloat(s.word(), 64)
	s.bad = s.bad || err != nil || !(f >= 0 && f <= 1)
	return f
}

// WriteOps writes one operation a line.
func WriteOps(w io.Writer, ops []Op) error {
	for _, o := range ops {
		if _, err := fmt.Fprintln(w, o); err != nil {
			return err
		}
	}
	return nil
}

// ReadOps reads what WriteOps wrote. Empty lines and those that begin with # are
// passed over.
func ReadOps(r io.Reader) ([]Op, error) {
	var ops []Op
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			o, err := ParseOp(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			ops = append(ops, o)
		}
	}
	return ops, lines.Err()
}
