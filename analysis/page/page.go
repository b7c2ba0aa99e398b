// SPDX-License-Identifier: Apache-2.0

// Package page holds what the pages made of runs share: their style, and how a figure
// is put into them, and the explorer of samples.
//
// It owns colours, type and tables of pages, light and dark. It does not own what a page
// says: packages report and trend do, with templates of their own. Pages need no network:
// all of it is written into them. Its functions are pure and do not fail.
package page

import (
	_ "embed"
	"encoding/base64"
	"html/template"
)

//go:embed style.css
var style string

// Style returns the style sheet of pages, for a style element.
func Style() template.CSS { return template.CSS("\n" + style) }

// Image returns an SVG document as the source of an img element.
func Image(svg []byte) template.URL {
	return template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString(svg))
}
