// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestExtentsAgainstBits drives extents beside a plain set.
func TestExtentsAgainstBits(t *testing.T) {
	const size = 64
	rapid.Check(t, func(rt *rapid.T) {
		var x extents
		var set [size]bool
		count := func(lo, hi int64, is bool) (n int64) {
			for _, b := range set[lo:hi] {
				if b == is {
					n++
				}
			}
			return n
		}
		for range rapid.IntRange(1, 30).Draw(rt, "ops") {
			off := rapid.Int64Range(0, size-1).Draw(rt, "off")
			e := extent{off, rapid.Int64Range(off+1, size).Draw(rt, "end")}
			require.Equal(rt, count(e.off, e.end, false), x.added(e))
			require.Equal(rt, count(e.off, e.end, false) == 0, x.covers(e))
			if i := x.from(off); i < len(x.list) && rapid.Bool().Draw(rt, "trim") {
				o := x.list[i]
				n := rapid.Int64Range(1, o.end-o.off).Draw(rt, "n")
				x.trim(i, n)
				clear(set[o.off : o.off+n])
			} else {
				x.add(e)
				for i := e.off; i < e.end; i++ {
					set[i] = true
				}
			}
			require.Equal(rt, count(0, size, true), x.bytes)
			for i, o := range x.list {
				require.Equal(rt, o.end-o.off, count(o.off, o.end, true))
				require.True(rt, i == 0 || x.list[i-1].end < o.off, "sorted and apart")
			}
		}
	})
}

// TestGeometry checks that each sector has one place, in order, that sequential
// transfer needs no rotation, and the seek curve's ends.
func TestGeometry(t *testing.T) {
	p := TypicalHDD()
	g := newGeometry(p)
	require.EqualValues(t, p.TrackToTrack, g.seek(0, g.heads))
	last := g.at(p.Size - 512).track
	require.InEpsilon(t, float64(p.FullStroke), float64(g.seek(0, last)), 0.01)
	require.Equal(t, g.seek(0, last), g.seek(last, 0))
	rapid.Check(t, func(rt *rapid.T) {
		off := rapid.Int64Range(0, p.Size/512-2).Draw(rt, "sector") * 512
		a, b := g.at(off), g.at(off+512)
		if a.track == b.track {
			require.Equal(rt, a.sector+1, b.sector)
		} else {
			require.Equal(rt, place{a.track + 1, 0, b.spt}, b)
			require.Equal(rt, a.spt-1, a.sector)
		}
		n := rapid.Int64Range(1, 10000).Draw(rt, "n") * 512
		n = min(n, p.Size-off-512)
		ns, _ := g.pass(off, n)
		next := g.at(off + n)
		crossing := int64(0)
		if next.sector == 0 && n > 0 {
			crossing = g.skew
		}
		require.Equal(rt, g.angle(next), (g.angle(a)+ns+crossing)%g.rev)
		require.Equal(rt, n, g.within(off, n, ns))
		require.Less(rt, g.within(off, n, ns-1), n)
	})
}
