// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"io"

	"zumastor.org/zumastor/engine/delta/codec"
)

// Report says what is in a delta.
type Report struct {
	Header  Header
	Summary Summary
	Kinds   map[Kind]Count
	Codecs  map[codec.ID]Count // of extents
	// Decoded is how many bytes of content were made of the payloads that need no base,
	// and found to be what they are to be.
	Decoded int64
}

// Count counts records of some sort.
type Count struct {
	Records uint64
	Content int64 // bytes that they stand for
	Coded   int64 // bytes of their payloads
}

func (c Count) and(r *Record) Count {
	coded := len(r.Payload)
	for i := range r.Parts {
		coded += recordSize + len(r.Parts[i].Payload)
	}
	return Count{c.Records + 1, c.Content + r.Length, c.Coded + int64(coded)}
}

// Inspect reads a delta to its end, without any volume, and says what is in it. All
// checksums are verified and, if decode is set, so is all content that needs no base.
func Inspect(ctx context.Context, from io.Reader, decode bool) (*Report, error) {
	r, err := NewReader(from)
	if err != nil {
		return nil, err
	}
	rep := &Report{Header: r.Header(), Kinds: make(map[Kind]Count), Codecs: make(map[codec.ID]Count)}
	d := newDecoder(rep.Header)
	buf := make([]byte, 0, MinExtent)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			rep.Summary = r.Summary()
			return rep, nil
		}
		if err != nil {
			return nil, err
		}
		rep.Kinds[rec.Kind] = rep.Kinds[rec.Kind].and(rec)
		if rec.Kind != KindExtent {
			continue
		}
		rep.Codecs[rec.Codec] = rep.Codecs[rec.Codec].and(rec)
		if !decode || rec.Codec.NeedsBase() {
			continue
		}
		if int64(cap(buf)) < rec.Length {
			buf = make([]byte, rep.Header.Extent)
		}
		if err := d.content(buf[:rec.Length], rec, nil, nil); err != nil {
			return nil, err
		}
		rep.Decoded += rec.Length
	}
}
