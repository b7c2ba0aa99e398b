// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/plot"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/results"
)

// heatMap is a heat map as part of a page, so that its titles are shown.
type heatMap struct {
	Name string
	SVG  template.HTML

	svg, png []byte
}

// maxHeatRows keeps a heat map on a screen.
const maxHeatRows = 36

// against is what times of one run are divided by, as in the figures.
func against() group.Selector { return group.Selector{"variant": "raw"} }

// costs are the times of a run's settings against those of the bare device.
func costs(set results.Set) []group.Cell {
	cells, _ := group.Cells(set, group.Query{Unit: results.NsPerOp, As: group.Cost, Against: against()})
	return cells
}

// heatOptions say what the cells of heat maps are.
type heatOptions struct {
	Name     string // of files, to which key and kind are added
	What     string
	Subtitle string
	Around1  bool
}

// heatMaps shows cells by chunk size and workload, and by placement and workload. More
// than one map is of a kind where the workloads are many.
func heatMaps(kind results.Kind, o heatOptions, cells []group.Cell) (maps []heatMap, err error) {
	for _, m := range []struct {
		key  string
		x    plot.Axis
		only []string
	}{
		{"chunk", plot.Axis{Label: "chunk size", Unit: "B"}, nil},
		{"variant", plot.Axis{Label: "placement"}, []string{"inline", "disk", "nvram", "pmem", "copybound"}},
	} {
		cells := slices.Clone(cells)
		slices.SortStableFunc(cells, func(a, b group.Cell) int { // the columns' order is that of the first seen
			return slices.Index(m.only, a.Sample.Config.Get(m.key)) - slices.Index(m.only, b.Sample.Config.Get(m.key))
		})
		all, same := pivot(kind, cells, m.key, m.only)
		for part, lines := range slices.Collect(slices.Chunk(all.Lines, maxHeatRows)) {
			s := all
			s.Lines = lines
			h := heatMap{Name: fmt.Sprintf("%s-%s-%s", o.Name, m.key, kind)}
			f := plot.HeatFigure{
				Title: fmt.Sprintf("%s by %s and workload", o.What, m.x.Label), X: m.x, Unit: "x", Subtitle: joined(o.Subtitle, same), Around1: o.Around1,
			}
			if len(all.Lines) > maxHeatRows {
				h.Name = fmt.Sprintf("%s-%d", h.Name, part+1)
				f.Subtitle = joined(f.Subtitle, fmt.Sprintf("part %d", part+1))
			}
			if err := h.draw(f.Title, plot.NewHeat(f, s)); err != nil {
				return nil, err
			}
			maps = append(maps, h)
		}
	}
	return maps, nil
}

func (h *heatMap) draw(title string, m *plot.Heat) (err error) {
	if h.svg, err = m.SVG(); err != nil {
		return err
	}
	if h.png, err = m.PNG(); err != nil {
		return err
	}
	_, element, found := strings.Cut(string(h.svg), "<svg")
	if !found {
		return fmt.Errorf("heat map %s: the document has no svg element", h.Name)
	}
	label := template.HTMLEscapeString(title)
	h.SVG = template.HTML("<svg role=\"img\" aria-label=\"" + label + "\"" + element) // what is in it is escaped by package plot
	return nil
}

// writeMaps writes the heat maps into the run's directory.
func writeMaps(run *results.Run, maps []heatMap) error {
	for _, m := range maps {
		if err := run.WriteFile("figures/"+m.Name+".svg", m.svg); err != nil {
			return err
		}
		if err := run.WriteFile("figures/"+m.Name+".png", m.png); err != nil {
			return err
		}
	}
	return nil
}

// pivot makes a line of each workload, which is all settings but the one called key, with
// a point for each value of key, if it has two at least. It returns what the workloads have
// in common, too, which their names leave out.
func pivot(kind results.Kind, cells []group.Cell, key string, only []string) (s group.Series, same string) {
	s.Kind = kind
	cells = slices.DeleteFunc(slices.Clone(cells), func(c group.Cell) bool {
		v := c.Sample.Config.Get(key)
		return v == "" || only != nil && !slices.Contains(only, v)
	})
	at := map[string]int{}
	var of []group.Cell // one of each line
	for _, c := range cells {
		name := workload(c.Sample, key, nil)
		i, known := at[name]
		if !known {
			i = len(s.Lines)
			at[name] = i
			s.Lines, of = append(s.Lines, group.Line{}), append(of, c)
		}
		s.Lines[i].Points = append(s.Lines[i].Points, group.Point{X: c.Sample.Config.Get(key), Estimate: c.Estimate})
	}
	for i := len(s.Lines) - 1; i >= 0; i-- {
		if len(s.Lines[i].Points) < 2 {
			s.Lines, of = slices.Delete(s.Lines, i, i+1), slices.Delete(of, i, i+1)
		}
	}
	common := commonOf(of, key)
	for i := range s.Lines {
		s.Lines[i].Name = workload(of[i].Sample, key, common)
	}
	var texts []string
	for _, p := range common {
		texts = append(texts, settingText(p.Key, p.Value))
	}
	return s, strings.Join(texts, ", ")
}

// commonOf returns the settings that all have, with one value.
func commonOf(cells []group.Cell, key string) (common results.Config) {
	if len(cells) < 2 {
		return nil
	}
	for _, p := range cells[0].Sample.Config {
		differs := func(c group.Cell) bool { return c.Sample.Config.Get(p.Key) != p.Value }
		if p.Key != key && p.Key != "op" && !slices.ContainsFunc(cells, differs) {
			common = append(common, p)
		}
	}
	return common
}

// workload names a sample by its settings without key and those that others have, too.
func workload(s results.Sample, key string, without results.Config) string {
	name := s.Experiment
	for _, p := range s.Config {
		switch {
		case p.Key == key || without.Get(p.Key) != "":
		case p.Key == "op" || p.Key == "variant" || p.Key == "model":
			name += " " + p.Value
		case p.Key == "chunk":
			name += " " + quantity.Bytes(p.Value)
		default:
			name += " " + p.Key + " " + p.Value
		}
	}
	return name
}
