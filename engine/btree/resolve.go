// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"errors"
	"fmt"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Miss is the error of an operation that needs a page which is not in memory.
// The operation has changed nothing. Load the page, without the lock that
// serialises the tree, and run the operation again; [Resolve] does both.
type Miss struct {
	Page block.Page

	level uint8
	epoch uint64 // of the cache, when the page was a page of the tree for sure
	tree  loader
}

// Error says that the page must be loaded.
func (m *Miss) Error() string {
	return fmt.Sprintf("tree page %d is not in memory: load it and try again", m.Page)
}

// loader is a tree of any type of entry.
type loader interface {
	load(m *Miss, p *pins) error
}

// Load reads the page that m names into the cache. It blocks for the read and
// must be called without the lock that serialises the tree. A nil error does not
// promise that the page is in memory when the operation runs again: it may have
// been evicted, or m may be too old. Only [Resolve] guarantees progress however
// small the cache.
func (t *Tree[E]) Load(m *Miss) error { return t.load(m, nil) }

func (t *Tree[E]) load(m *Miss, p *pins) error {
	n, err := t.read(m.Page, m.level)
	if err != nil {
		if t.cache.now() != m.epoch {
			return nil // the page may have been given to another use before it was read
		}
		return err
	}
	t.cache.loaded(m.Page, n, n.memory(), m.epoch, p)
	return nil
}

// read reads and verifies a page. It touches nothing of the tree that changes.
func (t *Tree[E]) read(page block.Page, level uint8) (*node[E], error) {
	buf := t.cache.buffers.Get().(*[]byte)
	defer t.cache.buffers.Put(buf)
	if err := t.pager.ReadPage(page, *buf); err != nil {
		return nil, fmt.Errorf("reading page %d of tree kind %d: %w", page, t.kind, err)
	}
	n, err := t.decodeNode(*buf, layout.PageHeader{Kind: t.kind, Level: level, Page: page, Identity: t.identity})
	if err != nil {
		return nil, fmt.Errorf("decoding page %d of tree kind %d: %w", page, t.kind, err)
	}
	return n, nil
}

// Resolve runs fn with lock held. When fn returns an error that is a [*Miss], of
// whichever tree, Resolve unlocks, reads the page, and starts again; pages read
// stay in memory until Resolve returns. It returns fn's first other error, a
// read's error, or nil.
//
// Fn may run many times, and other holders of the lock may run in between: it
// must read what it decides on anew each time, and what it had changed before the
// miss must bear repetition, as inserts and deletes do.
func Resolve(lock sync.Locker, fn func() error) error {
	err := locked(lock, fn)
	if err == nil {
		return nil
	}
	return resolveMiss(lock, fn, err)
}

// resolveMiss is Resolve after a first run that failed with err. It is apart so
// that runs without a miss allocate nothing.
func resolveMiss(lock sync.Locker, fn func() error, err error) error {
	var p pins
	defer p.release()
	for {
		var m *Miss
		if !errors.As(err, &m) {
			return err
		}
		if err := m.tree.load(m, &p); err != nil {
			return err
		}
		if err = locked(lock, fn); err == nil {
			return nil
		}
	}
}

func locked(lock sync.Locker, fn func() error) error {
	lock.Lock()
	defer lock.Unlock()
	return fn()
}

// pins are the slots that one Resolve keeps in memory.
type pins struct {
	slots []pinned
}

type pinned struct {
	cache *Cache
	slot  *slot
}

func (p *pins) release() {
	for _, s := range p.slots {
		s.cache.mu.Lock()
		s.slot.pins--
		s.cache.evict(nil)
		s.cache.mu.Unlock()
	}
}
