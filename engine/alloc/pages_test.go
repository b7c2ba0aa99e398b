// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

func alloc(t testing.TB, p *Pages) block.Page {
	t.Helper()
	page, err := p.Alloc()
	require.NoError(t, err)
	return page
}

func TestClaim(t *testing.T) {
	p := NewPages(layout.Extent{First: 100, Len: 70})
	for _, page := range []block.Page{100, 169, 163, 164} {
		require.NoError(t, p.Claim(page))
		require.ErrorIs(t, p.Claim(page), layout.ErrCorrupt, "twice")
	}
	for _, page := range []block.Page{0, 99, 170, 1 << 63} {
		require.ErrorIs(t, p.Claim(page), layout.ErrCorrupt, "outside")
	}
	require.Equal(t, uint64(4), p.Used())
	require.Equal(t, uint64(66), p.Free())
	require.Equal(t, block.Page(101), alloc(t, p))
}

// Alloc gives out each page once, in ascending order around what is in use, also
// where the area ends within a word, and then no more.
func TestAllocUntilFull(t *testing.T) {
	for _, n := range []uint64{0, 1, 63, 64, 65, 127, 128, 200} {
		p := NewPages(layout.Extent{First: 7, Len: n})
		var want []block.Page
		for i := range n {
			if page := block.Page(7 + i); i%3 == 1 {
				require.NoError(t, p.Claim(page))
			} else {
				want = append(want, page)
			}
		}
		var got []block.Page
		for range want {
			got = append(got, alloc(t, p))
		}
		require.Equal(t, want, got)
		require.Zero(t, p.Free())
		_, err := p.Alloc()
		require.ErrorIs(t, err, ErrNoSpace)
		p.Rewind()
		_, err = p.Alloc()
		require.ErrorIs(t, err, ErrNoSpace)
	}
}

// The search goes on after the last page given out; at the end of the area, or
// after Rewind, it starts over.
func TestAllocOrder(t *testing.T) {
	p := NewPages(layout.Extent{First: 10, Len: 66})
	for i := range block.Page(60) {
		require.Equal(t, 10+i, alloc(t, p))
	}
	for _, page := range []block.Page{12, 40, 41} {
		p.Defer(page)
	}
	p.Thaw(3)
	require.Equal(t, block.Page(70), alloc(t, p), "no older page while there are newer")
	p.Rewind()
	require.Equal(t, block.Page(12), alloc(t, p))
	require.Equal(t, block.Page(40), alloc(t, p))
	p.Defer(12)
	p.Thaw(1)
	require.Equal(t, block.Page(41), alloc(t, p))
	for _, want := range []block.Page{71, 72, 73, 74, 75, 12} {
		require.Equal(t, want, alloc(t, p))
	}
	_, err := p.Alloc()
	require.ErrorIs(t, err, ErrNoSpace)
}

// A deferred page stays in use until the Thaw of its checkpoint, not of one that
// was taken before.
func TestDeferAndThaw(t *testing.T) {
	p := NewPages(layout.Extent{Len: 4})
	for range 4 {
		alloc(t, p)
	}
	p.Defer(2)
	p.Defer(0)
	first := p.Deferred()
	p.Defer(3)
	require.Equal(t, 3, p.Deferred())
	_, err := p.Alloc()
	require.ErrorIs(t, err, ErrNoSpace)
	p.Thaw(first)
	require.Equal(t, 1, p.Deferred())
	require.Equal(t, uint64(2), p.Used())
	require.Equal(t, block.Page(0), alloc(t, p))
	require.Equal(t, block.Page(2), alloc(t, p))
	_, err = p.Alloc()
	require.ErrorIs(t, err, ErrNoSpace)
	p.Thaw(p.Deferred())
	require.Zero(t, p.Deferred())
	require.Equal(t, block.Page(3), alloc(t, p))
}

// Memory is a bit a page up to the highest one in use, not of the area.
func TestMemoryGrowsWithTheHighestPage(t *testing.T) {
	p := NewPages(layout.Extent{First: 2, Len: 1 << 38})
	require.Empty(t, p.extents[0].words)
	for range 1000 {
		alloc(t, p)
	}
	require.Len(t, p.extents[0].words, 1000/64+1)
	require.NoError(t, p.Claim(2+100_000))
	require.Len(t, p.extents[0].words, 100_000/64+1)
	require.LessOrEqual(t, cap(p.extents[0].words), 2*len(p.extents[0].words))
	require.Equal(t, uint64(1<<38-1001), p.Free())
}

