// SPDX-License-Identifier: Apache-2.0

// Package trend judges the recorded history of runs, and shows it.
//
// It owns what is recorded of a run ([OfRun]), which changes of a series matter and
// whether they are for the worse ([Judge]), and the page and table of them ([Page],
// [Report.Write]). It keeps no files, which package results/history does, and finds no
// change points itself, which package change does. zbench history and zbench trend
// call it. All functions are pure but for the writer. Errors are those of drawing and
// writing; a metric with too few runs is said to have too few, and is not judged.
package trend

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"zumastor.org/zumastor/analysis/change"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/results/history"
)

// Verdict says what became of a change.
type Verdict string

// The verdicts.
const (
	Better Verdict = "better"
	Worse  Verdict = "worse"
	// Undone changes were for the worse, and later ones have made up for them.
	Undone Verdict = "undone"
	// Accepted changes are for the worse, and meant.
	Accepted Verdict = "accepted"
)

// modelTolerance is how far modelled times may differ between processors, whose
// floating-point operations differ in the last bit.
const modelTolerance = 0.001

// Change is a metric's change of level between two recorded revisions.
type Change struct {
	Setting string `json:"setting"`
	Unit    string `json:"unit"`
	// After is the last revision of the old level, At the first of the new one: what
	// made the change is after the one and not after the other.
	After     string    `json:"after"`
	At        string    `json:"at"`
	Committed time.Time `json:"committed"` // the date of At
	Before    float64   `json:"before"`
	Now       float64   `json:"now"`
	// P is the chance of such a change in a series without one; 0 for exact values.
	P       float64 `json:"p"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // why it is accepted

	index int // of At in the track
}

// Track is a metric over the records of a series.
type Track struct {
	Setting, Unit string
	Records       []history.Record
	Values        []history.Value
	Changes       []Change
	// TooFew says that there are too few runs that count for a change to be found.
	TooFew bool
}

// Trend is a series with what is to be said of it.
type Trend struct {
	history.Series
	Kind   results.Kind
	Tracks []Track
}

// Report is the trends of a history.
type Report struct {
	Trends []Trend
}

// Changes returns all changes of a trend, the newest first.
func (t Trend) Changes() []Change {
	var all []Change
	for _, track := range t.Tracks {
		all = append(all, track.Changes...)
	}
	slices.SortStableFunc(all, func(a, b Change) int { return b.Committed.Compare(a.Committed) })
	return all
}

// Worse returns how many changes are for the worse, and neither undone nor accepted.
func (r Report) Worse() int {
	n := 0
	for _, t := range r.Trends {
		for _, c := range t.Changes() {
			if c.Verdict == Worse {
				n++
			}
		}
	}
	return n
}

// Judge finds the changes of all series of h. Exact values change by anything, and
// modelled times by more than 0.1 %; measured medians by 5 % or more, at a chance of
// false alarms of 0.01 for a whole series however many metrics it has. Records with
// marks do not count.
func Judge(h history.History) Report {
	var r Report
	for _, s := range h.Series {
		t := Trend{Series: s, Kind: s.Records[0].Kind, Tracks: tracks(s)}
		for i := range t.Tracks {
			t.Tracks[i].judge(t.Kind, len(t.Tracks), func(revision string) string { return h.Reason(s.Name, revision) })
		}
		r.Trends = append(r.Trends, t)
	}
	return r
}

// tracks sorts a series by metrics.
func tracks(s history.Series) []Track {
	units := map[string]map[string]bool{}
	for _, r := range s.Records {
		for setting, values := range r.Metrics {
			if units[setting] == nil {
				units[setting] = map[string]bool{}
			}
			for unit := range values {
				units[setting][unit] = true
			}
		}
	}
	var all []Track
	for _, setting := range slices.SortedFunc(maps.Keys(units), natural) {
		for _, unit := range slices.Sorted(maps.Keys(units[setting])) {
			t := Track{Setting: setting, Unit: unit}
			for _, r := range s.Records {
				if v, ok := r.Metrics[setting][unit]; ok {
					t.Records, t.Values = append(t.Records, r), append(t.Values, v)
				}
			}
			all = append(all, t)
		}
	}
	return all
}

// natural orders names with numbers in them by the numbers: 4K before 16K.
func natural(a, b string) int { return cmp.Or(cmp.Compare(padded(a), padded(b)), cmp.Compare(a, b)) }

func padded(s string) string {
	var out strings.Builder
	for s != "" {
		rest := strings.TrimLeft(s, "0123456789")
		if digits := s[:len(s)-len(rest)]; digits != "" {
			out.WriteString(strings.Repeat("0", max(0, 20-len(digits))) + digits)
			s = rest
			continue
		}
		out.WriteByte(s[0])
		s = s[1:]
	}
	return out.String()
}

// judge finds the changes of the track, one of so many.
func (t *Track) judge(kind results.Kind, all int, reason func(revision string) string) {
	var counted []int
	var values []float64
	for i, r := range t.Records {
		if len(r.Marks) == 0 {
			counted, values = append(counted, i), append(values, t.Values[i].Center)
		}
	}
	var points []change.Point
	slack := tolerance(t.Unit)
	if kind == results.Modelled {
		t.TooFew = len(values) < 2
		points = change.Steps(values, slack)
	} else {
		o := change.Defaults()
		o.Alpha /= float64(all)
		o.Seed = seed(t.Setting + " " + t.Unit)
		t.TooFew = !change.Enough(len(values), o.Alpha)
		points, slack = change.Detect(values, o), o.Effect
	}
	for i, p := range points {
		after, at := t.Records[counted[p.Index-1]], t.Records[counted[p.Index]]
		c := Change{
			Setting: t.Setting, Unit: t.Unit, After: after.Revision, At: at.Revision, Committed: at.Committed,
			Before: p.Before, Now: p.After, P: p.P, index: counted[p.Index],
		}
		c.Verdict = verdict(t.Unit, slack, points[i:])
		if why := reason(at.Revision); why != "" && c.Verdict == Worse {
			c.Verdict, c.Reason = Accepted, why
		}
		t.Changes = append(t.Changes, c)
	}
}

// verdict says what became of the first of the points given. It is made up for when a
// later level is as good as the one before it, but for the slack.
func verdict(unit string, slack float64, points []change.Point) Verdict {
	before := points[0].Before
	if !worse(unit, before, points[0].After) {
		return Better
	}
	room := slack * math.Abs(before)
	if results.HigherIsBetter(unit) {
		room = -room
	}
	for _, later := range points[1:] {
		if !worse(unit, before+room, later.After) {
			return Undone
		}
	}
	return Worse
}

func worse(unit string, before, after float64) bool {
	if results.HigherIsBetter(unit) {
		return after < before
	}
	return after > before
}

// tolerance is by how much a modelled value may differ.
func tolerance(unit string) float64 {
	if strings.Contains(unit, "ns") || results.HigherIsBetter(unit) {
		return modelTolerance
	}
	return 0
}

// seed gives each metric permutations of its own that never change.
func seed(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// Percent returns by how much the level changed, of the old one; infinite from zero.
func (c Change) Percent() float64 {
	if c.Before == c.Now {
		return 0
	}
	return 100 * (c.Now - c.Before) / math.Abs(c.Before)
}
