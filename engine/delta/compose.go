// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"zumastor.org/zumastor/engine/delta/codec"
)

// Errors of compositions.
var (
	// ErrChain is wrapped when the second delta does not begin where the first one ends.
	ErrChain = errors.New("the deltas do not follow one another")
	// ErrNeedsVolume is wrapped when deltas cannot be composed without content that
	// neither of them has.
	ErrNeedsVolume = errors.New("the deltas cannot be composed without a volume")
)

// Compose writes to w the delta from where first begins to where second ends, without
// any volume; FORMAT.md has the rule. It reads both once, and holds the records of one
// bound of extents of each, 16 bytes for each stretch that second changes, and up to
// 32 MiB of what first has once and repeats.
func Compose(ctx context.Context, w io.Writer, first, second io.Reader) (Summary, error) {
	a, err := NewReader(first)
	if err != nil {
		return Summary{}, fmt.Errorf("the first delta: %w", err)
	}
	b, err := NewReader(second)
	if err != nil {
		return Summary{}, fmt.Errorf("the second delta: %w", err)
	}
	h, err := composedHeader(&a.header, &b.header)
	if err != nil {
		return Summary{}, err
	}
	out, err := NewWriter(w, h)
	if err != nil {
		return Summary{}, err
	}
	c := composing{
		window: int64(h.Extent), first: pending{r: a}, second: pending{r: b}, out: out, originals: originals{decoder: newDecoder(a.header)},
	}
	for off := int64(0); off < h.To.Size; {
		if err := ctx.Err(); err != nil {
			return out.sum, context.Cause(ctx)
		}
		next, err := c.step(off)
		if err != nil {
			return out.sum, err
		}
		off = next
	}
	if err := errors.Join(c.first.ended("first"), c.second.ended("second")); err != nil {
		return out.sum, err
	}
	return out.Close()
}

func composedHeader(a, b *Header) (Header, error) {
	switch {
	case b.From == nil:
		return Header{}, fmt.Errorf("%w: the second is of all of a volume", ErrChain)
	case a.To.Identity != b.From.Identity:
		return Header{}, fmt.Errorf("%w: the first ends at snapshot %d of generation %d, the second begins at %d of %d",
			ErrChain, a.To.Tag, a.To.Generation, b.From.Tag, b.From.Generation)
	case a.To.Algorithm != DigestNone && a.To.Algorithm == b.From.Algorithm && a.To.Digest != b.From.Digest:
		return Header{}, fmt.Errorf("%w: the first makes snapshot %d with another digest than the second begins with", ErrChain, a.To.Tag)
	case a.To.Size != b.To.Size || a.To.Size != b.From.Size || a.From != nil && a.From.Size != a.To.Size || a.ChunkSize != b.ChunkSize:
		return Header{}, fmt.Errorf("%w: sizes differ", ErrNeedsVolume)
	}
	codecs := slices.Concat(a.Codecs, b.Codecs, []codec.ID{codec.Raw}) // of what is not repeated any more
	slices.Sort(codecs)
	return Header{ChunkSize: a.ChunkSize, Extent: max(a.Extent, b.Extent), From: a.From, To: b.To, Codecs: slices.Compact(codecs)}, nil
}

// composing is one run of Compose.
type composing struct {
	window        int64
	first, second pending
	out           *Writer
	touched       []Extent // by the second delta, ascending
	originals     originals
}

// pending is a delta of which the next record may have been read.
type pending struct {
	r    *Reader
	next *Record // nil: to be read
	done bool
}

