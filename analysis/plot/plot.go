// SPDX-License-Identifier: Apache-2.0

// Package plot draws figures of series and of latency distributions, as SVG and
// PNG.
//
// It owns what a figure looks like: fonts, colours, ticks, legends below the
// data, error bars. It chooses no data and computes no statistics; report and
// zbench say what to draw. Drawing is pure: the same input gives the same bytes.
// A Chart is immutable and may be drawn from several goroutines. Nothing here
// fails on data: what cannot be drawn (NaN, zero on a logarithmic axis) is left
// out, and a chart without data says so.
//
// All positions are mapped to the unit square here, not by gonum/plot, whose
// logarithmic scale panics on zero and whose axes end at the outermost point.
package plot

import (
	"bytes"
	"fmt"
	"slices"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/results"
)

// Scale is how an axis maps values to places.
type Scale uint8

// The scales.
const (
	// Linear axes begin at zero.
	Linear Scale = iota
	// Log axes show equal ratios as equal distances. On an x axis, zero stands
	// one step left of the smallest value; on a y axis it is left out.
	Log
	// Category axes give each value of X a place of its own.
	Category
	// Fitted y axes are linear, and begin near the smallest value: for what is
	// looked at for small changes.
	Fitted
)

// Axis describes an axis.
type Axis struct {
	// Label says what is shown, without the unit.
	Label string
	Scale Scale
	// Unit is that of the values. A y axis scales it ("ns/op" to "ms/op") and
	// shows it after the label. On an x axis "B" shows settings as "64 KiB".
	Unit string
	// Names, if not nil, are the labels of settings on an x axis; one without a name
	// has no label.
	Names map[string]string
}

// Event is a vertical line at a setting of the x axis, with a word at its top.
type Event struct {
	X, Label string
	// Tone is how the line looks.
	Tone Tone
}

// Tone says what an event means to the reader.
type Tone uint8

// The tones.
const (
	Neutral Tone = iota
	Good
	Bad
)

// Reference is a horizontal line to compare with, named in the legend.
type Reference struct {
	Value float64
	Label string
}

// Figure says how a chart is to look.
type Figure struct {
	Title string
	// Subtitle continues the line under the title that states the kind of the
	// numbers; "" for none.
	Subtitle string
	// Counted says that measured values are counts or sums, and no estimates.
	Counted    bool
	X, Y       Axis
	References []Reference
	Events     []Event
	// Small figures are one of many: without title and subtitle, half as wide.
	Small bool
	// Loose are the names of lines whose points are not joined.
	Loose []string
}

// Size of a chart.
const (
	width  = 7.2 * vg.Inch
	height = 4.3 * vg.Inch
	dpi    = 144 // of PNG

	smallWidth  = 3.6 * vg.Inch
	smallHeight = 1.9 * vg.Inch
)

func (c *Chart) size() (w, h vg.Length) {
	if c.figure.Small {
		return smallWidth, smallHeight
	}
	return width, height
}

// Chart is a figure ready to be drawn.
type Chart struct {
	figure  Figure
	kind    results.Kind
	x, y    scale
	marks   []marks
	entries []entry
	empty   bool
	stack   *stack // of a stacked chart, else nil
}

// Lines draws each line of the series with its points, their intervals as error
// bars.
func Lines(f Figure, s group.Series) *Chart {
	c := &Chart{figure: f, kind: s.Kind}
	c.x = newXScale(f.X, s.Xs())
	c.y = newYScale(f.Y, f.References, estimates(s))
	for i, l := range s.Lines {
		st := styleOf(l.Name, i)
		m := marks{style: st, join: true, loose: slices.Contains(f.Loose, l.Name)}
		for _, p := range l.Points {
			m.add(c.x.place(p.X), p.Estimate, c.y)
		}
		c.addMarks(m, l.Name)
	}
	c.finish()
	return c
}

// Bars draws a group of bars for each value of X, one bar a line, with the
// intervals as error bars. The scales are Category and Linear, whatever f says: the
// length of a bar has no meaning on a logarithmic axis.
func Bars(f Figure, s group.Series) *Chart {
	f.X.Scale, f.Y.Scale = Category, Linear
	c := &Chart{figure: f, kind: s.Kind}
	xs := s.Xs()
	c.x = newXScale(f.X, xs)
	c.y = newYScale(f.Y, f.References, estimates(s))
	c.y.hi = c.y.hi + 0.06*(c.y.hi-c.y.lo) // room for the values above the bars
	share := min(maxBar, barShare*c.x.step()/float64(max(1, len(s.Lines))))
	for i, l := range s.Lines {
		m := marks{style: styleOf(l.Name, i), bar: share, base: c.y.y(0), values: len(xs)*len(s.Lines) <= maxBarValues}
		for _, p := range l.Points {
			shift := (float64(i) - float64(len(s.Lines)-1)/2) * share
			m.add(c.x.place(p.X)+shift, p.Estimate, c.y)
		}
		c.addMarks(m, l.Name)
	}
	c.finish()
	return c
}

const (
	barShare     = 0.78 // of the room between groups that bars fill
	maxBar       = 0.12 // of the axis; wider bars look like areas
	maxBarValues = 20   // beyond this many bars, values above them collide
)

// Percentiles draws latency against percentile, the axis stretched towards 100 %
// so that each nine has equal room. Both scales of f are set.
func Percentiles(f Figure, d group.Distributions) *Chart {
	f.X = Axis{Label: "percentile of operations"}
	f.Y.Scale, f.Y.Unit = Log, "ns"
	c := &Chart{figure: f, kind: d.Kind}
	curves, nines, values := curvesOf(d)
	c.x = newPercentileScale(nines)
	c.y = newYScale(f.Y, f.References, values)
	for i, l := range d.List {
		m := marks{style: styleOf(l.Name, i), join: true, bare: true}
		for _, p := range curves[i] {
			m.addPlain(p.nines/nines, p.value, c.y)
		}
		c.addMarks(m, l.Name)
	}
	c.finish()
	return c
}

func (c *Chart) addMarks(m marks, name string) {
	if len(m.points) == 0 {
		return
	}
	c.marks = append(c.marks, m)
	if name != "" {
		c.entries = append(c.entries, entry{label: name, style: m.style, bar: m.bar > 0, bare: m.bare})
	}
}

func (c *Chart) finish() {
	c.empty = len(c.marks) == 0
	for _, r := range c.figure.References {
		c.entries = append(c.entries, entry{label: r.Label, reference: true})
	}
}

// SVG returns the chart as an SVG document with text as text, in a sans-serif
// font that every system has under one of the names given.
func (c *Chart) SVG() ([]byte, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(c.size()))
	c.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("drawing %q as SVG: %w", c.figure.Title, err)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arimo,Arial,Helvetica,sans-serif")), nil
}

// PNG returns the chart as a PNG image of 144 dots an inch.
func (c *Chart) PNG() ([]byte, error) {
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(c.size()), vgimg.UseDPI(dpi))}
	c.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("drawing %q as PNG: %w", c.figure.Title, err)
	}
	return b.Bytes(), nil
}
