// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"fmt"
	"io"
	"slices"

	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// maxDepth bounds how often what a record repeats may itself repeat something. Package
// delta writes none that do.
const maxDepth = 4

// worker makes windows: aligned pieces of an image as long as the largest bound of
// extents, or to the image's end. No record but a zero crosses the border of one.
type worker struct {
	m       *Image
	decoder *delta.Decoder
}

// layer is what of a level a window is made of.
type layer struct {
	places []delta.Place // ascending
}

// holds reports whether there is more than zeroes.
func (l layer) holds() bool {
	return slices.ContainsFunc(l.places, func(p delta.Place) bool { return p.Kind != delta.KindZero })
}

// window returns the window of a level at off.
func (w *worker) window(k int, off int64, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: backup %s: at offset %d what is repeated is repeated too often", ErrDamaged, w.m.levels[k].point.ID, off)
	}
	size := min(w.m.window, w.m.levels[k].header.To.Size-off)
	p, err := w.m.reader.windows.get(w.m.key(k, off), func() ([]byte, error) {
		layers, err := w.gather(k, off)
		if err != nil || !slices.ContainsFunc(layers, layer.holds) {
			return nil, err // nothing, of which the cache may have much, is for zeroes
		}
		buf := make([]byte, size, w.m.room(k, off))
		for j, l := range layers {
			if err := w.apply(j, off, l, &buf, depth); err != nil {
				return nil, fmt.Errorf("backup %s: %w", w.m.levels[j].point.ID, damaged(err))
			}
		}
		return buf[:size], nil
	})
	if err == nil && len(p) == 0 {
		p = w.m.zeroes[:size]
	}
	return p, err
}

// room returns how long the window at off is in the largest of a level and those below.
func (m *Image) room(k int, off int64) int64 {
	var n int64
	for j := range k + 1 {
		n = max(n, min(m.window, m.levels[j].header.To.Size-off))
	}
	return n
}

// gather returns, for each level up to k, the records of which the window at off is
// made. It goes from the newest down, and takes of each level only what is needed of it:
// what no newer one has, and what a newer one is coded against.
func (w *worker) gather(k int, off int64) ([]layer, error) {
	chunk := int64(w.m.levels[0].header.ChunkSize)
	need := make([]bool, w.m.window/chunk)
	end := min(off+w.m.window, w.m.levels[k].header.To.Size)
	set := func(need []bool, from, to int64, v bool) (were bool) {
		from, to = max(from, off)-off, min(to, off+w.m.window)-off
		for i := from / chunk; i*chunk < to; i++ {
			were = were || need[i]
			need[i] = v
		}
		return were
	}
	set(need, off, end, true)
	layers := make([]layer, k+1)
	for j := k; j >= 0 && slices.Contains(need, true); j-- {
		x := &w.m.levels[j]
		places, err := x.delta.Places(off, min(off+w.m.window, x.header.To.Size))
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", x.point.ID, damaged(err))
		}
		below := slices.Clone(need)
		for i := len(places) - 1; i >= 0; i-- {
			p := places[i]
			if !overlaps(need, p, off, chunk) {
				continue
			}
			layers[j].places = append(layers[j].places, p)
			set(below, p.Offset, p.Offset+p.Length, p.Kind == delta.KindExtent && p.Codec.NeedsBase())
			if p.Kind != delta.KindAgain {
				continue
			}
			r, err := x.delta.Read(p)
			if err != nil {
				return nil, fmt.Errorf("backup %s: %w", x.point.ID, damaged(err))
			}
			if to := r.Source + r.Length; to > off { // it stands before this one, and is looked at later
				markNeeded(need, below, max(r.Source, off)-off, to-off, chunk)
			}
		}
		slices.Reverse(layers[j].places)
		if j > 0 { // beyond its base a level has all
			set(below, max(off, (w.m.levels[j-1].header.To.Size+chunk-1)/chunk*chunk), off+w.m.window, false)
		} else if slices.Contains(below, true) {
			return nil, fmt.Errorf("%w: backup %s: nothing says what is in the %d bytes at offset %d", ErrDamaged, x.point.ID, end-off, off)
		}
		need = below
	}
	return layers, nil
}

// overlaps reports whether a record has something that is needed of the window at off.
func overlaps(need []bool, p delta.Place, off, chunk int64) bool {
	from, to := max(p.Offset, off)-off, min(p.Offset+p.Length-off, int64(len(need))*chunk)
	for i := from / chunk; i*chunk < to; i++ {
		if need[i] {
			return true
		}
	}
	return false
}

// markNeeded notes that a range of the window is needed of a level, and, until a record
// of it is found to have it, of the one below.
func markNeeded(need, below []bool, from, to, chunk int64) {
	for i := from / chunk; i*chunk < to; i++ {
		if !need[i] {
			need[i], below[i] = true, true
		}
	}
}

// apply makes of the window as it is in the level below what it is in level j.
func (w *worker) apply(j int, off int64, l layer, buf *[]byte, depth int) error {
	x := &w.m.levels[j]
	whole := (*buf)[:cap(*buf)]
	target := &repeated{w, j, off, whole, depth}
	var base delta.Content
	if j > 0 {
		base = &piece{whole, off, w.m.levels[j-1].header.To.Size}
	}
	var made []byte
	for _, p := range l.places {
		switch {
		case p.Kind == delta.KindZero:
			clear(whole[max(p.Offset, off)-off : min(p.Offset+p.Length-off, int64(len(whole)))])
			continue
		case p.Kind != delta.KindExtent && p.Kind != delta.KindAgain || p.Codec == codec.Similar:
			return fmt.Errorf("%w: a record of %v, codec %v, is not for repositories", ErrVersion, p.Kind, p.Codec)
		case p.Offset < off || p.Offset+p.Length > off+int64(len(whole)):
			return fmt.Errorf("%w: the record at offset %d crosses a border", ErrDamaged, p.Offset)
		}
		r, err := x.delta.Read(p)
		if err != nil {
			return err
		}
		if int64(cap(made)) < r.Length {
			made = make([]byte, w.m.window)
		}
		against := base
		if !p.Codec.NeedsBase() {
			against = nil // it may not have been made
		}
		if err := w.decoder.Content(made[:r.Length], &x.header, r, against, target); err != nil {
			return err
		}
		copy(whole[r.Offset-off:], made[:r.Length])
	}
	return nil
}

// piece is the window of an older state: all that a record at the same place needs.
type piece struct {
	p    []byte
	off  int64
	size int64
}

// Size implements delta.Content.
func (c *piece) Size() int64 { return c.size }

// ReadAt implements delta.Content.
func (c *piece) ReadAt(p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), c.size)
	if off < c.off || end > c.off+int64(len(c.p)) {
		return 0, fmt.Errorf("%w: a record needs other places of its base", ErrVersion)
	}
	n := copy(p, c.p[off-c.off:max(off, end)-c.off])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// repeated is the state that is being made: a window as far as it is made, and those
// before it.
type repeated struct {
	w     *worker
	level int
	off   int64
	p     []byte
	depth int
}

// ReadAt implements io.ReaderAt.
func (t *repeated) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		var from []byte
		if at := off + int64(n); at >= t.off {
			from = t.p[min(at-t.off, int64(len(t.p))):]
		} else {
			first := at - at%t.w.m.window
			window, err := t.w.window(t.level, first, t.depth+1)
			if err != nil {
				return n, err
			}
			from = window[at-first:]
		}
		k := copy(p[n:], from)
		if k == 0 {
			return n, io.EOF
		}
		n += k
	}
	return n, nil
}
