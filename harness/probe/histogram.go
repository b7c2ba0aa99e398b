// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"math"
	"math/bits"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Slots is the number of slots of a [Histogram]. kernel/bpf/histogram.h has the
// same number and the same arithmetic.
const Slots = 608

// Beyond is the first value that only the last slot holds.
const Beyond = 1 << 41

// Histogram counts values in log-linear slots: exactly up to 31, then in 16 slots
// an octave. Count and Sum are exact; a quantile is at most 1/16 too high. The
// zero value is empty.
type Histogram struct {
	Count, Sum, Max uint64
	Slots           [Slots]uint64
}

// SlotOf returns the slot that v is counted in.
func SlotOf(v uint64) int {
	switch {
	case v < 32:
		return int(v)
	case v >= Beyond:
		return Slots - 1
	}
	e := bits.Len64(v) - 1
	return 16*(e-4) + int(v>>(e-4))
}

// Highest returns the highest value that slot i holds; of the last one, that below
// [Beyond].
func Highest(i int) uint64 {
	if i < 32 {
		return uint64(i)
	}
	e := i/16 + 3
	return uint64(i%16+17)<<(e-4) - 1
}

// Add counts v.
func (h *Histogram) Add(v uint64) {
	h.Count++
	h.Sum += v
	h.Max = max(h.Max, v)
	h.Slots[SlotOf(v)]++
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	h.Max = max(h.Max, o.Max)
	for i, n := range o.Slots {
		h.Slots[i] += n
	}
}

// Since returns what was counted after before, an earlier state of h. Its Max is
// bounded by the highest slot that has something: the exact one is not known.
func (h *Histogram) Since(before *Histogram) Histogram {
	d := Histogram{Count: h.Count - before.Count, Sum: h.Sum - before.Sum}
	for i := range h.Slots {
		// Totals and slots are read while they are added to: never less than none.
		if d.Slots[i] = h.Slots[i] - before.Slots[i]; d.Slots[i] > 0 {
			d.Max = min(h.Max, Highest(i))
			if i == Slots-1 {
				d.Max = h.Max
			}
		}
	}
	return d
}

// Mean returns the mean, 0 of nothing.
func (h *Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return float64(h.Sum) / float64(h.Count)
}

// Quantile returns a value that the share q of all are not above, at most 1/16 too
// high and never above Max; 0 of nothing.
func (h *Histogram) Quantile(q float64) uint64 {
	var total, seen uint64
	for _, n := range h.Slots {
		total += n
	}
	want := max(1, uint64(math.Ceil(q*float64(total))))
	for i, n := range h.Slots {
		if seen += n; n > 0 && seen >= want {
			if i == Slots-1 {
				return h.Max
			}
			return min(Highest(i), h.Max)
		}
	}
	return 0
}

// Octave is how many values there were from Low to High, both included.
type Octave struct{ Low, High, Count uint64 }

// Octaves returns the counts by powers of two, from the first with something to
// the last.
func (h *Histogram) Octaves() []Octave {
	var all []Octave
	last := 0
	for i, n := range h.Slots {
		o := bits.Len64(Highest(i))
		if len(all) == 0 || all[len(all)-1].High != 1<<o-1 {
			all = append(all, Octave{Low: 1 << o >> 1, High: 1<<o - 1})
		}
		if all[len(all)-1].Count += n; n > 0 {
			last = len(all)
		}
	}
	all = all[:last]
	for len(all) > 0 && all[0].Count == 0 {
		all = all[1:]
	}
	return all
}

// Into adds the values to an HdrHistogram, each as the highest of its slot. What is
// out of its range is left out.
func (h *Histogram) Into(to *hdrhistogram.Histogram) {
	for i, n := range h.Slots {
		if n > 0 {
			_ = to.RecordValues(int64(min(Highest(i), h.Max)), int64(n))
		}
	}
}
