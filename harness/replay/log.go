// SPDX-License-Identifier: Apache-2.0

// Package replay finds out what every power cut in the course of a test would have
// left: the log of dm-log-writes under origin and store together is played up to each
// flush, and a store is recovered from what is there.
//
// It owns the reading of such a log ([Read]), and the check at each point ([Verify]):
// that the store is whole, and that each snapshot which the log says was there holds
// what was promised of it (package load). It owns no device: all is played into memory.
// "zbench lab replay" calls it, for the kernel tests. Nothing here is concurrent. An
// error is a finding, and names the entry of the log.
package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Flags of entries, as the kernel's dm-log-writes.c has them.
const (
	Flush   = 1 << 0
	FUA     = 1 << 1
	Discard = 1 << 2
	Mark    = 1 << 3
)

const (
	magic   = 0x6a736677736872
	version = 1
)

// Entry is a request that a device has completed, or a mark.
type Entry struct {
	Off, Len int64 // bytes of the device
	Flags    uint64
	Text     string // of a mark
	at       int64  // of the data in the log
}

// durable says that all entries so far have outlived a power cut after this one.
func (e Entry) durable() bool { return e.Flags&(Flush|FUA) != 0 }

// Log is a log in memory, but for its data.
type Log struct {
	Entries []Entry
	r       io.ReaderAt
}

var le = binary.LittleEndian

// Read reads a log, which nothing may write to meanwhile.
func Read(r io.ReaderAt) (*Log, error) {
	var super [512]byte
	if _, err := r.ReadAt(super[:], 0); err != nil {
		return nil, fmt.Errorf("reading a log of writes: %w", err)
	}
	count, unit := le.Uint64(super[16:]), int64(le.Uint32(super[24:]))
	switch {
	case le.Uint64(super[:]) != magic || le.Uint64(super[8:]) != version:
		return nil, errors.New("not a log of dm-log-writes")
	case unit < 512 || unit > 4096 || count > 1<<24:
		return nil, fmt.Errorf("a log of %d writes to sectors of %d bytes", count, unit)
	}
	l := &Log{r: r}
	p := make([]byte, unit)
	for at := unit; uint64(len(l.Entries)) < count; {
		if _, err := r.ReadAt(p, at); err != nil {
			return nil, fmt.Errorf("reading entry %d of a log of writes: %w", len(l.Entries), err)
		}
		e, err := parse(p, unit)
		if err != nil {
			return nil, fmt.Errorf("entry %d of a log of writes: %w", len(l.Entries), err)
		}
		at += unit
		e.at = at
		if e.Flags&Discard == 0 {
			at += e.Len
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

func parse(p []byte, unit int64) (Entry, error) {
	sector, sectors, more := le.Uint64(p), le.Uint64(p[8:]), le.Uint64(p[24:])
	e := Entry{Off: int64(sector) * unit, Len: int64(sectors) * unit, Flags: le.Uint64(p[16:])}
	if sector > 1<<40 || sectors > 1<<24 {
		return e, fmt.Errorf("%d sectors at %d", sectors, sector)
	}
	if e.Flags&Mark != 0 {
		if more > uint64(len(p)-32) {
			return e, fmt.Errorf("a mark of %d bytes", more)
		}
		e.Text = strings.TrimRight(string(p[32:32+more]), "\x00")
	}
	return e, nil
}

// data returns what an entry wrote, or zeroes where it discarded.
func (l *Log) data(e Entry) ([]byte, error) {
	p := make([]byte, e.Len)
	if e.Flags&Discard != 0 {
		return p, nil
	}
	_, err := l.r.ReadAt(p, e.at)
	return p, err
}
