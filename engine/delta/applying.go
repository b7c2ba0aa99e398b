// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// applying is one run of Apply: records are read, their content is made of them, and that
// is written, each by goroutines of its own.
type applying struct {
	header Header
	base   Content // nil for none
	to     Receiver
	o      ApplyOptions
	quick  quickKey

	free   chan *arrival
	failed chan struct{} // closed with err set
	err    error         // of the first record that could not be written
}

// arrival is a record that is being applied.
type arrival struct {
	buf     bytes.Buffer // what record has of it
	record  *Record
	content []byte // in own or, as it came, in buf
	own     []byte
	there   bool     // the receiver has the content already
	differs []Extent // of the content, from the base as the receiver has it
	err     error
	done    chan struct{}
}

// run applies all records.
func (a *applying) run(ctx context.Context, r *Reader) error {
	jobs, workers := parallel(0, 0, a.header.Extent)
	a.free, a.failed = make(chan *arrival, jobs), make(chan struct{})
	for range jobs {
		a.free <- &arrival{}
	}
	work, order := make(chan *arrival, jobs), make(chan *arrival, jobs)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			m := making{decoder: newDecoder(a.header), applying: a}
			for j := range work {
				j.err = m.make(j)
				close(j.done)
			}
		})
	}
	all.Go(func() { a.write(order) })
	err := a.read(ctx, r, work, order)
	close(work)
	close(order)
	all.Wait()
	if a.err != nil { // it comes before any of reading
		return a.err
	}
	return err
}

// read hands out the records, in order, until the end of the delta or until one fails.
func (a *applying) read(ctx context.Context, r *Reader, work, order chan<- *arrival) error {
	for {
		var j *arrival
		select {
		case <-a.failed:
			return nil
		case j = <-a.free:
		}
		rec, err := r.nextIn(&j.buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		j.record, j.there, j.err, j.done = rec, false, nil, make(chan struct{})
		work <- j
		order <- j
	}
}

// write writes what was made of the records, in order, until one fails.
func (a *applying) write(order <-chan *arrival) {
	last := making{decoder: newDecoder(a.header), applying: a}
	for j := range order {
		<-j.done
		if a.err == nil {
			if a.err = a.finish(j, &last); a.err != nil {
				close(a.failed)
			}
		}
		a.free <- j
	}
}

// finish writes what was made of a record, and tells of it.
func (a *applying) finish(j *arrival, last *making) error {
	if j.err == nil && j.record.repeats() {
		j.err = last.content(j)
	}
	if j.err != nil {
		return j.err
	}
	r := j.record
	switch {
	case r.Kind == KindZero:
		if err := a.to.Zero(r.Offset, r.Length); err != nil {
			return fmt.Errorf("zeroing %d bytes at offset %d: %w", r.Length, r.Offset, err)
		}
	case !j.there:
		for _, x := range j.differs {
			if _, err := a.to.WriteAt(j.content[x.Offset:x.Offset+x.Length], r.Offset+x.Offset); err != nil {
				return fmt.Errorf("writing %d bytes at offset %d: %w", x.Length, r.Offset+x.Offset, err)
			}
		}
	}
	if a.o.Wrote != nil {
		if err := a.o.Wrote(r.end()); err != nil {
			return err
		}
	}
	if a.o.Progress != nil {
		a.o.Progress(r.end(), a.header.To.Size)
	}
	return nil
}

// repeats reports whether a record's content is, or may be in part, what records before it
// made: then it is known only when these are written.
func (r *Record) repeats() bool { return r.Kind == KindAgain || r.Kind == KindComposed }

// making makes content of records. For one goroutine.
type making struct {
	*applying
	decoder *decoder
}

// make makes the content of a record that does not repeat what others made.
func (m *making) make(j *arrival) error {
	r := j.record
	if r.Kind == KindZero {
		return nil
	}
	if m.o.Resume && r.Kind != KindComposed {
		j.own = grown(j.own, r.Length)
		if err := readFull(m.to, j.own, r.Offset); err != nil {
			return fmt.Errorf("the receiver: %w", err)
		}
		j.there = m.sumLike(r, j.own) == r.Sum
	}
	if j.there || r.repeats() {
		return nil
	}
	return m.content(j)
}

// content makes and verifies a record's content, and tells where it differs from the base:
// the rest, of which the receiver has the same, is not written.
func (m *making) content(j *arrival) error {
	if j.there {
		return nil
	}
	r := j.record
	var same []byte
	if m.base != nil {
		if err := m.decoder.checkBase(r, m.base); err != nil {
			return err
		}
		same = m.decoder.same
	}
	if err := m.decode(j); err != nil {
		return err
	}
	j.differs = differing(j.differs[:0], j.content, same, m.header.ChunkSize)
	return nil
}

// decode makes a record's content of its payload, and verifies it.
func (m *making) decode(j *arrival) error {
	r := j.record
	if r.bare() && int64(len(r.Payload)) == r.Length {
		j.content = r.Payload
		if m.sumLike(r, j.content) != r.Sum {
			return wrongContent(r)
		}
		return nil
	}
	j.own = grown(j.own, r.Length)
	j.content = j.own
	return m.decoder.content(j.content, r, m.base, m.to)
}

// differing appends to list which chunks of content are not the same, neighbours as one.
func differing(list []Extent, content, same []byte, chunk int) []Extent {
	for from := 0; from < len(content); from += chunk {
		to := min(from+chunk, len(content))
		if to <= len(same) && bytes.Equal(content[from:to], same[from:to]) {
			continue
		}
		if n := len(list) - 1; n >= 0 && list[n].Offset+list[n].Length == int64(from) {
			list[n].Length += int64(to - from)
			continue
		}
		list = append(list, Extent{int64(from), int64(to - from)})
	}
	return list
}

// sumLike returns the sum of p as a record has it of its content.
func (a *applying) sumLike(r *Record, p []byte) Sum {
	if r.Quick {
		return a.quick.sumOf(p)
	}
	return SumOf(p)
}

// grown returns p with n bytes, of memory that it had if that is enough.
func grown(p []byte, n int64) []byte {
	if int64(cap(p)) < n {
		p = make([]byte, n)
	}
	return p[:n]
}
