// SPDX-License-Identifier: Apache-2.0

package page

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strconv"

	"zumastor.org/zumastor/results"
)

//go:embed explore.js
var exploreScript string

//go:embed explore.html
var exploreText string

// explored is what the explorer's script reads.
type explored struct {
	Cells []*cell `json:"cells"`
}

// cell is the rounds of one setting.
type cell struct {
	Name       string            `json:"name"`
	Run        string            `json:"run"`
	Kind       results.Kind      `json:"kind"`
	Experiment string            `json:"experiment"`
	Config     map[string]string `json:"config"`
	Rounds     []int             `json:"rounds"`
	// Values has a number for each round, null where a round has none of the unit.
	Values map[string][]*float64 `json:"values"`
}

// Explorer returns a section in which a reader with scripts chooses axes, filters by
// settings, zooms, and sees the samples of runs; all is in it, and it asks nothing of any
// network. Without scripts it says so. A page holds one.
func Explorer(runs ...*results.Run) (template.HTML, error) {
	t, err := template.New("explore").Parse(exploreText)
	if err != nil {
		return "", err
	}
	var data explored
	for _, run := range runs {
		data.add(run)
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Data   explored
		Script template.JS
	}{data, template.JS(exploreScript)})
	if err != nil {
		return "", fmt.Errorf("making the explorer: %w", err)
	}
	return template.HTML(b.String()), nil
}

func (d *explored) add(run *results.Run) {
	for _, set := range []results.Set{run.Measured(), run.Modelled()} {
		at := map[string]*cell{}
		for s := range set.All() {
			c := at[s.Name()]
			if c == nil {
				c = &cell{Name: s.Name(), Run: run.Manifest().ID, Kind: s.Kind, Experiment: s.Experiment, Config: map[string]string{}, Values: map[string][]*float64{}}
				for _, p := range s.Config {
					c.Config[p.Key] = p.Value
				}
				at[s.Name()] = c
				d.Cells = append(d.Cells, c)
			}
			c.Rounds = append(c.Rounds, s.Round)
			for unit, v := range s.Values {
				v = short(v)
				missing := len(c.Rounds) - 1 - len(c.Values[unit])
				c.Values[unit] = append(append(c.Values[unit], make([]*float64, missing)...), &v)
			}
		}
	}
}

// short keeps the digits of a value that a figure can show.
func short(v float64) float64 {
	s, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if err != nil {
		return v
	}
	return s
}
