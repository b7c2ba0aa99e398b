// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// Memory of a Reader, in bytes.
const (
	blockRoom  = 48 << 20
	windowRoom = 24 << 20
	// decodeRoom bounds the decoders and their buffers, unless one needs more.
	decodeRoom = 96 << 20
	// decoderFixed and decoderTimes are what one decoder needs: so much, and so many times
	// the bound of extents; see codec.Limits and maxDepth.
	decoderFixed = 16 << 20
	decoderTimes = 6 + 2*(maxDepth+1)
	// maxReads is how many windows are made at a time at most.
	maxReads = 8
)

// Reader reads points without restoring them. Whatever their sizes and the lengths of
// their chains, it holds at most 96 MiB of cached content, 4 MiB of keys, 128 MiB of
// decoders, or, where one needs more than that, 16 MiB and 16 times the bound of extents,
// and for each image 16 KiB a delta of its chain. Safe for concurrent use.
type Reader struct {
	r       *Repository
	blocks  *blocks
	windows *cache[windowKey]
}

type windowKey struct {
	point, data string
	off         int64
	size        int
}

// NewReader returns a reader of the repository's points. The caller has a lock.
func (r *Repository) NewReader() *Reader {
	return &Reader{r: r, blocks: newBlocks(r, blockRoom), windows: newCache[windowKey](windowRoom)}
}

// Image is the state of a point, to be read at any place. What is read is verified. Safe
// for concurrent use.
type Image struct {
	reader  *Reader
	levels  []level // a full image, and deltas
	window  int64   // size of windows: the largest bound of extents
	zeroes  []byte  // a window of them
	workers chan *worker
}

// level is one point of a chain.
type level struct {
	point  Point
	header delta.Header
	delta  *delta.Indexed
}

// Image opens the point with that ID. Reads fail when ctx has ended.
func (r *Reader) Image(ctx context.Context, id string) (*Image, error) {
	chain, err := r.r.chain(ctx, id)
	if err != nil {
		return nil, err
	}
	m := &Image{reader: r, levels: make([]level, len(chain))}
	if err := parallel(ctx, manifestReads, len(chain), func(i int) error { return m.open(ctx, i, chain) }); err != nil {
		return nil, err
	}
	for i := range m.levels {
		m.window = max(m.window, int64(m.levels[i].header.Extent))
	}
	m.zeroes = make([]byte, m.window)
	need := decoderFixed + decoderTimes*m.window
	n := max(1, min(maxReads, int64(runtime.GOMAXPROCS(0)*2), decodeRoom/need))
	m.workers = make(chan *worker, n)
	for range n {
		m.workers <- &worker{m: m, decoder: delta.NewDecoder(int(m.window))}
	}
	return m, nil
}

// open opens a level, and verifies that its delta is that of its point and follows the
// one before.
func (m *Image) open(ctx context.Context, i int, chain []Point) error {
	p := chain[i]
	x, err := delta.OpenIndexed(&data{ctx, m.reader.blocks, &p}, p.Delta.Bytes)
	if err != nil {
		return fmt.Errorf("backup %s: %w", p.ID, damaged(err))
	}
	h := x.Header()
	bad := func(what string) error { return fmt.Errorf("%w: backup %s: %s", ErrDamaged, p.ID, what) }
	switch {
	case h.To.Identity != p.Snapshot.Identity || h.To.Size != p.Snapshot.Size || h.ChunkSize != p.ChunkSize || h.Extent != p.Extent || x.Summary() != p.Delta:
		return bad("its delta is not what its manifest says")
	case (h.From == nil) != (i == 0):
		return bad("a chain begins with a full image, and has no other")
	case i > 0 && (h.From.Identity != chain[i-1].Snapshot.Identity || h.From.Size != chain[i-1].Snapshot.Size || h.ChunkSize != chain[0].ChunkSize):
		return bad("its delta does not follow " + chain[i-1].ID)
	}
	m.levels[i] = level{p, h, x}
	return nil
}

// damaged says of an error of a delta in a repository that it is damaged.
func damaged(err error) error {
	for _, e := range []error{delta.ErrCorrupt, delta.ErrCut, delta.ErrBase, codec.ErrCorrupt} {
		if errors.Is(err, e) && !errors.Is(err, ErrDamaged) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if errors.Is(err, delta.ErrVersion) {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return err
}

// Point returns whose state it is.
func (m *Image) Point() Point { return m.top().point }

func (m *Image) top() *level { return &m.levels[len(m.levels)-1] }

// Size implements delta.Content.
func (m *Image) Size() int64 { return m.top().header.To.Size }

// ReadAt implements delta.Content. Any offset and length will do.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(p) && off < m.Size() {
		w, err := m.at(off)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], w[off%m.window:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// at returns the window that has off.
func (m *Image) at(off int64) ([]byte, error) {
	top := len(m.levels) - 1
	off -= off % m.window
	if p := m.reader.windows.has(m.key(top, off)); len(p) > 0 {
		return p, nil
	}
	w := <-m.workers // before anybody waits for what it will make
	defer func() { m.workers <- w }()
	return w.window(top, off, 0)
}

func (m *Image) key(level int, off int64) windowKey {
	p := &m.levels[level].point
	return windowKey{p.ID, p.data, off, int(m.window)}
}
