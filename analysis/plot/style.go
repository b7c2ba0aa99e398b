// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"image/color"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// style is how a line looks: by colour and by glyph, so that it can be told from
// others without colours.
type style struct {
	color  color.Color
	glyph  draw.GlyphDrawer
	dashes []vg.Length
}

func rgb(hex uint32) color.Color {
	return color.RGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 0xff}
}

// Colours of what is not data.
func ink() color.Color     { return rgb(0x1b1f24) }
func faint() color.Color   { return rgb(0x57606a) }
func grid() color.Color    { return rgb(0xe4e7eb) }
func paper() color.Color   { return rgb(0xffffff) }
func goalInk() color.Color { return rgb(0x6e7781) }

// styleOf returns the look of the i-th line. Names that appear in many figures
// look the same in all. The colours are those of Okabe and Ito, which people with
// any colour vision tell apart, without the yellow, which is too light for lines.
func styleOf(name string, i int) style {
	blue, vermilion, green := rgb(0x0072b2), rgb(0xd55e00), rgb(0x009e73)
	orange, purple, sky, grey := rgb(0xe69f00), rgb(0xcc79a7), rgb(0x56b4e9), rgb(0x7a828c)
	black := rgb(0x24292f)
	named := map[string]style{
		"inline":    {color: blue, glyph: draw.CircleGlyph{}},
		"disk":      {color: vermilion, glyph: draw.BoxGlyph{}},
		"nvram":     {color: green, glyph: draw.PyramidGlyph{}},
		"pmem":      {color: purple, glyph: diamond{}},
		"qcow2":     {color: orange, glyph: draw.BoxGlyph{}},
		"copybound": {color: black, glyph: diamond{}, dashes: []vg.Length{5, 3}},
		"raw":       {color: grey, glyph: draw.CircleGlyph{}, dashes: []vg.Length{2, 2}},
	}
	if s, ok := named[name]; ok {
		return s
	}
	others := []style{
		{color: blue, glyph: draw.CircleGlyph{}}, {color: vermilion, glyph: draw.BoxGlyph{}},
		{color: green, glyph: draw.PyramidGlyph{}}, {color: purple, glyph: diamond{}},
		{color: orange, glyph: draw.CircleGlyph{}}, {color: sky, glyph: draw.BoxGlyph{}}, {color: black, glyph: draw.PyramidGlyph{}},
	}
	s := others[i%len(others)]
	if i >= len(others) {
		s.dashes = []vg.Length{5, 3}
	}
	return s
}

// diamond draws a filled diamond.
type diamond struct{}

func (diamond) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, pt vg.Point) {
	r := sty.Radius * 1.15
	var p vg.Path
	p.Move(vg.Point{X: pt.X, Y: pt.Y + r})
	p.Line(vg.Point{X: pt.X + r, Y: pt.Y})
	p.Line(vg.Point{X: pt.X, Y: pt.Y - r})
	p.Line(vg.Point{X: pt.X - r, Y: pt.Y})
	p.Close()
	c.SetColor(sty.Color)
	c.Fill(p)
}

// fonts makes text styles. Its cache is its own, for gonum's is shared state.
type fonts struct{ handler text.Handler }

func newFonts() fonts {
	return fonts{text.Plain{Fonts: font.NewCache(liberation.Collection())}}
}

func (f fonts) style(size vg.Length, c color.Color) text.Style {
	return text.Style{
		Color: c, Handler: f.handler,
		Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
	}
}

func (f fonts) bold(size vg.Length, c color.Color) text.Style {
	s := f.style(size, c)
	s.Font.Weight = stdfont.WeightBold
	return s
}
