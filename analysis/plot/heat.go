// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// HeatFigure says how a heat map is to look.
type HeatFigure struct {
	Title, Subtitle string
	// X describes the columns. Its scale is Category.
	X Axis
	// Unit is that of the values, "x" for ratios.
	Unit string
	// Around1 gives values below and above 1 colours of their own, lighter the nearer
	// they are to 1: for ratios of two runs. Without it, colours run from the smallest
	// value to the largest, in equal ratios.
	Around1 bool
}

// Heat is a heat map ready to be drawn: a row for each line of a series, a column for each
// X, and the value in each cell. What has no value is left white.
type Heat struct {
	figure  HeatFigure
	kind    results.Kind
	rows    []string
	columns []string
	cells   []heatCell
	lo, hi  float64 // logarithms of the values at the ends of the colours
}

// heatCell is a value and where it stands.
type heatCell struct {
	row, column int
	estimate    stats.Estimate
}

// The layout of a heat map.
const (
	cellHeight = 22
	heatTop    = 2.2*titleSize + 2.2*smallSize // title and subtitle
	heatBottom = 3.6*labelSize + labelGap      // column names and label
)

// NewHeat lays out a heat map of the series.
func NewHeat(f HeatFigure, s group.Series) *Heat {
	h := &Heat{figure: f, kind: s.Kind, columns: s.Xs(), lo: math.Inf(1), hi: math.Inf(-1)}
	for _, l := range s.Lines {
		for column, x := range h.columns {
			e, ok := l.At(x)
			if !ok || !finite(e) || e.Center <= 0 {
				continue
			}
			h.cells = append(h.cells, heatCell{row: len(h.rows), column: column, estimate: e})
			h.lo, h.hi = min(h.lo, math.Log(e.Center)), max(h.hi, math.Log(e.Center))
		}
		h.rows = append(h.rows, l.Name)
	}
	const least = 0.2 // a change of a fifth has a faint colour at most if all are smaller
	if f.Around1 {
		reach := max(least, math.Abs(h.lo), math.Abs(h.hi))
		if len(h.cells) == 0 {
			reach = least
		}
		h.lo, h.hi = -reach, reach
	}
	return h
}

// size grows with the rows.
func (h *Heat) size() (w, height vg.Length) {
	return width, 2*border + heatTop + heatBottom + cellHeight*vg.Length(max(1, len(h.rows)))
}

// SVG returns the heat map as an SVG document. Each cell has a title with its interval,
// which browsers show where the document is part of a page.
func (h *Heat) SVG() ([]byte, error) {
	w, height := h.size()
	canvas := vgsvg.NewWith(vgsvg.UseWH(w, height))
	boxes := h.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("drawing %q as SVG: %w", h.figure.Title, err)
	}
	svg := strings.ReplaceAll(b.String(), "font-family:Liberation Sans", "font-family:Liberation Sans,Arimo,Arial,Helvetica,sans-serif")
	var titles strings.Builder
	for i, box := range boxes {
		fmt.Fprintf(&titles, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill-opacity=\"0\"><title>%s</title></rect>\n",
			box.Min.X, height-box.Max.Y, box.Max.X-box.Min.X, box.Max.Y-box.Min.Y, html.EscapeString(h.title(h.cells[i])))
	}
	at := strings.LastIndex(svg, "</svg>")
	if at < 0 {
		return nil, fmt.Errorf("drawing %q as SVG: the document has no end", h.figure.Title)
	}
	// The canvas has its unit, the point, in its view box, and y upwards in its group only.
	return []byte(svg[:at] + "<g>\n" + titles.String() + "</g>\n" + svg[at:]), nil
}

// PNG returns the heat map as a PNG image of 144 dots an inch.
func (h *Heat) PNG() ([]byte, error) {
	w, height := h.size()
	canvas := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w, height), vgimg.UseDPI(dpi))}
	h.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("drawing %q as PNG: %w", h.figure.Title, err)
	}
	return b.Bytes(), nil
}

// title says a cell in words.
func (h *Heat) title(c heatCell) string {
	text := fmt.Sprintf("%s, %s: %s", h.rows[c.row], settingLabel(h.figure.X, h.columns[c.column]), quantity.Value(c.estimate.Center, h.figure.Unit))
	if c.estimate.Hi > c.estimate.Lo {
		p := quantity.PrefixFor(c.estimate.Center, h.figure.Unit)
		text += fmt.Sprintf(", interval %s to %s, n = %d", quantity.Number(c.estimate.Lo*p.Factor), quantity.Number(c.estimate.Hi*p.Factor), c.estimate.N)
	}
	return text
}

