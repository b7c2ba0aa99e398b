// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// Distances of the layout.
const (
	border      = 10
	titleSize   = 13
	smallSize   = 9
	labelSize   = 10
	tickSize    = 9
	labelGap    = 4 // between the names of ticks and the label of an axis
	legendGap   = 18
	thumbnail   = 22
	glyphRadius = 3
	lineWidth   = 1.6
	barLine     = 1.1
	capWidth    = 3
)

// point is a mark in the unit square with its error bar.
type point struct {
	x, y, lo, hi float64
	value        string
}

// marks is one line or one colour of bars.
type marks struct {
	style  style
	points []point
	join   bool    // draw lines between points
	loose  bool    // but not these
	bare   bool    // without glyphs
	bar    float64 // width of bars; zero for none
	base   float64 // where bars begin
	values bool    // write values above bars
	label  text.Style
}

func (m *marks) add(x float64, e stats.Estimate, y scale) {
	p := point{x: x, y: y.y(e.Center), lo: y.y(e.Lo), hi: y.y(e.Hi)}
	if !finite(e) || math.IsNaN(p.x) || math.IsNaN(p.y) {
		return
	}
	if math.IsNaN(p.lo) {
		p.lo = p.y
	}
	if math.IsNaN(p.hi) {
		p.hi = p.y
	}
	if m.values {
		p.value = quantity.Number(e.Center * y.factor)
	}
	m.points = append(m.points, p)
}

func (m *marks) addPlain(x, v float64, y scale) {
	m.add(x, stats.Estimate{Center: v, Lo: v, Hi: v, N: 1}, y)
}

// entry is a line of the legend.
type entry struct {
	label     string
	style     style
	bar       bool
	bare      bool
	reference bool
}

// draw lays the chart out: title, subtitle, plot, legend.
func (c *Chart) draw(dc draw.Canvas) {
	f := newFonts()
	dc.SetColor(paper())
	dc.Fill(dc.Rectangle.Path())
	dc = draw.Crop(dc, border, -border, border, -border)

	if !c.figure.Small {
		dc.Max.Y -= c.drawTitle(dc, f)
	}
	dc.Min.Y += c.drawLegend(dc, f)
	if c.stack != nil {
		c.stack.plot(c.figure.X, f).Draw(dc)
	} else {
		c.plot(f).Draw(dc)
	}
	if c.empty {
		note := f.style(labelSize, faint())
		note.XAlign, note.YAlign = draw.XCenter, draw.YCenter
		dc.FillText(note, dc.Center(), "no data")
	}
}

// drawTitle draws title and subtitle at the top and returns the height that they take.
func (c *Chart) drawTitle(dc draw.Canvas, f fonts) vg.Length {
	title := f.bold(titleSize, ink())
	title.YAlign = draw.YTop
	dc.FillText(title, vg.Point{X: dc.Min.X, Y: dc.Max.Y}, c.figure.Title)
	small := f.style(smallSize, faint())
	small.YAlign = draw.YTop
	dc.FillText(small, vg.Point{X: dc.Min.X, Y: dc.Max.Y - 1.35*titleSize}, c.subtitle())
	return 1.35*titleSize + 2.2*smallSize
}

// subtitle states the kind of the numbers, so that no figure is mistaken for one
// of the other kind.
func (c *Chart) subtitle() string {
	s := "modelled, exact"
	switch {
	case c.kind != results.Modelled && c.stack != nil:
		s = "measured, mean"
	case c.kind != results.Modelled && c.figure.Counted:
		s = "measured"
	case c.kind != results.Modelled && len(c.marks) > 0 && c.marks[0].bare:
		s = "measured"
	case c.kind != results.Modelled:
		s = "measured, median and 95 % confidence interval"
	}
	if c.figure.Subtitle != "" {
		s += " · " + c.figure.Subtitle
	}
	return s
}

// drawLegend draws the entries in rows at the bottom of dc and returns the
// height that they take.
func (c *Chart) drawLegend(dc draw.Canvas, f fonts) vg.Length {
	label := f.style(labelSize, ink())
	label.YAlign = draw.YCenter
	const row = 1.6 * labelSize
	type place struct{ x, row vg.Length }
	places := make([]place, len(c.entries))
	x, rows := dc.Min.X, vg.Length(0)
	for i, e := range c.entries {
		w := thumbnail + 5 + label.Width(e.label)
		if x > dc.Min.X && x+w > dc.Max.X {
			x, rows = dc.Min.X, rows+1
		}
		places[i] = place{x, rows}
		x += w + legendGap
	}
	if len(c.entries) == 0 {
		return 0
	}
	for i, e := range c.entries {
		y := dc.Min.Y + row*(rows-places[i].row) + row/2
		c.thumbnail(&dc, e, vg.Point{X: places[i].x, Y: y})
		dc.FillText(label, vg.Point{X: places[i].x + thumbnail + 5, Y: y + 1.2}, e.label)
	}
	return row*(rows+1) + 6
}

