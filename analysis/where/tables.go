// SPDX-License-Identifier: Apache-2.0

package where

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

// Table is a table with the name of its file, without extension, and what it shows.
type Table struct {
	Name, Title string
	table.Table
}

// newTable returns one whose first column is text and all others are numbers.
func newTable(all []results.Account, what, title string, header ...string) Table {
	numeric := make([]bool, len(header))
	for i := range numeric {
		numeric[i] = i > 0
	}
	return Table{
		Name: fmt.Sprintf("%s-%s-%s", strings.ToLower(all[0].Experiment), what, all[0].Kind), Title: title,
		Table: table.Table{Kind: all[0].Kind, Header: header, Numeric: numeric},
	}
}

// Tables returns all tables of an experiment's accounts of one kind.
func Tables(all []results.Account) []Table {
	all = sorted(all)
	var out []Table
	for _, of := range []func([]results.Account) Table{Stages, CriticalPath, Amplification, DistanceTable, Checks} {
		if t := of(all); len(t.Rows) > 0 {
			out = append(out, t.withoutEmpty())
		}
	}
	return out
}

// withoutEmpty returns the table without columns that have nothing in any row.
func (t Table) withoutEmpty() Table {
	rows := t.Rows
	header, numeric := t.Header, t.Numeric
	t.Header, t.Numeric, t.Rows = nil, nil, make([][]string, len(rows))
	for i := range header {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			continue
		}
		t.Header, t.Numeric = append(t.Header, header[i]), append(t.Numeric, numeric[i])
		for r := range rows {
			t.Rows[r] = append(t.Rows[r], rows[r][i])
		}
	}
	return t
}

