// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// TreeStats measures a tree of the last checkpoint.
type TreeStats struct {
	Name    string `json:"name"`
	Entries uint64 `json:"entries"`
	Levels  int    `json:"levels"`
	Leaves  uint64 `json:"leaves"` // pages
	Inner   uint64 `json:"inner"`  // pages above the leaves
	Used    uint64 `json:"used"`   // bytes of the pages that are coded entries and headers
}

// Pages returns the number of the tree's pages.
func (t TreeStats) Pages() uint64 { return t.Leaves + t.Inner }

// Bytes returns what the tree's pages take on the device.
func (t TreeStats) Bytes() uint64 { return t.Pages() * block.PageSize }

// Fill returns the part of the tree's pages that is used, 0 to 1.
func (t TreeStats) Fill() float64 { return ratio(t.Used, t.Bytes()) }

// Stats measures the metadata of a store's last checkpoint.
type Stats struct {
	Trees [layout.Kinds]TreeStats `json:"trees"` // by kind - 1
}

// Exceptions returns the number of exceptions.
func (s *Stats) Exceptions() uint64 { return s.Trees[layout.KindExceptions-1].Entries }

// TreeBytes returns what the pages of all trees take on the device, in bytes.
func (s *Stats) TreeBytes() uint64 {
	n := uint64(0)
	for _, t := range s.Trees {
		n += t.Bytes()
	}
	return n
}

// BytesPerException returns the bytes of metadata on the device an exception: the
// pages of all trees, part-filled ones whole. It is zero without exceptions.
func (s *Stats) BytesPerException() float64 { return ratio(s.TreeBytes(), s.Exceptions()) }

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// ReadStats measures a store. It reads every page of the trees, and returns an
// error that names the first damage, if there is any.
func ReadStats(d Devices) (*Stats, error) {
	var first error
	report := func(v Violation) {
		if v.Severity == Damage && first == nil {
			first = errors.New(v.String())
		}
	}
	img := openImage(d, nil, report)
	switch {
	case img == nil && first == nil:
		return nil, errors.New("no store device was named")
	case img == nil:
		return nil, first
	}
	return img.stats(report), first
}

func (img *image) stats(report report) *Stats {
	return &Stats{Trees: [...]TreeStats{
		measure(img, layout.ExceptionCodec{}, layout.KindExceptions, report),
		measure(img, layout.ChangeCodec{}, layout.KindChanges, report),
		measure(img, layout.SlotWordCodec{}, layout.KindSlots, report),
		measure(img, layout.SnapshotCodec{}, layout.KindSnapshots, report),
		measure(img, layout.LeaseCodec{}, layout.KindLeases, report),
		measure(img, layout.DigestCodec{}, layout.KindDigests, report),
	}}
}

func measure[E any](img *image, codec layout.EntryCodec[E], kind uint8, report report) TreeStats {
	t := TreeStats{Name: treeNames[kind]}
	if root := img.sb.Roots[kind-1]; root.Page != 0 {
		t.Levels = int(root.Level) + 1
	}
	w := walk[E]{img: img, codec: codec, kind: kind, pages: new(bitset), report: report}
	w.inner = func(h layout.PageHeader) {
		t.Inner++
		t.Used += uint64(layout.PageHeaderSize + h.Length)
	}
	w.leaf = func(h layout.PageHeader, entries []E) bool {
		t.Leaves++
		t.Used += uint64(layout.PageHeaderSize + h.Length)
		t.Entries += uint64(len(entries))
		return true
	}
	w.run()
	return t
}
