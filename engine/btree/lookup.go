// SPDX-License-Identifier: Apache-2.0

package btree

import "errors"

// Ceiling returns the first entry that is not below key, and whether there is one.
func (t *Tree[E]) Ceiling(key E) (e E, ok bool, err error) {
	var p path[E]
	if ok, err = t.seek(key, &p); ok {
		e = p[0].n.entries[p[0].i]
	}
	return e, ok, err
}

// Floor returns the last entry that is not above key, and whether there is one.
func (t *Tree[E]) Floor(key E) (e E, ok bool, err error) {
	if t.root.empty() {
		return e, false, nil
	}
	var p path[E]
	if err := t.descend(key, &p); err != nil {
		return e, false, err
	}
	i, found := t.find(p[0].n, key)
	if !found {
		i--
	}
	if i < 0 {
		if ok, err := t.previousLeaf(&p); !ok {
			return e, false, err
		}
		i = len(p[0].n.entries) - 1
	}
	return p[0].n.entries[i], true, nil
}

// Scan appends to dst, in order, the entries that are not below from, at most
// limit of them, and returns dst. It appends fewer than limit only if there are no
// more. On an error, a [*Miss] included, dst has nothing appended. The leaves of
// one scan must be in memory together: a scan of many entries is better done in
// steps of some hundreds, each from the successor of the last one's last entry,
// which also lets mutations in between.
func (t *Tree[E]) Scan(from E, limit int, dst []E) ([]E, error) {
	var p path[E]
	ok, err := t.seek(from, &p)
	start := len(dst)
	for ok {
		rest := p[0].n.entries[p[0].i:]
		rest = rest[:min(len(rest), limit-(len(dst)-start))]
		dst = append(dst, rest...)
		if len(dst)-start >= limit {
			return dst, nil
		}
		ok, err = t.nextLeaf(&p)
	}
	if err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// Ascend calls fn for the entries that are not below from, in order, until fn
// returns false. It reads pages itself: the caller must keep mutations out for as
// long as it runs, so it is for opening and for tests; see [Tree.Scan] for scans
// that go along with mutations.
func (t *Tree[E]) Ascend(from E, fn func(e E) bool) error {
	var p path[E]
	var ok bool
	err := t.reading(func() (err error) {
		ok, err = t.seek(from, &p)
		return err
	})
	for err == nil && ok {
		for _, e := range p[0].n.entries[p[0].i:] {
			if !fn(e) {
				return nil
			}
		}
		err = t.reading(func() (err error) {
			ok, err = t.nextLeaf(&p)
			return err
		})
	}
	return err
}

// reading runs fn until it misses no page, reading those that it misses.
func (t *Tree[E]) reading(fn func() error) error {
	var p pins
	defer p.release()
	for {
		err := fn()
		var m *Miss
		if !errors.As(err, &m) {
			return err
		}
		if err := t.load(m, &p); err != nil {
			return err
		}
	}
}

// seek sets p to the first entry that is not below key. It reports whether there
// is one.
func (t *Tree[E]) seek(key E, p *path[E]) (bool, error) {
	if t.root.empty() {
		return false, nil
	}
	if err := t.descend(key, p); err != nil {
		return false, err
	}
	p[0].i, _ = t.find(p[0].n, key)
	if p[0].i < len(p[0].n.entries) {
		return true, nil
	}
	return t.nextLeaf(p)
}

// nextLeaf moves p to the first entry of the next leaf. It reports whether there
// is one; on an error p is unchanged.
func (t *Tree[E]) nextLeaf(p *path[E]) (bool, error) {
	level := 1
	for level <= int(t.level) && p[level].i == len(p[level].n.kids)-1 {
		level++
	}
	if level > int(t.level) {
		return false, nil
	}
	q := *p
	q[level].i++
	for ; level > 0; level-- {
		n, err := t.node(q[level].n.kids[q[level].i], uint8(level-1))
		if err != nil {
			return false, err
		}
		q[level-1] = step[E]{n: n}
	}
	*p = q
	return true, nil
}

// previousLeaf moves p to the last entry of the leaf before. It reports whether
// there is one; on an error p is unchanged.
func (t *Tree[E]) previousLeaf(p *path[E]) (bool, error) {
	level := 1
	for level <= int(t.level) && p[level].i == 0 {
		level++
	}
	if level > int(t.level) {
		return false, nil
	}
	q := *p
	q[level].i--
	for ; level > 0; level-- {
		n, err := t.node(q[level].n.kids[q[level].i], uint8(level-1))
		if err != nil {
			return false, err
		}
		q[level-1] = step[E]{n: n, i: len(n.entries) - 1}
	}
	*p = q
	return true, nil
}