// Stages shows the mean time of each stage in each class.
func Stages(all []results.Account) Table {
	names := stageNames(all, func(string) bool { return true })
	header := append([]string{"setting", "class", "looked at", "time"}, names...)
	t := newTable(all, "stages", "Mean time of each stage, for each request", header...)
	t.Numeric[1] = false
	for _, a := range all {
		for _, c := range a.Classes {
			if c.Requests == 0 {
				continue
			}
			each := func(ns int64) string { return quantity.Value(float64(ns)/per(a, &c), "ns") }
			row := []string{label(a, all), c.Name, strconv.FormatInt(c.Looked, 10), each(c.Nanoseconds)}
			for _, name := range names {
				row = append(row, cell(c, name, func(s results.Stage) string { return each(s.Nanoseconds) }))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// CriticalPath shows the stages that a first write goes through, one after the other,
// and the median and the 99th percentile of each.
func CriticalPath(all []results.Account) Table {
	names := stageNames(all, func(class string) bool { return class == firstWrite })
	header := []string{"setting", "looked at", "all"}
	waiting := waits(all)
	for _, name := range names {
		if waiting[name] {
			name += " (waits)"
		}
		header = append(header, name)
	}
	title := "Critical path of a first write: median and 99th percentile of each stage"
	if all[0].Kind == results.Modelled {
		title += ", of a whole group"
	}
	t := newTable(all, "path", title, header...)
	for _, a := range all {
		c := find(a, firstWrite)
		if c == nil || c.Times == nil {
			continue
		}
		row := []string{label(a, all), strconv.FormatInt(c.Looked, 10), percentiles(c.Times)}
		for _, name := range names {
			row = append(row, cell(*c, name, func(s results.Stage) string { return percentiles(s.Times) }))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// stageNames returns the stages of all classes that are wanted, in their order.
func stageNames(all []results.Account, wanted func(class string) bool) []string {
	var merged results.Class
	for _, a := range all {
		var one results.Account
		for _, c := range a.Classes {
			if wanted(c.Name) {
				stages := slices.Clone(c.Stages)
				for i := range stages {
					stages[i].Times = nil
				}
				one.Classes = append(one.Classes, results.Class{Name: "", Stages: stages})
			}
		}
		sum := results.Account{Classes: []results.Class{merged}}
		sum.Merge(one)
		merged = sum.Classes[0]
	}
	var names []string
	for _, s := range merged.Stages {
		if s.Nanoseconds > 0 {
			names = append(names, s.Name)
		}
	}
	return names
}

// waits says in which stages nothing is done for a request.
func waits(all []results.Account) map[string]bool {
	out := map[string]bool{}
	for _, a := range all {
		for _, c := range a.Classes {
			for _, s := range c.Stages {
				out[s.Name] = s.Waits
			}
		}
	}
	return out
}

// cell writes a stage of a class; nothing if it has none.
func cell(c results.Class, name string, write func(results.Stage) string) string {
	for _, s := range c.Stages {
		if s.Name == name && s.Nanoseconds > 0 {
			return write(s)
		}
	}
	return ""
}

func percentiles(t *results.Times) string {
	if t == nil || t.Histogram == nil {
		return ""
	}
	p50, unit := twoDigits(float64(t.ValueAtQuantile(50)))
	p99, of := twoDigits(float64(t.ValueAtQuantile(99)))
	if unit != of && p50 != "0" {
		p50 += " " + unit
	}
	return p50 + " / " + p99 + " " + of
}

// twoDigits writes nanoseconds with the two digits that a histogram has.
func twoDigits(ns float64) (number, unit string) {
	if ns >= 1 {
		power := math.Pow(10, math.Floor(math.Log10(ns))-1)
		ns = math.Round(ns/power) * power
	}
	p := quantity.PrefixFor(ns, "ns")
	if v := ns * p.Factor; v > 0 && v < 10 && ns >= 10 {
		return quantity.Decimals(v, 1), p.Unit
	} else {
		return quantity.Decimals(v, 0), p.Unit
	}
}

// flows are the columns of the traffic.
var flows = []struct{ device, kind, title string }{
	{"origin", "read", "origin read"}, {"origin", "write", "origin written"},
	{"store", "read", "store read"}, {"store", "write", "store written"},
	{"metadata", "read", "metadata read"}, {"metadata", "write", "metadata written"}, {"journal", "write", "journal written"},
}

// Amplification shows how many bytes devices moved for each byte that was asked for, by
// kind, and how often they were flushed.
func Amplification(all []results.Account) Table {
	header := []string{"setting", "asked for"}
	for _, f := range flows {
		header = append(header, f.title)
	}
	t := newTable(all, "amplification", "Bytes moved for each byte asked for, and flushes", append(header, "all written", "flushes a MiB")...)
	for _, a := range all {
		asked := float64(a.ReadBytes + a.WrittenBytes)
		if asked == 0 {
			continue
		}
		row := []string{label(a, all), quantity.Value(asked, "B")}
		written, flushes := int64(0), int64(0)
		for _, f := range a.Flows {
			switch f.Kind {
			case "write":
				written += f.Bytes
			case "flush":
				flushes += f.Operations
			}
		}
		for _, f := range flows {
			i := slices.IndexFunc(a.Flows, func(o results.Flow) bool { return o.Device == f.device && o.Kind == f.kind })
			text := ""
			if i >= 0 {
				text = times(float64(a.Flows[i].Bytes) / asked)
			}
			row = append(row, text)
		}
		t.Rows = append(t.Rows, append(row, times(float64(written)/asked), quantity.Number(roundTo(float64(flushes)/asked*(1<<20), 3))))
	}
	return t
}

func times(v float64) string { return quantity.Number(roundTo(v, 4)) + "x" }

func roundTo(v float64, digits int) float64 {
	power := math.Pow(10, float64(digits))
	return math.Round(v*power) / power
}

// distanceText is the upper end of a range of distances, in bytes.
func distanceText(i int) string {
	if i == 0 {
		return "0"
	}
	return strconv.FormatInt(1<<(i+9), 10)
}

// DistanceTable shows how far operations of the disk are from each other.
func DistanceTable(all []results.Account) Table {
	t := newTable(all, "distances", "Distance of operations of devices from the one before",
		"setting", "operations", "next to it", "half within", "90 % within", "all within")
	for _, a := range all {
		total := int64(0)
		for _, n := range a.Distances {
			total += n
		}
		if total == 0 {
			continue
		}
		row := []string{label(a, all), strconv.FormatInt(total, 10), percent(float64(a.Distances[0]) / float64(total))}
		for _, share := range []float64{0.5, 0.9, 1} {
			row = append(row, quantity.Bytes(distanceText(within(a.Distances, share*float64(total)))))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// within returns the range of distances up to which there are so many.
func within(distances []int64, want float64) int {
	seen := int64(0)
	for i, n := range distances {
		if seen += n; float64(seen) >= want {
			return i
		}
	}
	return len(distances) - 1
}

func percent(v float64) string { return quantity.Decimals(100*v, 1) + " %" }

// Checks holds the sums of stages against the wall time.
func Checks(all []results.Account) Table {
	t := newTable(all, "check", "Sum of the stages against the wall time that the driver has timed",
		"setting", "requests", "looked at", "stages", "wall", "difference", "error of sampling", "verdict")
	t.Numeric[7] = false
	for _, a := range all {
		c, ok := Checked(a)
		if !ok {
			continue
		}
		each := func(ns float64) string { return quantity.Value(ns/float64(c.Requests), "ns") }
		sampling := ""
		if c.Error > 0 {
			sampling = "±" + percent(c.Error/c.Wall)
		}
		t.Rows = append(t.Rows, []string{
			label(a, all), strconv.FormatInt(c.Requests, 10), strconv.FormatInt(c.Looked, 10), each(c.Stages), each(c.Wall),
			percent(c.Difference()), sampling, string(c.Verdict()),
		})
	}
	return t
}
