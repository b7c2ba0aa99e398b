// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// codec codes the fixed-size items of a sorter.
type codec[E any] interface {
	size() int
	put(p []byte, e E)
	get(p []byte) E
	compare(a, b E) int
}

// sorter sorts more than memory holds: full buffers are sorted into temporary files,
// which are merged in the end.
type sorter[E any] struct {
	dir   string
	most  int
	codec codec[E]
	buf   []E
	files []*os.File
}

func newSorter[E any](dir string, most int, c codec[E]) *sorter[E] {
	return &sorter[E]{dir: dir, most: max(most, 1), codec: c}
}

func (s *sorter[E]) add(e E) error {
	if len(s.buf) >= s.most {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, e)
	return nil
}

// spill writes the buffer into a file, sorted. The file has no name any more.
func (s *sorter[E]) spill() error {
	slices.SortStableFunc(s.buf, s.codec.compare)
	f, err := os.CreateTemp(s.dir, "zumastor-repair-*")
	if err != nil {
		return fmt.Errorf("sorting what was found: %w", err)
	}
	s.files = append(s.files, f)
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("sorting what was found: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	p := make([]byte, s.codec.size())
	for _, e := range s.buf {
		s.codec.put(p, e)
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("sorting what was found: %w", err)
		}
	}
	s.buf = s.buf[:0]
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sorting what was found: %w", err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

func (s *sorter[E]) close() {
	for _, f := range s.files {
		_ = f.Close() // it was removed already
	}
	s.files = nil
}

// run is one sorted sequence of a merge, at its present item.
type run[E any] struct {
	item E
	next func() (E, bool, error)
}

type merge[E any] struct {
	runs    []*run[E]
	compare func(a, b E) int
}

func (m *merge[E]) Len() int           { return len(m.runs) }
func (m *merge[E]) Less(i, j int) bool { return m.compare(m.runs[i].item, m.runs[j].item) < 0 }
func (m *merge[E]) Swap(i, j int)      { m.runs[i], m.runs[j] = m.runs[j], m.runs[i] }
func (m *merge[E]) Push(x any)         { m.runs = append(m.runs, x.(*run[E])) }
func (m *merge[E]) Pop() any {
	last := m.runs[len(m.runs)-1]
	m.runs = m.runs[:len(m.runs)-1]
	return last
}

// sorted returns all items in order, once; no add may follow. An error of a file ends
// it, and is stored in *err.
func (s *sorter[E]) sorted(err *error) iter.Seq[E] {
	return func(yield func(E) bool) {
		slices.SortStableFunc(s.buf, s.codec.compare)
		m := merge[E]{compare: s.codec.compare}
		for _, next := range s.readers() {
			item, ok, rerr := next()
			if rerr != nil {
				*err = rerr
				return
			}
			if ok {
				m.runs = append(m.runs, &run[E]{item, next})
			}
		}
		heap.Init(&m)
		for len(m.runs) > 0 {
			least := m.runs[0]
			if !yield(least.item) {
				return
			}
			item, ok, rerr := least.next()
			switch {
			case rerr != nil:
				*err = rerr
				return
			case ok:
				least.item = item
				heap.Fix(&m, 0)
			default:
				heap.Pop(&m)
			}
		}
	}
}

// readers returns functions that return the next item of each sorted sequence.
func (s *sorter[E]) readers() (list []func() (E, bool, error)) {
	for _, f := range s.files {
		r, p := bufio.NewReaderSize(f, 64<<10), make([]byte, s.codec.size())
		list = append(list, func() (e E, ok bool, err error) {
			if _, err := io.ReadFull(r, p); errors.Is(err, io.EOF) {
				return e, false, nil
			} else if err != nil {
				return e, false, fmt.Errorf("sorting what was found: %w", err)
			}
			return s.codec.get(p), true, nil
		})
	}
	at := 0
	return append(list, func() (e E, ok bool, err error) {
		if at == len(s.buf) {
			return e, false, nil
		}
		at++
		return s.buf[at-1], true, nil
	})
}

// changeCodec codes changes in the order of their tree.
type changeCodec struct{}

const changeSize = 24

func (changeCodec) size() int { return changeSize }

func (changeCodec) put(p []byte, c layout.Change) {
	le := binary.LittleEndian
	le.PutUint64(p, uint64(c.Branch))
	le.PutUint64(p[8:], uint64(c.Generation))
	le.PutUint64(p[16:], uint64(c.Chunk))
}

func (changeCodec) get(p []byte) layout.Change {
	le := binary.LittleEndian
	return layout.Change{
		Branch: block.Branch(le.Uint64(p)), Generation: block.Generation(le.Uint64(p[8:])), Chunk: block.Chunk(le.Uint64(p[16:])),
	}
}

func (changeCodec) compare(a, b layout.Change) int { return layout.ChangeCodec{}.Compare(a, b) }
