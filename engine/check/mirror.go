// SPDX-License-Identifier: Apache-2.0

package check

import (
	"maps"
	"slices"

	"zumastor.org/zumastor/engine/layout"
)

// The exception tree and the change tree must hold the same triples of branch,
// chunk and generation, in different orders. Either side adds up a hash of each
// triple, in buckets. Where a bucket's sums agree, so do the triples in it;
// where not, both trees are read again for those of that bucket only. Copies of
// the log are left out of both sides: recovery inserts them into both trees.

const mirrorBuckets = 1024

// mirror is the sums of both sides.
type mirror struct {
	exceptions, changes [mirrorBuckets]bucket
}

type bucket struct{ count, sum uint64 }

func changeOf(e layout.Exception) layout.Change {
	return layout.Change{Branch: e.Branch, Generation: e.Generation, Chunk: e.Chunk}
}

func (m *mirror) exception(e layout.Exception) { m.exceptions[bucketOf(changeOf(e))].add(changeOf(e)) }

func (m *mirror) change(k layout.Change) { m.changes[bucketOf(k)].add(k) }

func (b *bucket) add(k layout.Change) {
	b.count++
	b.sum += mix(hash(k))
}

func bucketOf(k layout.Change) int { return int(hash(k) % mirrorBuckets) }

func hash(k layout.Change) uint64 {
	return mix(mix(mix(uint64(k.Branch)+1)+uint64(k.Generation)) + uint64(k.Chunk))
}

// mix is a permutation of 64 bits in which each bit depends on all.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// checkChanges judges the change tree, and whether it mirrors the exceptions.
func (c *checker) checkChanges() {
	w := walk[layout.Change]{
		img: c.image, codec: layout.ChangeCodec{}, kind: layout.KindChanges, pages: &c.pages, report: c.report,
	}
	w.leaf = func(_ layout.PageHeader, entries []layout.Change) bool {
		for _, k := range entries {
			if !c.inReplay(k) {
				c.mirror.change(k)
			}
		}
		return c.progress(len(entries))
	}
	c.complete[layout.KindChanges] = w.run()
	if !c.complete[layout.KindChanges] || !c.complete[layout.KindExceptions] {
		c.notChecked(c.meta.name, "exceptions and changes", "one of the trees could not be read whole",
			"whether they mirror each other was not checked")
		return
	}
	c.locateDifferences()
}

// maxLocate is how many entries of differing buckets are compared at once, unless
// a single bucket has more.
const maxLocate = 1 << 18

// locateDifferences compares the buckets that differ, as many at once as memory
// allows.
func (c *checker) locateDifferences() {
	in := map[int]bool{}
	size := uint64(0)
	for i := range mirrorBuckets {
		e, k := c.mirror.exceptions[i], c.mirror.changes[i]
		if e == k || c.stopped {
			continue
		}
		if size > 0 && size+e.count > maxLocate {
			c.compareBuckets(in)
			clear(in)
			size = 0
		}
		in[i] = true
		size += e.count
	}
	if len(in) > 0 {
		c.compareBuckets(in)
	}
}

// compareBuckets reports what only one of the trees has of some buckets.
func (c *checker) compareBuckets(in map[int]bool) {
	wanted := func(k layout.Change) bool { return in[bucketOf(k)] && !c.inReplay(k) }
	missing := map[layout.Change]int64{} // page offset of the exception
	(&walk[layout.Exception]{
		img: c.image, codec: layout.ExceptionCodec{}, kind: layout.KindExceptions,
		leaf: func(h layout.PageHeader, entries []layout.Exception) bool {
			for _, e := range entries {
				if k := changeOf(e); wanted(k) {
					missing[k] = pageOffset(h.Page)
				}
			}
			return !c.stopped
		},
	}).run()
	(&walk[layout.Change]{
		img: c.image, codec: layout.ChangeCodec{}, kind: layout.KindChanges,
		leaf: func(h layout.PageHeader, entries []layout.Change) bool {
			for _, k := range entries {
				if _, ok := missing[k]; ok {
					delete(missing, k)
				} else if wanted(k) {
					c.dangling(k, pageOffset(h.Page))
				}
			}
			return !c.stopped
		},
	}).run()
	for _, k := range slices.SortedFunc(maps.Keys(missing), layout.ChangeCodec{}.Compare) {
		c.report(Violation{
			Severity: Damage, Code: MissingChange, Device: c.meta.name, Offset: missing[k],
			Structure: "exception of " + chunkName(k.Branch, k.Chunk, k.Generation),
			Problem:   "the change tree does not have it",
			Meaning:   "it will never be freed, and is missing from lists of changed chunks",
		})
	}
}

// dangling reports a change without an exception.
func (c *checker) dangling(k layout.Change, offset int64) {
	v := Violation{
		Severity: Leak, Code: DanglingChange, Device: c.meta.name, Offset: offset,
		Structure: "change of " + chunkName(k.Branch, k.Chunk, k.Generation),
		Problem:   "the exception tree does not have it",
		Meaning:   "a chunk that was preserved is lost, or a deletion was cut short",
	}
	if c.snaps.awaited(k.Branch, k.Generation) {
		v.Severity, v.Meaning = Note, "a deletion under way will remove it"
	} else if k.Branch == 0 && anyIn(c.snaps.of(0).kept, k.Generation-1, k.Generation) {
		v.Severity = Damage // nothing removes the exception of a snapshot's own generation
	}
	c.report(v)
}
