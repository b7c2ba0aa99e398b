// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/layout"
)

// spoilPages damages n places of the metadata area and the log, found by rng:
// flips, zeroes, pages in wrong places, and pages damaged and sealed again, so
// that what is behind the checksums is reached.
func (r *rig) spoilPages(rng *rand.Rand, n int) {
	sb := r.superblock()
	pages := append(r.treePages(), 0, 1, int64(sb.Control.First), int64(sb.Journal.First))
	for _, b := range r.batches() {
		if rng.IntN(8) == 0 {
			b.spoil(r.t)
		}
	}
	for range n {
		p := pages[rng.IntN(len(pages))]
		page := r.page(p)
		switch rng.IntN(5) {
		case 0:
			page = make([]byte, block.PageSize)
		case 1:
			page = r.page(pages[rng.IntN(len(pages))])
		case 2:
			page[rng.IntN(len(page))] ^= 1 << rng.IntN(8)
		default:
			h, err := layout.DecodePageHeader(page)
			if err != nil {
				continue
			}
			page[layout.PageHeaderSize+rng.IntN(h.Length)] ^= 1 << rng.IntN(8)
			layout.EncodePageHeader(page, h)
		}
		r.setPage(p, page)
	}
}

// treePages returns the pages of the tree area that were ever written.
func (r *rig) treePages() []int64 {
	sb := r.superblock()
	var pages []int64
	for p := sb.TreePages.First; p < sb.TreePages.End(); p++ {
		if _, err := layout.DecodePageHeader(r.page(int64(p))); err == nil {
			pages = append(pages, int64(p))
		}
	}
	return pages
}

// Nothing that is on the devices makes a check panic or run on for ever.
func FuzzCheck(f *testing.F) {
	all := shapes()
	whole := make([]*rig, len(all))
	for i, s := range all {
		whole[i] = unclean(f, s)
		f.Add(uint64(i), uint8(i), uint8(1))
		f.Add(uint64(i)+100, uint8(i), uint8(6))
	}
	f.Fuzz(func(t *testing.T, seed uint64, shape, n uint8) {
		r := whole[int(shape)%len(whole)].copied()
		r.t = t
		r.spoilPages(rand.New(rand.NewPCG(seed, 0)), 1+int(n%16))
		for v := range check.Check(r.checked(), check.Options{Data: true}) {
			require.NotEmpty(t, v.Code)
			require.NotEmpty(t, v.Problem)
			require.NotEmpty(t, v.Meaning)
			require.NotEmpty(t, v.Structure)
		}
		for _, o := range []check.DumpOptions{{Log: true, End: 100}, {Log: true, End: 100, JSON: true}} {
			_ = check.Dump(r.checked(), io.Discard, o)
		}
		_, _ = check.ReadStats(r.checked())
	})
}

// A caller that has heard enough gets no more.
func TestCheckStopsWhenTold(t *testing.T) {
	r := closed(t, shape{layout.PlacementInline, false})
	r.editExceptions(0, func(p *exceptionPage) {
		for i := range p.Entries {
			p.Entries[i].Sum++
		}
	})
	n := 0
	for range check.Check(r.checked(), check.Options{Data: true}) {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)
}

func TestProgressReachesItsEnd(t *testing.T) {
	r := closed(t, shape{layout.PlacementInline, false})
	var done, total uint64
	for range check.Check(r.checked(), check.Options{Data: true, OnProgress: func(d, n uint64) {
		require.GreaterOrEqual(t, d, done)
		done, total = d, n
	}}) {
	}
	require.NotZero(t, total)
	require.Equal(t, total, done)
}