// draw draws all and returns the rectangles of the cells, in points.
func (h *Heat) draw(dc draw.Canvas) (boxes []vg.Rectangle) {
	f := newFonts()
	dc.SetColor(paper())
	dc.Fill(dc.Rectangle.Path())
	dc = draw.Crop(dc, border, -border, border, -border)
	title := f.bold(titleSize, ink())
	title.YAlign = draw.YTop
	dc.FillText(title, vg.Point{X: dc.Min.X, Y: dc.Max.Y}, h.figure.Title)
	small := f.style(smallSize, faint())
	small.YAlign = draw.YTop
	dc.FillText(small, vg.Point{X: dc.Min.X, Y: dc.Max.Y - 1.35*titleSize}, h.subtitle())
	dc.Max.Y -= heatTop
	if len(h.cells) == 0 {
		note := f.style(labelSize, faint())
		note.XAlign, note.YAlign = draw.XCenter, draw.YCenter
		dc.FillText(note, dc.Center(), "no data")
		return nil
	}
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	p.X.Padding, p.Y.Padding = 0, 0
	p.X.Label.Padding = labelGap
	setAxis(&p.X, f, h.figure.X.Label, h.ticks(h.columns, h.figure.X, false))
	setAxis(&p.Y, f, "", h.ticks(h.rows, Axis{}, true))
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle.Width, a.Tick.Length = 0, 0
	}
	p.Add(heatCells{heat: h, fonts: f, boxes: &boxes})
	p.Draw(dc)
	return boxes
}

// subtitle states the kind of the numbers, and what colours mean.
func (h *Heat) subtitle() string {
	s := "measured, median"
	if h.kind == results.Modelled {
		s = "modelled, exact"
	}
	if h.figure.Subtitle != "" {
		s += " · " + h.figure.Subtitle
	}
	return s
}

// ticks names the rows or columns in their middle; rows from the top.
func (h *Heat) ticks(names []string, a Axis, down bool) []tick {
	out := make([]tick, len(names))
	for i, name := range names {
		at := (float64(i) + 0.5) / float64(len(names))
		if down {
			at = 1 - at
		}
		label := settingLabel(a, name)
		if down {
			// Room for readers whose font is wider than the one that was measured.
			label += strings.Repeat(" ", 2+len(label)/3)
		}
		out[i] = tick{at, label}
	}
	return out
}

// heatCells draws the cells.
type heatCells struct {
	heat  *Heat
	fonts fonts
	boxes *[]vg.Rectangle
}

// Plot implements plot.Plotter.
func (c heatCells) Plot(dc draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&dc)
	h := c.heat
	columns, rows := float64(len(h.columns)), float64(len(h.rows))
	for _, cell := range h.cells {
		const gap = 0.75 // of paper between cells
		box := vg.Rectangle{
			Min: vg.Point{X: x(float64(cell.column)/columns) + gap, Y: y(1-float64(cell.row+1)/rows) + gap},
			Max: vg.Point{X: x(float64(cell.column+1)/columns) - gap, Y: y(1-float64(cell.row)/rows) - gap},
		}
		fill := h.color(cell.estimate.Center)
		dc.SetColor(fill)
		dc.Fill(box.Path())
		text := c.fonts.style(tickSize, inkOn(fill))
		text.XAlign, text.YAlign = draw.XCenter, draw.YCenter
		dc.FillText(text, vg.Point{X: (box.Min.X + box.Max.X) / 2, Y: (box.Min.Y + box.Max.Y) / 2}, quantity.Value(cell.estimate.Center, h.figure.Unit))
		*c.boxes = append(*c.boxes, box)
	}
}

// color returns the colour of a value.
func (h *Heat) color(v float64) color.RGBA {
	part := 0.5
	if h.hi > h.lo {
		part = (math.Log(v) - h.lo) / (h.hi - h.lo)
	}
	if h.figure.Around1 {
		return mix(part, 0xb35806, 0xe08214, 0xfdb863, 0xfee0b6, 0xf7f7f7, 0xd1e5f0, 0x92c5de, 0x4393c3, 0x2166ac)
	}
	// Cividis, which looks the same to people with any colour vision, from its light
	// end, so that what costs much is dark.
	return mix(part, 0xfee838, 0xe1cc55, 0xc3b369, 0xa59c74, 0x8a8678, 0x707173, 0x575d6d, 0x3b496c, 0x123570, 0x00224e)
}

// mix returns the colour at part, from 0 to 1, of a way through colours.
func mix(part float64, way ...uint32) color.RGBA {
	at := min(max(part, 0), 1) * float64(len(way)-1)
	i := min(int(at), len(way)-2)
	between := func(shift int) uint8 {
		a, b := float64(uint8(way[i]>>shift)), float64(uint8(way[i+1]>>shift))
		return uint8(math.Round(a + (b-a)*(at-float64(i))))
	}
	return color.RGBA{R: between(16), G: between(8), B: between(0), A: 0xff}
}

// inkOn returns black or white, whichever is easier to read on the colour.
func inkOn(c color.RGBA) color.Color {
	linear := func(v uint8) float64 { return math.Pow(float64(v)/255, 2.2) }
	if 0.2126*linear(c.R)+0.7152*linear(c.G)+0.0722*linear(c.B) > 0.2 {
		return ink()
	}
	return paper()
}
