// SPDX-License-Identifier: Apache-2.0

package where

import (
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/plot"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// Picture is a chart with the name of its file, without extension.
type Picture struct {
	Name, Title string
	Chart       *plot.Chart
}

// mostBars is how many bars a figure has at most, if there is a way to have fewer.
const mostBars = 18

// Bars returns figures of where the time of requests went: for each class, a bar for
// each setting, in several figures where there are many.
func Bars(all []results.Account) []Picture {
	all = sorted(all)
	var out []Picture
	for _, class := range classes(all) {
		var with []results.Account
		for _, a := range all {
			if c := find(a, class); c != nil && c.Nanoseconds > 0 {
				with = append(with, a)
			}
		}
		if len(with) == 0 {
			continue
		}
		for _, part := range parts(with) {
			if slices.ContainsFunc(part, engine) {
				out = append(out, barsOf(class, part))
			}
		}
	}
	return out
}

// engine reports whether an account is of the engine, and not only of what it is
// compared with.
func engine(a results.Account) bool {
	v := a.Config.Get("variant")
	return v != "raw" && v != "copybound"
}

// parts divides accounts into figures: by model and operation, and by further settings
// while there are too many.
func parts(all []results.Account) [][]results.Account {
	keys := []string{"model", "op"}
	for _, further := range []string{"qd", "variant", "snapshots"} {
		if len(largest(split(all, keys...))) <= mostBars {
			break
		}
		keys = append(keys, further)
	}
	return split(all, keys...)
}

func largest(parts [][]results.Account) []results.Account {
	return slices.MaxFunc(parts, func(a, b []results.Account) int { return len(a) - len(b) })
}

// classes returns the classes of requests that there are, in their order.
func classes(all []results.Account) []string {
	order := []string{firstWrite, "settled write", "origin read", "snapshot read, unchanged", "snapshot read, changed", "snapshot write"}
	return slices.DeleteFunc(order, func(name string) bool {
		return !slices.ContainsFunc(all, func(a results.Account) bool { return find(a, name) != nil })
	})
}

// find returns a class of an account, nil if there is none.
func find(a results.Account, class string) *results.Class {
	for i := range a.Classes {
		if a.Classes[i].Name == class && a.Classes[i].Requests > 0 {
			return &a.Classes[i]
		}
	}
	return nil
}

func barsOf(class string, part []results.Account) Picture {
	var bars []plot.Bar
	for _, a := range part {
		c := find(a, class)
		bar := plot.Bar{Label: label(a, part)}
		for _, s := range c.Stages {
			bar.Segments = append(bar.Segments, plot.Segment{Name: s.Name, Value: float64(s.Nanoseconds) / per(a, c)})
		}
		bars = append(bars, bar)
	}
	title, axis := "Where the time went: "+class, "time of a request"
	if part[0].Kind == results.Modelled {
		axis = "time for each request of a group"
	}
	return Picture{
		Name: name("where", class, part), Title: title,
		Chart: plot.Stacked(plot.Figure{Title: title, Subtitle: common(part), X: plot.Axis{Label: axis, Unit: "ns"}}, part[0].Kind, bars),
	}
}

// per returns what times of a class are divided by. A request takes as long as its
// group; on a model, where nothing else goes on, it has its share of that.
func per(a results.Account, c *results.Class) float64 {
	if a.Kind == results.Modelled {
		return float64(c.Requests)
	}
	return float64(c.Groups)
}

// name makes the name of a figure's file.
func name(what, class string, part []results.Account) string {
	all := []string{strings.ToLower(part[0].Experiment), what, strings.NewReplacer(" ", "", ",", "-").Replace(class)}
	for _, p := range part[0].Config {
		same := !slices.ContainsFunc(part, func(o results.Account) bool { return o.Config.Get(p.Key) != p.Value })
		if same && (p.Key != "variant" || len(part) > 1 || what == "where") {
			all = append(all, p.Key+p.Value)
		}
	}
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
	return strings.Join(append(all, string(part[0].Kind)), "-")
}

// Distances returns figures of how far from each other the operations of the disk were:
// for each operation, on the first model (the places are the same on all), at the
// greatest queue depth and with the chunks nearest to 64 KiB, a line for each variant.
func Distances(all []results.Account) []Picture {
	var out []Picture
	for _, part := range split(sorted(all), "op") {
		if part = representative(part); !slices.ContainsFunc(part, engine) {
			continue
		}
		s := group.Series{Kind: part[0].Kind}
		for _, a := range part {
			if points := cumulative(a.Distances); len(points) > 0 {
				s.Lines = append(s.Lines, group.Line{Name: label(a, part), Points: points})
			}
		}
		if len(s.Lines) == 0 {
			continue
		}
		title := "How far from the one before operations of devices begin"
		out = append(out, Picture{
			Name: name("distance", "", part), Title: title,
			Chart: plot.Lines(plot.Figure{
				Title: title, Subtitle: common(part), Counted: true,
				X: plot.Axis{Label: "distance at most", Scale: plot.Log, Unit: "B"}, Y: plot.Axis{Label: "share of operations", Unit: "%"},
			}, s),
		})
	}
	return out
}

// representative returns the accounts at the greatest queue depth, of the most snapshots
// held, and with the chunks that are nearest to 64 KiB.
func representative(part []results.Account) []results.Account {
	model := part[0].Config.Get("model")
	part = keep(part, func(a results.Account) bool { return a.Config.Get("model") == model })
	for _, key := range []string{"qd", "snapshots"} {
		best := part[0].Config.Get(key)
		for _, a := range part {
			if v := a.Config.Get(key); compare(key, v, best) > 0 {
				best = v
			}
		}
		part = keep(part, func(a results.Account) bool { v := a.Config.Get(key); return v == "" || v == best })
	}
	best := ""
	for _, a := range part {
		if v := a.Config.Get("chunk"); v != "" && (best == "" || compare("chunk", v, "65536") <= 0) {
			best = v
		}
	}
	return keep(part, func(a results.Account) bool { v := a.Config.Get("chunk"); return v == "" || v == best })
}

func keep(all []results.Account, ok func(results.Account) bool) []results.Account {
	return slices.DeleteFunc(slices.Clone(all), func(a results.Account) bool { return !ok(a) })
}

// cumulative returns the share of operations up to each distance, in percent.
func cumulative(distances []int64) []group.Point {
	total, seen := int64(0), int64(0)
	for _, n := range distances {
		total += n
	}
	var points []group.Point
	for i, n := range distances {
		seen += n
		points = append(points, group.Point{X: distanceText(i), Estimate: stats.Exact([]float64{100 * float64(seen) / float64(total)})})
	}
	if total == 0 {
		return nil
	}
	return points
}