// Several extents are one area: the lowest first, each to its end.
func TestAllocGoesThroughTheExtents(t *testing.T) {
	p := NewPages(layout.Extent{First: 10, Len: 3}, layout.Extent{First: 100, Len: 65}, layout.Extent{First: 200, Len: 1})
	require.Equal(t, uint64(69), p.Total())
	require.NoError(t, p.Claim(11))
	require.ErrorIs(t, p.Claim(13), layout.ErrCorrupt, "between extents")
	require.ErrorIs(t, p.Claim(165), layout.ErrCorrupt, "between extents")
	var got []block.Page
	for p.Free() > 0 {
		got = append(got, alloc(t, p))
	}
	require.Equal(t, []block.Page{10, 12, 100, 101}, got[:4])
	require.Equal(t, []block.Page{163, 164, 200}, got[65:])
	_, err := p.Alloc()
	require.ErrorIs(t, err, ErrNoSpace)
	p.Defer(12)
	p.Defer(164)
	p.Thaw(2)
	require.Equal(t, block.Page(12), alloc(t, p), "it starts over")
	require.Equal(t, block.Page(164), alloc(t, p))
}

// Beyond a limit nothing is given out, and what is in use is counted until it is
// freed.
func TestLimit(t *testing.T) {
	p := NewPages(layout.Extent{First: 10, Len: 3}, layout.Extent{First: 100, Len: 70})
	for _, page := range []block.Page{10, 101, 102, 165} {
		require.NoError(t, p.Claim(page))
	}
	p.SetLimit(102)
	require.Equal(t, uint64(2), p.Beyond())
	require.Equal(t, uint64(3), p.Free())
	for _, want := range []block.Page{11, 12, 100} {
		require.Equal(t, want, alloc(t, p))
	}
	_, err := p.Alloc()
	require.ErrorIs(t, err, ErrNoSpace)
	require.Error(t, p.SetExtents([]layout.Extent{{First: 10, Len: 3}, {First: 100, Len: 2}}), "pages beyond are in use")
	p.Defer(165)
	p.Defer(102)
	p.Defer(10)
	p.Thaw(3)
	require.Zero(t, p.Beyond())
	require.NoError(t, p.SetExtents([]layout.Extent{{First: 10, Len: 3}, {First: 100, Len: 2}}))
	require.Equal(t, uint64(5), p.Total())
	require.Equal(t, uint64(1), p.Free())
	require.Equal(t, block.Page(10), alloc(t, p))
	p.SetLimit(0)
	require.Zero(t, p.Free())
	require.NoError(t, p.SetExtents([]layout.Extent{{First: 10, Len: 3}, {First: 100, Len: 3}, {First: 300, Len: 1}}))
	require.Equal(t, block.Page(102), alloc(t, p))
	require.Equal(t, block.Page(300), alloc(t, p))
	p.SetLimit(100)
	require.Equal(t, uint64(4), p.Beyond())
}

// Random operations beside a map of the pages in use, over two extents that meet
// where the model has one.
func TestPagesAgainstAModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		area := layout.Extent{First: block.Page(rng.IntN(5)), Len: 1 + rng.Uint64N(300)}
		cut := rng.Uint64N(area.Len) + 1
		p := NewPages(layout.Extent{First: area.First, Len: cut}, layout.Extent{First: area.First + block.Page(cut), Len: area.Len - cut})
		used := map[block.Page]bool{}
		var deferred []block.Page
		var live []block.Page
		for range 2000 {
			switch op := rng.IntN(10); {
			case op < 5:
				page, err := p.Alloc()
				if uint64(len(used)) == area.Len {
					require.ErrorIs(t, err, ErrNoSpace)
					break
				}
				require.NoError(t, err)
				require.False(t, used[page])
				require.True(t, page >= area.First && page < area.End())
				used[page], live = true, append(live, page)
			case op < 8 && len(live) > 0:
				i := rng.IntN(len(live))
				p.Defer(live[i])
				deferred = append(deferred, live[i])
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			case op == 8 && rng.IntN(8) == 0:
				n := rng.IntN(len(deferred) + 1)
				p.Thaw(n)
				for _, page := range deferred[:n] {
					delete(used, page)
				}
				deferred = deferred[n:]
			case op == 9:
				p.Rewind()
			}
			require.Equal(t, uint64(len(used)), p.Used())
			require.Equal(t, area.Len-uint64(len(used)), p.Free())
			require.Equal(t, len(deferred), p.Deferred())
		}
	}
}

// A page that was in use at Pin is not given out before Unpin, however often it is
// freed; one that came into use later is.
func TestPin(t *testing.T) {
	p := NewPages(layout.Extent{First: 10, Len: 70})
	old := alloc(t, p)
	p.Pin()
	young := alloc(t, p)
	p.Defer(old)
	p.Defer(young)
	p.Thaw(2)
	require.EqualValues(t, 1, p.Held())
	require.EqualValues(t, 1, p.Used())
	p.Rewind()
	require.Equal(t, young, alloc(t, p))
	for range 68 {
		require.NotEqual(t, old, alloc(t, p))
	}
	_, err := p.Alloc()
	require.ErrorIs(t, err, ErrNoSpace)
	p.Unpin()
	require.Zero(t, p.Held())
	require.Equal(t, old, alloc(t, p))
}
