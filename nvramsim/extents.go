// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"slices"
	"sort"
)

// extent is the bytes [off, end).
type extent struct{ off, end int64 }

// extents is a set of bytes as a sorted list of extents that do not touch.
type extents struct {
	list  []extent
	bytes int64
}

// from returns the index of the first extent that ends after off.
func (x *extents) from(off int64) int {
	return sort.Search(len(x.list), func(i int) bool { return x.list[i].end > off })
}

// add inserts e, which joins with what it overlaps or touches.
func (x *extents) add(e extent) {
	first := sort.Search(len(x.list), func(i int) bool { return x.list[i].end >= e.off })
	last := first
	for ; last < len(x.list) && x.list[last].off <= e.end; last++ {
		o := x.list[last]
		x.bytes -= o.end - o.off
		e = extent{min(e.off, o.off), max(e.end, o.end)}
	}
	x.bytes += e.end - e.off
	x.list = slices.Replace(x.list, first, last, e)
}

// trim removes the first n bytes of the i-th extent.
func (x *extents) trim(i int, n int64) {
	x.bytes -= n
	if x.list[i].off += n; x.list[i].off >= x.list[i].end {
		x.list = slices.Delete(x.list, i, i+1)
	}
}

// covers reports whether all of e is in the set.
func (x *extents) covers(e extent) bool {
	i := x.from(e.off)
	return i < len(x.list) && x.list[i].off <= e.off && e.end <= x.list[i].end
}

// added returns by how much add(e) would grow the set.
func (x *extents) added(e extent) int64 {
	n := e.end - e.off
	for i := x.from(e.off); i < len(x.list) && x.list[i].off < e.end; i++ {
		n -= min(e.end, x.list[i].end) - max(e.off, x.list[i].off)
	}
	return n
}