// peek returns the next record, or nil at the end.
func (p *pending) peek() (*Record, error) {
	if p.next != nil || p.done {
		return p.next, nil
	}
	rec, err := p.r.Next()
	if errors.Is(err, io.EOF) {
		p.done = true
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p.next = rec
	return rec, nil
}

// ended returns an error unless the delta was read to its end.
func (p *pending) ended(which string) error {
	rec, err := p.peek()
	if err == nil && rec != nil {
		err = fmt.Errorf("%w: a record beyond its end", ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("the %s delta: %w", which, err)
	}
	return nil
}

// until returns the records before end, of zeroes what is before it.
func (p *pending) until(end int64) (list []Record, err error) {
	for {
		rec, err := p.peek()
		if err != nil || rec == nil || rec.Offset >= end {
			return list, err
		}
		if rec.end() > end { // zeroes
			head, tail := *rec, *rec
			head.Length = end - rec.Offset
			tail.Offset, tail.Length = end, rec.end()-end
			p.next = &tail
			return append(list, head), nil
		}
		list = append(list, kept(rec))
		p.next = nil
	}
}

// kept is a record that stays valid when the next one is read.
func kept(r *Record) Record {
	c := *r
	c.Payload, c.Parts = bytes.Clone(r.Payload), nil
	for _, part := range r.Parts {
		part.Payload = bytes.Clone(part.Payload)
		c.Parts = append(c.Parts, part)
	}
	return c
}

// step composes what is before the next multiple of the bound of extents after off, and
// returns that, or a later one before which there is nothing.
func (c *composing) step(off int64) (int64, error) {
	end := off + c.window - off%c.window
	a, err := c.first.until(end)
	if err != nil {
		return 0, fmt.Errorf("the first delta: %w", err)
	}
	b, err := c.second.until(end)
	if err != nil {
		return 0, fmt.Errorf("the second delta: %w", err)
	}
	for i := range b {
		if b[i].Kind == KindCopy || b[i].Codec == codec.Similar {
			return 0, fmt.Errorf("%w: at offset %d the second one needs other places of its base", ErrNeedsVolume, b[i].Offset)
		}
		c.touch(&b[i])
	}
	for i := range a {
		if err := c.original(&a[i]); err != nil {
			return 0, err
		}
	}
	a = slices.DeleteFunc(a, func(r Record) bool { return replaced(&r, b) && forget(&r, b) })
	if err := c.write(a, b); err != nil {
		return 0, err
	}
	return c.skip(end)
}

// skip returns the first multiple of the bound at or after end in whose window something
// is.
func (c *composing) skip(end int64) (int64, error) {
	next := c.out.header.To.Size
	for _, p := range []*pending{&c.first, &c.second} {
		rec, err := p.peek()
		if err != nil {
			return 0, err
		}
		if rec != nil {
			next = min(next, rec.Offset-rec.Offset%c.window)
		}
	}
	return max(end, next), nil
}

// touch notes that the second delta changes a record's place.
func (c *composing) touch(r *Record) {
	if n := len(c.touched) - 1; n >= 0 && c.touched[n].Offset+c.touched[n].Length == r.Offset {
		c.touched[n].Length += r.Length
		return
	}
	c.touched = append(c.touched, Extent{r.Offset, r.Length})
}

// needsBase reports whether what a record makes depends on the base at its place.
func needsBase(r *Record) bool {
	return r.Kind == KindComposed || r.Kind == KindExtent && r.Codec.NeedsBase()
}

// replaced reports whether records of the second delta, ascending, have all of one of the
// first, without looking at it.
func replaced(r *Record, by []Record) bool {
	at := r.Offset
	for i := range by {
		switch {
		case by[i].end() <= r.Offset || by[i].Offset >= r.end():
		case needsBase(&by[i]):
			return false
		case by[i].Offset <= at:
			at = max(at, by[i].end())
		}
	}
	return at >= r.end()
}

// forget takes what the base holds at the place of a record of the first delta, which is
// not in the composed one, from those of the second: their base is another one now.
func forget(r *Record, by []Record) bool {
	for i := range by {
		if by[i].Offset < r.end() && r.Offset < by[i].end() {
			by[i].Base, by[i].HasBase = Sum{}, false
		}
	}
	return true
}

// write writes the records of both deltas in a window, those that overlap as one.
func (c *composing) write(a, b []Record) error {
	order := make([]int, len(a)+len(b)) // of the records by offset; the first delta's have the lower numbers
	all := append(a, b...)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(all[i].Offset, all[j].Offset) })
	for len(order) > 0 {
		end, n := all[order[0]].end(), 1
		for ; n < len(order) && all[order[n]].Offset < end; n++ {
			end = max(end, all[order[n]].end())
		}
		group := order[:n]
		order = order[n:]
		rec := all[group[0]]
		if n > 1 {
			var err error
			if rec, err = compose(all, slices.Sorted(slices.Values(group)), end); err != nil {
				return err
			}
		}
		if err := c.out.Write(&rec); err != nil {
			return fmt.Errorf("%w: %w", ErrNeedsVolume, err)
		}
	}
	return nil
}

