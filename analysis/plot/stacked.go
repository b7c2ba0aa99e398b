// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/results"
)

// Segment is a part of a [Bar].
type Segment struct {
	Name  string
	Value float64 // not negative; others are left out
}

// Bar is a sum of parts, drawn from left to right.
type Bar struct {
	Label    string
	Segments []Segment
}

// Stacked draws a horizontal bar for each of bars, the first one on top, and writes its
// sum behind it. X says what the values are; Y is unused. Segments of one name have one
// colour in all figures.
func Stacked(f Figure, kind results.Kind, bars []Bar) *Chart {
	f.Y, f.References = Axis{}, nil
	c := &Chart{figure: f, kind: kind}
	var sums []float64
	styles := map[string]style{}
	for _, b := range bars {
		sum, before := 0.0, -1 // the place of the segment before in the legend
		for _, s := range b.Segments {
			if !drawable(s.Value) || s.Value <= 0 {
				continue
			}
			sum += s.Value
			at := slices.IndexFunc(c.entries, func(e entry) bool { return e.label == s.Name })
			if at < 0 {
				at = before + 1
				styles[s.Name] = styleOfStage(s.Name, len(styles))
				c.entries = slices.Insert(c.entries, at, entry{label: s.Name, style: styles[s.Name], bar: true})
			}
			before = at
		}
		if !drawable(sum) {
			sum = 0
		}
		sums = append(sums, sum)
	}
	c.x = newYScale(f.X, nil, sums)
	c.x.hi += 0.1 * (c.x.hi - c.x.lo) // room for the sums
	c.stack = &stack{bars: bars, sums: sums, styles: styles, x: c.x, unit: f.X.Unit, step: 1 / float64(max(1, len(bars)))}
	c.empty = len(c.entries) == 0
	return c
}

// stack is the bars of a stacked chart, one below the other.
type stack struct {
	bars   []Bar
	sums   []float64
	styles map[string]style
	x      scale
	unit   string
	step   float64 // from bar to bar, of the axis
	label  fonts
}

// at returns the middle of bar i.
func (s *stack) at(i int) float64 { return 1 - (float64(i)+0.5)*s.step }

// plot returns gonum's plot over the unit square with all bars.
func (s *stack) plot(x Axis, f fonts) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	label := x.Label
	if s.x.unit != "" {
		label += " (" + s.x.unit + ")"
	}
	names := make([]tick, len(s.bars))
	for i, b := range s.bars {
		// Room for a wider font in place of ours: whoever draws the text leaves the spaces out.
		names[i] = tick{s.at(i), b.Label + strings.Repeat(" ", 2+len(b.Label)/3)}
	}
	setAxis(&p.X, f, label, s.x.yTicks())
	setAxis(&p.Y, f, "", names)
	p.Y.Tick.LineStyle.Width = 0
	p.X.Label.Padding = labelGap
	p.X.Padding, p.Y.Padding = 0, 0
	p.Add(gridLines{x: s.x.yTicks(), vertical: true})
	s.label = f
	p.Add(s)
	return p
}

// maxThick is how thick a bar is at most, of the axis.
const maxThick = 0.16

// Plot implements plot.Plotter.
func (s *stack) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	half := min(maxThick, 0.72*s.step) / 2
	text := s.label.style(tickSize-1, ink())
	text.YAlign = draw.YCenter
	for i, b := range s.bars {
		low, high := y(s.at(i)-half), y(s.at(i)+half)
		sum, n := 0.0, 0
		for _, part := range b.Segments {
			if !drawable(part.Value) || part.Value <= 0 {
				continue
			}
			from := x(s.x.y(sum))
			sum += part.Value
			r := vg.Rectangle{Min: vg.Point{X: from, Y: low}, Max: vg.Point{X: x(s.x.y(sum)), Y: high}}
			c.SetColor(s.styles[part.Name].color)
			c.Fill(r.Path())
			if n++; n > 1 && r.Max.X-r.Min.X > 1 {
				c.StrokeLine2(draw.LineStyle{Color: paper(), Width: 0.6}, from, low, from, high)
			}
		}
		if s.sums[i] > 0 {
			c.FillText(text, vg.Point{X: x(s.x.y(s.sums[i])) + 4, Y: y(s.at(i))}, quantity.Value(s.sums[i], s.unit))
		}
	}
}

// styleOfStage returns the colour of a part of a request: greys where it waits, the
// same for what reads, writes, makes durable and so on in all classes of requests.
func styleOfStage(name string, i int) style {
	named := map[string]uint32{
		"queue": 0xc4cad1, "wait for copies": 0xc4cad1, "wake": 0x98a1ab, "engine": 0x24292f,
		"plan": 0xf0e442, "find": 0xf0e442, "slots": 0xf0e442, "lease": 0xb8a800,
		"read old": 0x56b4e9, "checksum": 0xcc79a7, "write copies": 0x0072b2,
		"read store": 0x0072b2, "write store": 0x0072b2,
		"make durable": 0xd55e00, "flush origin": 0xd55e00,
		"report": 0xe69f00, "ask again": 0xe69f00, "note": 0xe69f00,
		"write origin": 0x009e73, "read origin": 0x009e73, "checkpoints": 0x7a4a8f,
	}
	if hex, ok := named[name]; ok {
		return style{color: rgb(hex)}
	}
	return styleOf(name, i)
}
