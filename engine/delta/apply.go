// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Receiver is what is to become the newer state.
type Receiver interface {
	Content
	io.WriterAt
	// Zero makes a range read as zeroes.
	Zero(off, n int64) error
	// Flush makes durable what was written.
	Flush() error
}

// ApplyOptions say how a delta is applied.
type ApplyOptions struct {
	// Resume says that the receiver may have some of the content already, from the same
	// delta: what is there is not written again.
	Resume bool
	// Progress is told up to which offset of how many bytes the receiver is done, by one
	// goroutine; it may be nil.
	Progress func(done, total int64)
	// Wrote is called after each record was written, with the offset up to which the
	// receiver is done, by one goroutine; its error ends Apply. It may be nil.
	Wrote func(done int64) error
}

// CheckBase reads a delta to its end and returns an error unless it is whole and the base
// holds, at the places of all records, what it held when the delta was made. Nothing is
// written. The error wraps [ErrBase] if the base is another one.
func CheckBase(ctx context.Context, r *Reader, base Content) error {
	if err := fits(r.Header(), base); err != nil {
		return err
	}
	d := newDecoder(r.Header())
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := d.checkBase(rec, base); err != nil {
			return err
		}
	}
}

// fits returns an error unless the base can be that of a delta.
func fits(h Header, base Content) error {
	switch {
	case h.From == nil:
		return nil
	case base == nil:
		return fmt.Errorf("%w: there is none, and it needs snapshot %d", ErrBase, h.From.Tag)
	case base.Size() != h.From.Size:
		return fmt.Errorf("%w: it has %d bytes and not %d", ErrBase, base.Size(), h.From.Size)
	}
	return nil
}

// Apply writes to a receiver, which holds what the base does or, with
// [ApplyOptions.Resume], some of the delta already, what a delta says. Base must stay as
// it is meanwhile; it is nil for a delta of all of a volume. Each record is written only
// after its base and its content were verified, and in order; chunks of it that are as in the
// base, whose sum the record has, are not written. All is durable when Apply
// returns nil, and only then is the receiver the newer state: after an error, it is neither.
//
// The caller's goroutine reads the delta; content is made and verified beside that, on all
// processors, and written by one more goroutine. So the receiver is read, if at all, while
// another place of it is written. Memory is bounded as that of [Encode].
func Apply(ctx context.Context, r *Reader, base Content, to Receiver, o ApplyOptions) (Summary, error) {
	h := r.Header()
	if err := fits(h, base); err != nil {
		return Summary{}, err
	}
	if h.From == nil {
		base = nil
	}
	if to.Size() < h.To.Size {
		return Summary{}, fmt.Errorf("the receiver has %d bytes, and the delta makes %d", to.Size(), h.To.Size)
	}
	a := &applying{header: h, base: base, to: to, o: o, quick: h.quickKey()}
	if err := a.run(ctx, r); err != nil {
		return r.Summary(), err
	}
	if err := to.Flush(); err != nil {
		return r.Summary(), fmt.Errorf("flushing what the delta made: %w", err)
	}
	return r.Summary(), nil
}
