// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/stats"
)

// tick is a mark on an axis at a place from 0 to 1; without label a minor one.
type tick struct {
	at    float64
	label string
}

// scale maps settings or values to places on an axis from 0 to 1.
type scale struct {
	places map[string]float64 // of settings, for x axes
	ticks  []tick
	unit   string

	// For y axes: the range, in logarithms if log, and the unit's factor.
	lo, hi float64
	factor float64
	log    bool
}

// margin is the part of an axis that stays free at each end of the x axis.
const margin = 0.05

// newXScale places the settings xs.
func newXScale(a Axis, xs []string) scale {
	raw := positions(a.Scale, xs)
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range raw {
		lo, hi = min(lo, v), max(hi, v)
	}
	if a.Scale == Category {
		lo, hi = lo-0.5, hi+0.5
	} else if pad := margin * (hi - lo); pad > 0 {
		lo, hi = lo-pad, hi+pad
	} else {
		pad := 1 + math.Abs(lo)/10
		lo, hi = lo-pad, hi+pad
	}
	s := scale{places: map[string]float64{}, lo: lo, hi: hi}
	last := math.Inf(-1)
	for _, x := range xs {
		v, ok := raw[x]
		if !ok {
			continue
		}
		at := (v - lo) / (hi - lo)
		s.places[x] = at
		label := settingLabel(a, x)
		// A label takes room in proportion to its length.
		room := 0.013 * float64(len([]rune(label))+2)
		if a.Names != nil {
			room *= 2 // small figures
		}
		if a.Scale != Category && at-last < room {
			label = ""
		} else if label != "" {
			last = at
		}
		s.ticks = append(s.ticks, tick{at, label})
	}
	return s
}

func settingLabel(a Axis, x string) string {
	if a.Names != nil {
		return a.Names[x]
	}
	if a.Unit == "B" {
		return quantity.Bytes(x)
	}
	if v, err := strconv.ParseFloat(x, 64); err == nil {
		return quantity.Number(v)
	}
	return x
}

// positions returns the settings' places on an axis without ends. Settings that
// are no finite numbers have none on a linear or logarithmic axis.
func positions(s Scale, xs []string) map[string]float64 {
	out := map[string]float64{}
	smallest, hasZero := math.Inf(1), false
	for i, x := range xs {
		v, err := strconv.ParseFloat(x, 64)
		switch {
		case s == Category:
			out[x] = float64(i)
		case err != nil || !drawable(v):
		case s == Linear:
			out[x] = v
		case v > 0:
			out[x] = math.Log2(v)
			smallest = min(smallest, out[x])
		case v == 0:
			hasZero = true
		}
	}
	if hasZero {
		if math.IsInf(smallest, 1) {
			smallest = 1
		}
		out["0"] = smallest - 1
	}
	return out
}

// place returns where the setting x stands, NaN if nowhere.
func (s scale) place(x string) float64 {
	if at, ok := s.places[x]; ok {
		return at
	}
	return math.NaN()
}

// step is the distance between neighbours on a category axis.
func (s scale) step() float64 { return 1 / (s.hi - s.lo) }

// newYScale makes an axis that holds all values and the references, and chooses
// its ticks.
func newYScale(a Axis, refs []Reference, values []float64) scale {
	for _, r := range refs {
		values = append(values, r.Value)
	}
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool {
		return !drawable(v) || a.Scale == Log && v <= 0
	})
	lo, hi := 1.0, 1.0
	if len(values) > 0 {
		lo, hi = slices.Min(values), slices.Max(values)
	}
	prefix := quantity.PrefixFor(max(math.Abs(lo), math.Abs(hi)), a.Unit)
	s := scale{factor: prefix.Factor, unit: prefix.Unit, log: a.Scale == Log}
	if s.log {
		s.setLog(lo, hi, a.Unit)
	} else if a.Scale == Fitted {
		// Room above for the words of events; a value that never changes is in the middle.
		pad := max(0.15*(hi-lo), 0.02*math.Abs(hi))
		floor := lo - pad
		if lo >= 0 {
			floor = max(0, floor)
		}
		s.setLinear(floor*s.factor, (hi+pad)*s.factor)
	} else {
		s.setLinear(min(lo, 0)*s.factor, max(hi, 0)*s.factor)
	}
	return s
}

