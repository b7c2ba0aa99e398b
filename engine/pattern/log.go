// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Log keeps a ledger beyond the end of its process: entries of 32 bytes, which the
// writer that it was made with must not lose where the device's are to be checked.
//
//	0 kind u32   4 CRC32C of the other 28 bytes u32   8 first sector u64   16 sectors u64   24 sequence u64
//
// The first entry is of the kind entryHead, and has the number of sectors, and the
// stream for the sequence. It is safe for concurrent use through its ledger only.
type Log struct{ w io.Writer }

const (
	entryHead = iota + 1
	entryBegin
	entryEnd
	entryFlush
)

const entrySize = 32

// NewLog begins a log of a device that holds what b says, which NewLedger must be
// given too. A write to w must be whole in w, and as durable as the caller needs it,
// when it returns.
func NewLog(w io.Writer, b Bounds) (*Log, error) {
	l := &Log{w}
	all := appendEntry(nil, entryHead, span{0, len(b.Least), b.Stream})
	for i := range b.Least {
		for _, e := range []struct {
			kind uint32
			seq  uint64
		}{{entryEnd, b.Least[i]}, {entryFlush, b.Least[i]}, {entryBegin, b.Most[i]}} {
			if e.seq != 0 {
				all = appendEntry(all, e.kind, span{i, 1, e.seq})
			}
		}
	}
	_, err := w.Write(all)
	return l, err
}

func appendEntry(dst []byte, kind uint32, s span) []byte {
	at := len(dst)
	dst = le.AppendUint32(dst, kind)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint64(dst, uint64(s.first))
	dst = le.AppendUint64(dst, uint64(s.n))
	dst = le.AppendUint64(dst, s.seq)
	le.PutUint32(dst[at+4:], crc32.Checksum(dst[at:], castagnoli))
	return dst
}

func (l *Log) add(kind uint32, s span) error {
	if l == nil {
		return nil
	}
	_, err := l.w.Write(appendEntry(nil, kind, s))
	return err
}

func (l *Log) flushed(list []span) error {
	if l == nil || len(list) == 0 {
		return nil
	}
	var all []byte
	for _, s := range list {
		all = appendEntry(all, entryFlush, s)
	}
	_, err := l.w.Write(all)
	return err
}

// ReadLog returns the ledger that a log is of, up to its first entry that is not
// whole. Writes that had not ended may have happened.
func ReadLog(r io.Reader) (*Ledger, error) {
	br := bufio.NewReader(r)
	kind, head, err := readEntry(br)
	if err != nil {
		return nil, fmt.Errorf("reading the head of a pattern's log: %w", err)
	}
	if kind != entryHead || head.n < 0 || head.n > 1<<40 {
		return nil, errors.New("not the log of a pattern")
	}
	l := NewLedger(Zeroes(head.seq, int64(head.n)*SectorSize), nil)
	for {
		kind, s, err := readEntry(br)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errTorn):
			clear(l.busy)
			return l, nil
		case err != nil:
			return nil, fmt.Errorf("reading a pattern's log: %w", err)
		case s.n < 0 || s.first < 0 || s.first > head.n || s.n > head.n-s.first:
			return nil, fmt.Errorf("a pattern's log names sectors %d to %d of %d", s.first, s.first+s.n, head.n)
		}
		l.replay(kind, s)
	}
}

// replay does what an entry says.
func (l *Ledger) replay(kind uint32, s span) {
	switch kind {
	case entryBegin:
		l.begin(s)
	case entryEnd:
		l.end(s)
		for i := s.first; i < s.first+s.n; i++ {
			l.issued[i] = max(l.issued[i], s.seq)
		}
	case entryFlush:
		l.flush([]span{s})
		l.pending = slices.DeleteFunc(l.pending, func(w span) bool { return w == s })
	}
}

var errTorn = errors.New("torn entry")

func readEntry(r io.Reader) (kind uint32, s span, err error) {
	var p [entrySize]byte
	if _, err := io.ReadFull(r, p[:]); err != nil {
		return 0, s, err
	}
	sum := le.Uint32(p[4:])
	le.PutUint32(p[4:], 0)
	if crc32.Checksum(p[:], castagnoli) != sum {
		return 0, s, errTorn
	}
	return le.Uint32(p[:]), span{int(le.Uint64(p[8:])), int(le.Uint64(p[16:])), le.Uint64(p[24:])}, nil
}
