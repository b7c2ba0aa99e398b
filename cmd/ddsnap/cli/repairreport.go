// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/repair"
)

// repairJSON is what --json prints.
type repairJSON struct {
	Old        string           `json:"old_uuid"`
	New        string           `json:"new_uuid,omitempty"`
	Whole      bool             `json:"whole"`
	Guessed    bool             `json:"sizes_guessed"`
	LostPages  uint64           `json:"lost_pages"`
	Exceptions uint64           `json:"exceptions"`
	Lost       uint64           `json:"lost_exceptions"`
	Snapshots  []repairSnapshot `json:"snapshots"`
	Gone       []repairSnapshot `json:"lost_snapshots"`
	Problems   []string         `json:"problems"`
}

// repairSnapshot is what became of a snapshot.
type repairSnapshot struct {
	Tag        block.Tag `json:"tag"`
	Name       string    `json:"name,omitempty"`
	Exceptions uint64    `json:"exceptions"`
	Lost       uint64    `json:"lost_exceptions"`
	Damaged    bool      `json:"damaged"`
}

// print says what was, or would be, repaired.
func (r *repairing) print(report *repair.Report) error {
	if r.app.json {
		return r.app.printJSON(describeRepair(report))
	}
	for _, problem := range report.Problems {
		fmt.Fprintln(r.app.Out, problem)
	}
	made := r.new.Store
	if r.dryRun {
		made = "nothing was made (--dry-run)"
	}
	sizes := "from a superblock"
	if report.Guessed {
		sizes = "guessed from what was found"
	}
	fields := [][2]string{
		{"Old store", fmt.Sprintf("%v on %s", report.Old, r.old.Store)},
		{"New store", made},
		{"Sizes", sizes},
		{"Lost pages", fmt.Sprintf("%s of the metadata", formatCount(report.LostPages))},
		{"Exceptions", fmt.Sprintf("%s, %s of them lost", formatCount(report.Exceptions), formatCount(report.Lost))},
	}
	if err := printFields(r.app.Out, fields); err != nil {
		return err
	}
	d := describeRepair(report)
	rows := make([][]string, 0, len(d.Snapshots)+len(d.Gone))
	for _, s := range d.Snapshots {
		state := "whole"
		switch {
		case s.Damaged:
			state = "damaged: more may be lost"
		case s.Lost > 0:
			state = "reading what is lost is an error"
		}
		rows = append(rows, []string{formatTag(s.Tag), formatCount(s.Exceptions), formatCount(s.Lost), state, s.Name})
	}
	for _, s := range d.Gone {
		rows = append(rows, []string{formatTag(s.Tag), "", "", "gone, with what it is a snapshot of", s.Name})
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(r.app.Out)
	return printColumns(r.app.Out, []bool{true, false, false, true, true}, []string{"TAG", "CHUNKS", "LOST", "STATE", "NAME"}, rows)
}

func describeRepair(report *repair.Report) repairJSON {
	d := repairJSON{
		Old: report.Old.String(), Whole: report.Whole(), Guessed: report.Guessed, LostPages: report.LostPages,
		Exceptions: report.Exceptions, Lost: report.Lost, Snapshots: []repairSnapshot{}, Gone: []repairSnapshot{}, Problems: report.Problems,
	}
	if report.New != (layout.UUID{}) {
		d.New = report.New.String()
	}
	for _, s := range report.Snapshots {
		d.Snapshots = append(d.Snapshots, repairSnapshot{s.Tag, s.Name, s.Exceptions, s.Lost, s.Damaged})
	}
	for _, s := range report.LostSnapshot {
		d.Gone = append(d.Gone, repairSnapshot{Tag: s.Tag, Name: s.Name, Damaged: true})
	}
	return d
}
