// SPDX-License-Identifier: Apache-2.0

package trend

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/page"
	"zumastor.org/zumastor/analysis/plot"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/results/history"
)

//go:embed page.html
var pageText string

// shownTrend is a trend as page.html shows it.
type shownTrend struct {
	Trend
	Rows    [][]string // of the changes
	Header  []string
	Figures []shownTrack
	Still   []still
}

// shownTrack is a metric with its figure.
type shownTrack struct {
	Setting, Unit, Latest, State, Says string
	Image                              template.URL
}

// still is a metric that never changed and is exact: its value says it all.
type still struct{ Setting, Values string }

// Page returns the trends as an HTML page that needs nothing else: figures, styles and
// the script that filters them are in it.
func Page(r Report) ([]byte, error) {
	var shown []shownTrend
	for _, t := range r.Trends {
		s, err := show(t)
		if err != nil {
			return nil, fmt.Errorf("drawing the trends of %s: %w", t.Name, err)
		}
		shown = append(shown, s)
	}
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Style  template.CSS
		Worse  int
		Trends []shownTrend
	}{page.Style(), r.Worse(), shown})
	return b.Bytes(), err
}

func show(t Trend) (shownTrend, error) {
	changes := Of(t)
	s := shownTrend{Trend: t, Header: changes.Header, Rows: changes.Rows}
	for _, track := range t.Tracks {
		if t.Kind == results.Modelled && len(track.Changes) == 0 {
			s.addStill(track)
			continue
		}
		f, err := track.figure(t.Kind)
		if err != nil {
			return s, err
		}
		s.Figures = append(s.Figures, f)
	}
	return s, nil
}

// addStill adds what never changed to the line of its setting.
func (s *shownTrend) addStill(t Track) {
	text := amount(results.Modelled, t.last().Center, t.Unit) + " " + t.Unit
	if n := len(s.Still); n > 0 && s.Still[n-1].Setting == t.Setting {
		s.Still[n-1].Values += ", " + text
		return
	}
	s.Still = append(s.Still, still{t.Setting, text})
}

func (t Track) last() history.Value { return t.Values[len(t.Values)-1] }

// State is the gravest verdict of the track's changes: what a reader looks for.
func (t Track) State() string {
	state := "steady"
	for _, v := range []Verdict{Better, Undone, Accepted, Worse} {
		for _, c := range t.Changes {
			if c.Verdict == v {
				state = string(v)
			}
		}
	}
	if state == "steady" && t.TooFew {
		state = "too few runs"
	}
	return state
}

func (t Track) figure(kind results.Kind) (shownTrack, error) {
	svg, err := t.chart(kind).SVG()
	if err != nil {
		return shownTrack{}, err
	}
	var says []string
	for _, c := range t.Changes {
		says = append(says, fmt.Sprintf("%s at %s: %s", c.Size(), short(c.At), c.Says()))
	}
	return shownTrack{
		Setting: t.Setting, Unit: t.Unit, Latest: amount(kind, t.last().Center, t.Unit), State: t.State(), Says: strings.Join(says, "; "),
		Image: template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString(svg)),
	}, nil
}

// chart draws the track: a point for each record, a line at each change.
func (t Track) chart(kind results.Kind) *plot.Chart {
	const notJudged = "marked: not judged"
	line, marked := group.Line{}, group.Line{Name: notJudged}
	for i, v := range t.Values {
		p := group.Point{X: strconv.Itoa(i), Estimate: stats.Estimate{Center: v.Center, Lo: v.Lo, Hi: v.Hi, N: v.N}}
		if len(t.Records[i].Marks) > 0 {
			marked.Points = append(marked.Points, p)
		} else {
			line.Points = append(line.Points, p)
		}
	}
	f := plot.Figure{
		Title: t.Setting + " " + t.Unit, Small: true, Loose: []string{notJudged},
		X: plot.Axis{Scale: plot.Linear, Names: t.names()}, Y: plot.Axis{Scale: plot.Fitted, Unit: strings.Replace(t.Unit, "-bytes", "-B", 1)},
	}
	for _, c := range t.Changes {
		tone := plot.Neutral
		switch c.Verdict {
		case Worse:
			tone = plot.Bad
		case Better:
			tone = plot.Good
		}
		f.Events = append(f.Events, plot.Event{X: strconv.Itoa(c.index), Label: c.Size(), Tone: tone})
	}
	s := group.Series{Query: group.Query{Unit: t.Unit}, Kind: kind, Lines: []group.Line{line}}
	if len(marked.Points) > 0 {
		s.Lines = append(s.Lines, marked)
	}
	return plot.Lines(f, s)
}

// names labels the revisions at which something changed, and the first and the last
// where there is room.
func (t Track) names() map[string]string {
	names := map[string]string{}
	var taken []int
	room := max(1, len(t.Records)/4) // a label takes a quarter of the axis
	add := func(i int) {
		for _, other := range taken {
			if max(i-other, other-i) < room {
				return
			}
		}
		taken = append(taken, i)
		names[strconv.Itoa(i)] = t.Records[i].Revision[:7]
	}
	for _, c := range t.Changes {
		add(c.index)
	}
	add(0)
	add(len(t.Records) - 1)
	return names
}