// setLinear fits the range to whole steps of 1, 2, 2.5 or 5 times a power of ten.
func (s *scale) setLinear(lo, hi float64) {
	if !(hi > lo) {
		hi = lo + 1
	}
	raw := (hi - lo) / 5
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	if power == 0 {
		s.lo, s.hi = 0, 1 // too small to be divided
		return
	}
	step := 10 * power
	for _, m := range []float64{1, 2, 2.5, 5} {
		if raw <= m*power {
			step = m * power
			break
		}
	}
	s.lo = step * math.Floor(lo/step)
	s.hi = hi + 0.04*(hi-lo)
	digits := -int(math.Floor(math.Log10(step)))
	if step == 2.5*power {
		digits++
	}
	digits = max(0, digits)
	for i := 0; ; i++ {
		v := s.lo + float64(i)*step
		if v > s.hi+step/1e6 || i > 20 {
			return
		}
		label := quantity.Decimals(v, digits)
		if digits == 0 {
			label = quantity.Number(v)
		}
		s.ticks = append(s.ticks, tick{v, label}) // placed by tickPlaces
	}
}

// setLog fits the range with a little room and labels each power of ten, or 1, 2
// and 5 times it where the range is short. Units of time change along the axis.
func (s *scale) setLog(lo, hi float64, unit string) {
	s.factor = 1
	unit, _, _ = strings.Cut(unit, "/")
	prefixed := quantity.PrefixFor(1, unit).Unit != quantity.PrefixFor(1e12, unit).Unit
	if prefixed {
		s.unit = ""
	}
	a, b := math.Log10(lo), math.Log10(hi)
	pad := max(0.06*(b-a), 0.1)
	s.lo, s.hi = a-pad, b+pad
	decades := s.hi - s.lo
	for d := math.Floor(s.lo); d <= math.Ceil(s.hi); d++ {
		for m := 1.0; m < 10; m++ {
			v := m * math.Pow(10, d)
			at := math.Log10(v)
			if at < s.lo || at > s.hi || v == 0 || math.IsInf(v, 0) {
				continue
			}
			t := tick{at: at}
			if m == 1 && (decades < 9 || math.Mod(d, 3) == 0) || decades < 3 && (m == 2 || m == 5) {
				t.label = quantity.Number(v)
				if prefixed {
					t.label = quantity.Value(v, unit)
				}
			}
			s.ticks = append(s.ticks, t)
		}
	}
}

// y returns where the value v stands, NaN if nowhere.
func (s scale) y(v float64) float64 {
	if !drawable(v) || s.log && v <= 0 {
		return math.NaN()
	}
	if s.log {
		return (math.Log10(v) - s.lo) / (s.hi - s.lo)
	}
	return (v*s.factor - s.lo) / (s.hi - s.lo)
}

// yTicks returns the ticks of a y axis by place.
func (s scale) yTicks() []tick {
	var out []tick
	for _, t := range s.ticks {
		if at := (t.at - s.lo) / (s.hi - s.lo); at >= -1e-9 && at <= 1+1e-9 {
			out = append(out, tick{at, t.label})
		}
	}
	return out
}

// newPercentileScale makes an axis from the 0th percentile to that of so many
// nines: 2 is the 99th.
func newPercentileScale(nines float64) scale {
	s := scale{}
	for i, label := range []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"} {
		if at := float64(i) / nines; at <= 1 {
			s.ticks = append(s.ticks, tick{at, label})
		}
	}
	if half := -math.Log10(0.5) / nines; half <= 1 {
		s.ticks = append(s.ticks, tick{half, "50 %"})
	}
	return s
}

// curvePoint is a latency at a percentile given in nines.
type curvePoint struct{ nines, value float64 }

// maxNines bounds the percentile axis: 99.9999 %.
const maxNines = 6

// curvesOf returns the curve of each distribution, the length of the axis in
// nines and all values. A curve ends where one operation is left above it.
func curvesOf(d group.Distributions) (curves [][]curvePoint, nines float64, values []float64) {
	nines = 1
	for _, l := range d.List {
		var curve []curvePoint
		n := float64(l.Latency.TotalCount())
		end := min(math.Log10(max(n, 1)), maxNines)
		nines = max(nines, end)
		const steps = 160
		for i := range steps + 1 {
			at := end * float64(i) / steps
			q := 100 * (1 - math.Pow(10, -at))
			v := float64(l.Latency.ValueAtQuantile(q))
			if n == 0 {
				continue
			}
			curve = append(curve, curvePoint{at, v})
			values = append(values, v)
		}
		curves = append(curves, curve)
	}
	return curves, nines, values
}

func estimates(s group.Series) []float64 {
	var out []float64
	for _, l := range s.Lines {
		for _, p := range l.Points {
			if finite(p.Estimate) {
				out = append(out, p.Estimate.Lo, p.Estimate.Center, p.Estimate.Hi)
			}
		}
	}
	return out
}

func finite(e stats.Estimate) bool {
	return e.N > 0 && drawable(e.Center) && drawable(e.Lo) && drawable(e.Hi)
}

// drawable says whether v is a number that leaves room to compute with.
func drawable(v float64) bool { return math.Abs(v) < 1e300 }