func (c *Chart) thumbnail(dc *draw.Canvas, e entry, at vg.Point) {
	end := vg.Point{X: at.X + thumbnail, Y: at.Y}
	mid := vg.Point{X: at.X + thumbnail/2, Y: at.Y}
	switch {
	case e.reference:
		dc.StrokeLines(referenceLine(), []vg.Point{at, end})
	case e.bar:
		dc.SetColor(e.style.color)
		r := vg.Rectangle{Min: vg.Point{X: mid.X - 6, Y: at.Y - 5}, Max: vg.Point{X: mid.X + 6, Y: at.Y + 5}}
		dc.Fill(r.Path())
	default:
		dc.StrokeLines(draw.LineStyle{Color: e.style.color, Width: lineWidth, Dashes: e.style.dashes}, []vg.Point{at, end})
		if !e.bare {
			dc.DrawGlyph(draw.GlyphStyle{Color: e.style.color, Radius: glyphRadius, Shape: e.style.glyph}, mid)
		}
	}
}

func referenceLine() draw.LineStyle {
	return draw.LineStyle{Color: goalInk(), Width: 1.1, Dashes: []vg.Length{6, 3, 1.5, 3}}
}

// plot returns gonum's plot over the unit square with all marks.
func (c *Chart) plot(f fonts) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	yLabel := c.figure.Y.Label
	if c.y.unit != "" && yLabel != "" {
		yLabel += " (" + c.y.unit + ")"
	} else if yLabel == "" {
		yLabel = c.y.unit
	}
	setAxis(&p.X, f, c.figure.X.Label, c.x.ticks)
	setAxis(&p.Y, f, yLabel, c.y.yTicks())
	p.X.Label.Padding, p.Y.Label.Padding = labelGap, 6
	p.X.Padding, p.Y.Padding = 0, 0
	p.Add(gridLines{x: c.x.ticks, y: c.y.yTicks(), vertical: c.figure.X.Scale != Category})
	for _, m := range c.marks {
		m.label = f.style(tickSize-1, ink())
		p.Add(m)
	}
	for _, r := range c.figure.References {
		if at := c.y.y(r.Value); !math.IsNaN(at) {
			p.Add(reference(at)) // last, for bars would hide it
		}
	}
	for _, e := range c.events() {
		e.text = f.bold(tickSize, e.ink())
		p.Add(e)
	}
	return p
}

func setAxis(a *plot.Axis, f fonts, label string, ticks []tick) {
	a.Label.Text = label
	style := f.style(labelSize, ink())
	style.XAlign, style.YAlign = a.Label.TextStyle.XAlign, a.Label.TextStyle.YAlign
	a.Label.TextStyle = style
	style = f.style(tickSize, faint())
	style.XAlign, style.YAlign = a.Tick.Label.XAlign, a.Tick.Label.YAlign
	a.Tick.Label = style
	a.LineStyle = draw.LineStyle{Color: faint(), Width: 0.8}
	a.Tick.LineStyle = a.LineStyle
	a.Tick.Length = 4
	marks := make([]plot.Tick, len(ticks))
	for i, t := range ticks {
		marks[i] = plot.Tick{Value: t.at, Label: t.label}
	}
	a.Tick.Marker = plot.ConstantTicks(marks)
}

// gridLines draws a light line at each tick with a label.
type gridLines struct {
	x, y     []tick
	vertical bool
}

// Plot implements plot.Plotter.
func (g gridLines) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	line := draw.LineStyle{Color: grid(), Width: 0.7}
	for _, t := range g.y {
		if t.label != "" {
			c.StrokeLine2(line, c.Min.X, y(t.at), c.Max.X, y(t.at))
		}
	}
	for _, t := range g.x {
		if t.label != "" && g.vertical {
			c.StrokeLine2(line, x(t.at), c.Min.Y, x(t.at), c.Max.Y)
		}
	}
}

// reference is a horizontal line to compare with.
type reference float64

// Plot implements plot.Plotter.
func (r reference) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	c.StrokeLine2(referenceLine(), c.Min.X, y(float64(r)), c.Max.X, y(float64(r)))
}

// event is a vertical line with a word beside its top.
type event struct {
	Event
	at   float64
	row  int // of the word, from the top
	text text.Style
}

// events places the events; words of neighbours stand below each other.
func (c *Chart) events() []event {
	const room, rows = 0.25, 3 // of a word, of the axis
	var all []event
	for _, e := range c.figure.Events {
		at := c.x.place(e.X)
		if math.IsNaN(at) {
			continue
		}
		row := 0
		if n := len(all); n > 0 && at-all[n-1].at < room || n > 0 && at > leftward && all[n-1].at <= leftward {
			row = (all[n-1].row + 1) % rows
		}
		all = append(all, event{Event: e, at: at, row: row})
	}
	return all
}

// leftward is from where on the words of events stand on the left of their lines.
const leftward = 0.6

func (e Event) ink() color.Color {
	switch e.Tone {
	case Good:
		return rgb(0x116329)
	case Bad:
		return rgb(0xa40e26)
	}
	return goalInk()
}

// Plot implements plot.Plotter.
func (e event) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	at := x(e.at)
	c.StrokeLine2(draw.LineStyle{Color: e.ink(), Width: 1.1, Dashes: []vg.Length{3, 2}}, at, c.Min.Y, at, c.Max.Y)
	e.text.YAlign = draw.YTop
	where := vg.Point{X: at + 3, Y: c.Max.Y - vg.Length(e.row)*1.2*tickSize}
	if e.at > leftward {
		e.text.XAlign, where.X = draw.XRight, at-3
	}
	box := e.text.Rectangle(e.Label).Add(where)
	c.SetColor(paper())
	c.Fill(box.Path()) // keeps lines out of the letters
	c.FillText(e.text, where, e.Label)
}