// compose makes one record of several, which are named in the order in which they are
// laid one over another.
func compose(all []Record, group []int, end int64) (Record, error) {
	rec := Record{Kind: KindComposed, Offset: all[group[0]].Offset}
	for _, i := range group {
		rec.Offset = min(rec.Offset, all[i].Offset)
		switch r := &all[i]; r.Kind {
		case KindCopy:
			return rec, fmt.Errorf("%w: at offset %d the first one copies from elsewhere", ErrNeedsVolume, r.Offset)
		case KindComposed:
			rec.Parts = append(rec.Parts, r.Parts...)
		default:
			rec.Parts = append(rec.Parts, *r)
		}
	}
	rec.Length = end - rec.Offset
	for i := range rec.Parts {
		if p := &rec.Parts[i]; p.Kind == KindAgain && p.Source > rec.Offset-p.Length {
			return rec, fmt.Errorf("%w: at offset %d one repeats what stands beside it", ErrNeedsVolume, p.Offset)
		}
	}
	return rec, nil
}

// changes reports whether the second delta changes something of a range.
func (c *composing) changes(off, n int64) bool {
	i, _ := slices.BinarySearchFunc(c.touched, off, func(x Extent, off int64) int { return cmp.Compare(x.Offset+x.Length, off+1) })
	return i < len(c.touched) && c.touched[i].Offset < off+n
}

// original gives a record of the first delta which repeats what the second one changes
// content of its own, and keeps one that later ones may repeat.
func (c *composing) original(r *Record) error {
	for i := range r.Parts {
		if p := &r.Parts[i]; p.Kind == KindAgain && c.changes(p.Source, p.Length) {
			return repeats(p)
		}
	}
	switch {
	case r.Kind == KindExtent && !needsBase(r) && c.changes(r.Offset, r.Length):
		c.originals.keep(*r)
	case r.Kind == KindAgain && c.changes(r.Source, r.Length):
		p, err := c.originals.content(r)
		if err != nil {
			return err
		}
		r.Kind, r.Codec, r.Payload, r.Source = KindExtent, codec.Raw, p, 0
	}
	return nil
}

func repeats(r *Record) error {
	return fmt.Errorf("%w: at offset %d the first one repeats what the second one changes", ErrNeedsVolume, r.Offset)
}

// maxOriginals bounds the payloads of records that are kept.
const maxOriginals = 32 << 20

// originals are the newest records of the first delta that need no base and that the
// second one changes, ascending.
type originals struct {
	decoder *decoder
	list    []Record
	bytes   int
}

func (o *originals) keep(r Record) {
	o.list = append(o.list, r)
	o.bytes += len(r.Payload)
	for o.bytes > maxOriginals {
		o.bytes -= len(o.list[0].Payload)
		o.list = slices.Delete(o.list, 0, 1)
	}
}

// content returns what a record repeats.
func (o *originals) content(r *Record) ([]byte, error) {
	p := make([]byte, r.Length)
	for at := r.Source; at < r.Source+r.Length; {
		i, _ := slices.BinarySearchFunc(o.list, at, func(x Record, off int64) int { return cmp.Compare(x.end(), off+1) })
		if i == len(o.list) || o.list[i].Offset > at {
			return nil, repeats(r)
		}
		from := &o.list[i]
		whole := make([]byte, from.Length)
		if err := o.decoder.content(whole, from, nil, nil); err != nil {
			return nil, err
		}
		at += int64(copy(p[at-r.Source:], whole[at-from.Offset:]))
	}
	if SumOf(p) != r.Sum {
		return nil, fmt.Errorf("%w: what the record at offset %d repeats has not the sum that it is to have", ErrCorrupt, r.Offset)
	}
	return p, nil
}
