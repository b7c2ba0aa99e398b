// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// String returns the op's line of text, which [Parse] reads back:
//
//	read 4096+8192
//	write 4096+8192 fua gap=1.5ms
//	flush
//
// The range is offset+length in bytes.
func (o Op) String() string { return string(o.AppendText(nil)) }

// AppendText appends the op's line of text, without a newline.
func (o Op) AppendText(b []byte) []byte {
	b = append(b, o.Kind.String()...)
	if o.Kind != Flush {
		b = append(b, ' ')
		b = strconv.AppendInt(b, o.Off, 10)
		b = append(b, '+')
		b = strconv.AppendInt(b, o.Len, 10)
	}
	if o.FUA {
		b = append(b, " fua"...)
	}
	if o.Gap != 0 {
		b = append(b, " gap="...)
		b = append(b, o.Gap.String()...)
	}
	return b
}

// Parse reads one line of text as [Op.String] writes it. It accepts every
// offset and length that is well formed: [Op.Check] judges them against a device.
func Parse(line string) (Op, error) {
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return Op{}, errors.New("empty op")
	}
	kind, err := parseKind(fields[0])
	if err != nil {
		return Op{}, fmt.Errorf("op %q: %w", line, err)
	}
	op, rest := Op{Kind: kind}, fields[1:]
	if kind != Flush {
		if len(rest) == 0 {
			return Op{}, fmt.Errorf("op %q: the range offset+length is missing", line)
		}
		if op.Off, op.Len, err = parseRange(rest[0]); err != nil {
			return Op{}, fmt.Errorf("op %q: %w", line, err)
		}
		rest = rest[1:]
	}
	for _, f := range rest {
		if err := op.parseOption(f); err != nil {
			return Op{}, fmt.Errorf("op %q: %w", line, err)
		}
	}
	const anySize = 1<<63 - 1
	if err := op.Check(anySize); err != nil {
		return Op{}, err
	}
	return op, nil
}

func parseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if s == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("unknown kind %q: want one of %s", s, strings.Join(kindNames[:], ", "))
}

func parseRange(s string) (off, n int64, err error) {
	a, b, ok := strings.Cut(s, "+")
	if !ok {
		return 0, 0, fmt.Errorf("range %q is not offset+length", s)
	}
	if off, err = strconv.ParseInt(a, 10, 64); err != nil {
		return 0, 0, err
	}
	n, err = strconv.ParseInt(b, 10, 64)
	return off, n, err
}

func (o *Op) parseOption(f string) error {
	if f == "fua" {
		o.FUA = true
		return nil
	}
	text, ok := strings.CutPrefix(f, "gap=")
	if !ok {
		return fmt.Errorf("unknown option %q: want fua or gap=DURATION", f)
	}
	var err error
	o.Gap, err = time.ParseDuration(text)
	return err
}

// Format writes the rest of s to w, a line an op.
func Format(w io.Writer, s Stream) error {
	b := bufio.NewWriter(w)
	var line []byte
	for op, ok := s.Next(); ok; op, ok = s.Next() {
		line = append(op.AppendText(line[:0]), '\n')
		if _, err := b.Write(line); err != nil {
			return fmt.Errorf("writing ops: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing ops: %w", err)
	}
	return Err(s)
}

// Scanner is a Stream of lines of text. Empty lines and lines that begin with #
// are passed over; the first line that is no op ends it, see [Scanner.Err].
type Scanner struct {
	lines *bufio.Scanner
	line  int
	err   error
}

// NewScanner returns a stream that reads r as it goes.
func NewScanner(r io.Reader) *Scanner { return &Scanner{lines: bufio.NewScanner(r)} }

// Next implements [Stream].
func (s *Scanner) Next() (Op, bool) {
	for s.err == nil && s.lines.Scan() {
		s.line++
		text := strings.TrimSpace(s.lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		op, err := Parse(text)
		if err != nil {
			s.err = fmt.Errorf("line %d: %w", s.line, err)
			break
		}
		return op, true
	}
	return Op{}, false
}

// Err returns the first bad line or reading error, or nil at a proper end.
func (s *Scanner) Err() error {
	if s.err != nil {
		return s.err
	}
	if err := s.lines.Err(); err != nil {
		return fmt.Errorf("reading ops after line %d: %w", s.line, err)
	}
	return nil
}
