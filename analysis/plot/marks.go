// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Plot implements plot.Plotter.
func (m marks) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	if m.join && !m.loose {
		line := make([]vg.Point, len(m.points))
		for i, q := range m.points {
			line[i] = vg.Point{X: x(q.x), Y: y(q.y)}
		}
		c.StrokeLines(draw.LineStyle{Color: m.style.color, Width: lineWidth, Dashes: m.style.dashes}, line)
	}
	for _, q := range m.points {
		if m.bar > 0 {
			m.drawBar(c, q, x, y)
		}
		m.drawInterval(c, q, x, y)
		if m.join && !m.bare {
			at := vg.Point{X: x(q.x), Y: y(q.y)}
			c.DrawGlyph(draw.GlyphStyle{Color: m.style.color, Radius: glyphRadius, Shape: m.style.glyph}, at)
		}
	}
}

func (m marks) drawBar(c draw.Canvas, q point, x, y func(float64) vg.Length) {
	const gap = 0.06 // of a bar's width, left free at each side
	half := m.bar * (0.5 - gap)
	r := vg.Rectangle{Min: vg.Point{X: x(q.x - half), Y: y(m.base)}, Max: vg.Point{X: x(q.x + half), Y: y(q.y)}}
	c.SetColor(m.style.color)
	c.Fill(r.Path())
	if m.values {
		text := m.label
		text.XAlign, text.YAlign = draw.XCenter, draw.YBottom
		at := vg.Point{X: x(q.x), Y: y(max(q.y, q.hi)) + 2}
		box := text.Rectangle(q.value).Add(at)
		c.SetColor(paper())
		c.Fill(box.Path()) // keeps grid lines out of the digits
		c.FillText(text, at, q.value)
	}
}

// drawInterval draws the error bar, dark over a bar, in the line's colour
// otherwise. One shorter than its caps would only blur the mark.
func (m marks) drawInterval(c draw.Canvas, q point, x, y func(float64) vg.Length) {
	lo, hi, at := y(q.lo), y(q.hi), x(q.x)
	if hi-lo < 0.5 {
		return
	}
	var ink color.Color = m.style.color
	if m.bar > 0 {
		ink = rgb(0x24292f)
	}
	line := draw.LineStyle{Color: ink, Width: barLine}
	c.StrokeLine2(line, at, lo, at, hi)
	c.StrokeLine2(line, at-capWidth, lo, at+capWidth, lo)
	c.StrokeLine2(line, at-capWidth, hi, at+capWidth, hi)
}
