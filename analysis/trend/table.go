// SPDX-License-Identifier: Apache-2.0

package trend

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

// day is how dates are written.
const day = "2006-01-02 15:04"

// Of returns the changes of a trend as a table, the newest first.
func Of(t Trend) table.Table {
	out := table.Table{
		Kind: t.Kind, Header: []string{"setting", "metric", "after", "at", "date", "before", "now", "change", "p", "verdict"},
		Numeric: []bool{false, false, false, false, false, true, true, true, true, false},
	}
	for _, c := range t.Changes() {
		p := quantity.None
		if t.Kind == results.Measured {
			p = fmt.Sprintf("%.1g", c.P)
		}
		out.Rows = append(out.Rows, []string{
			c.Setting, c.Unit, short(c.After), short(c.At), c.Committed.Format(day),
			amount(t.Kind, c.Before, c.Unit), amount(t.Kind, c.Now, c.Unit), c.Size(), p, c.Says(),
		})
	}
	return out
}

// Size writes by how much the level changed: "+5.2%", or the number itself from zero.
func (c Change) Size() string {
	if c.Before == 0 {
		return fmt.Sprintf("%+.4g", c.Now)
	}
	return fmt.Sprintf("%+.3g%%", c.Percent())
}

// Says is the verdict, with the reason.
func (c Change) Says() string {
	if c.Reason == "" {
		return string(c.Verdict)
	}
	return string(c.Verdict) + ": " + c.Reason
}

// amount writes exact values with all their digits, for it is those that are compared.
func amount(kind results.Kind, v float64, unit string) string {
	if kind == results.Modelled && v == math.Trunc(v) {
		return quantity.Number(v)
	}
	return quantity.Value(v, unit)
}

func short(revision string) string { return revision[:min(10, len(revision))] }

// Summary says in one sentence what a trend is of and what was found.
func (t Trend) Summary() string { return fmt.Sprintf("%s, %s: %s", t.Name, t.Kind, t.Found()) }

// Found says it without the name.
func (t Trend) Found() string {
	first, last := t.Records[0], t.Records[len(t.Records)-1]
	moved, few := 0, 0
	for _, track := range t.Tracks {
		if len(track.Changes) > 0 {
			moved++
		}
		if track.TooFew {
			few++
		}
	}
	s := fmt.Sprintf("%d runs from %s (%s) to %s (%s); %d of %d metrics changed",
		len(t.Records), short(first.Revision), first.Committed.Format(day), short(last.Revision), last.Committed.Format(day), moved, len(t.Tracks))
	if few > 0 {
		s += fmt.Sprintf("; %d have too few runs to find a change", few)
	}
	return s
}

// Write writes the summary and the changes of each trend.
func (r Report) Write(w io.Writer, format table.Format) error {
	if len(r.Trends) == 0 {
		_, err := fmt.Fprintln(w, "nothing is recorded")
		return err
	}
	for i, t := range r.Trends {
		head := t.Summary()
		if format == table.Markdown {
			head = "### " + head
		}
		if i > 0 {
			head = "\n" + head
		}
		if _, err := fmt.Fprintf(w, "%s\n", head); err != nil {
			return err
		}
		changes := Of(t)
		if len(changes.Rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := changes.Write(w, format); err != nil {
			return err
		}
	}
	return nil
}

// MarshalJSON writes what programs ask for: of each trend its records' revisions and
// all changes.
func (r Report) MarshalJSON() ([]byte, error) {
	type trend struct {
		Series    string       `json:"series"`
		Kind      results.Kind `json:"kind"`
		Revisions []string     `json:"revisions"`
		Newest    time.Time    `json:"newest"`
		Metrics   int          `json:"metrics"`
		TooFew    int          `json:"too_few"`
		Changes   []Change     `json:"changes"`
	}
	out := struct {
		Worse  int     `json:"worse"`
		Trends []trend `json:"trends"`
	}{Worse: r.Worse(), Trends: []trend{}}
	for _, t := range r.Trends {
		one := trend{Series: t.Name, Kind: t.Kind, Metrics: len(t.Tracks), Changes: t.Changes()}
		for _, record := range t.Records {
			one.Revisions, one.Newest = append(one.Revisions, record.Revision), record.Committed
		}
		for _, track := range t.Tracks {
			if track.TooFew {
				one.TooFew++
			}
		}
		out.Trends = append(out.Trends, one)
	}
	return json.Marshal(out)
}
