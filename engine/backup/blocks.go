// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"zumastor.org/zumastor/engine/backup/seal"
)

// blockSize is how much of an object's content is read at a time.
const blockSize = 8 * seal.SegmentSize

// blocks reads objects in blocks, which are cached. Safe for concurrent use.
type blocks struct {
	r       *Repository
	cache   *cache[blockKey]
	mu      sync.Mutex
	openers map[string]*seal.Opener
}

type blockKey struct {
	object string
	block  int64
}

// maxOpeners bounds how many objects' keys are remembered: 4 MiB in all.
const maxOpeners = 4096

func newBlocks(r *Repository, room int64) *blocks {
	return &blocks{r: r, cache: newCache[blockKey](room), openers: make(map[string]*seal.Opener)}
}

// read returns a block of the object of that name, which has size bytes of content.
func (b *blocks) read(ctx context.Context, name string, size, block int64) ([]byte, error) {
	return b.cache.get(blockKey{name, block}, func() ([]byte, error) {
		off := block * blockSize
		from, to, first := seal.Range(off, min(blockSize, size-off), size)
		b.mu.Lock()
		o := b.openers[name]
		b.mu.Unlock()
		if o == nil && block == 0 {
			from = 0 // the header is read along
		} else if o == nil {
			header, err := b.fetch(ctx, name, 0, seal.HeaderSize)
			if err != nil {
				return nil, err
			}
			if o, err = b.opener(name, header); err != nil {
				return nil, err
			}
		}
		sealed, err := b.fetch(ctx, name, from, to)
		if err != nil {
			return nil, err
		}
		if o == nil {
			if o, err = b.opener(name, sealed); err != nil {
				return nil, err
			}
			sealed = sealed[seal.HeaderSize:]
		} else if from == 0 {
			sealed = sealed[seal.HeaderSize:]
		}
		return opened(o.Open(make([]byte, 0, min(blockSize, size-off)), sealed, first, size))
	})
}

func (b *blocks) opener(name string, header []byte) (*seal.Opener, error) {
	o, err := opened(b.r.seals.Opener(name, header))
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.openers) >= maxOpeners {
		clear(b.openers)
	}
	b.openers[name] = o
	return o, nil
}

// fetch reads bytes [from, to) of an object.
func (b *blocks) fetch(ctx context.Context, name string, from, to int64) ([]byte, error) {
	p := make([]byte, to-from)
	n, err := b.r.storage.ReadAt(ctx, name, p, from)
	switch {
	case n == len(p):
		return p, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case err == nil || errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: %s ends at byte %d", ErrDamaged, name, from+int64(n))
	}
	return nil, fmt.Errorf("reading %s: %w", name, err)
}

// data is the delta of a point, to be read at any place.
type data struct {
	ctx    context.Context
	blocks *blocks
	point  *Point
}

// ReadAt implements io.ReaderAt.
func (d *data) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) && off < d.point.Delta.Bytes {
		number := off / d.point.partSize
		name, size := d.point.part(number)
		at := off - number*d.point.partSize
		block, err := d.blocks.read(d.ctx, name, size, at/blockSize)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], block[at%blockSize:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
