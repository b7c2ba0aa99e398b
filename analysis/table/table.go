// SPDX-License-Identifier: Apache-2.0

// Package table writes tables as text for terminals and as Markdown.
//
// It owns alignment and escaping and the form of the tables that zbench prints:
// of a series, of goals, of a comparison. A table of numbers has one kind of
// them; what would mix kinds is an error, and goals come as two tables. Values
// are immutable once rendered; functions are pure but for the writer.
package table

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/results"
)

// Format is how a table is written.
type Format uint8

// The formats.
const (
	Text Format = iota
	Markdown
)

// Table is a header and rows of equal length. Columns of numbers are aligned to
// the right.
type Table struct {
	// Kind is that of the table's numbers; "" for a table without samples.
	Kind    results.Kind
	Header  []string
	Numeric []bool
	Rows    [][]string
}

// Write renders the table.
func (t Table) Write(w io.Writer, f Format) error {
	align := make([]tw.Align, len(t.Header))
	for i := range align {
		align[i] = tw.AlignLeft
		if i < len(t.Numeric) && t.Numeric[i] {
			align[i] = tw.AlignRight
		}
	}
	opts := []tablewriter.Option{
		tablewriter.WithHeaderAutoFormat(tw.Off), // it would turn "p99 µs" into "P 99 ΜS"
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithAlignment(align),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAlignmentConfig(tw.CellAlignment{PerColumn: align}),
	}
	clean := plain
	if f == Markdown {
		clean = escape
		opts = append(opts, tablewriter.WithRenderer(renderer.NewMarkdown()))
	} else {
		opts = append(opts, tablewriter.WithRendition(tw.Rendition{
			Symbols: tw.NewSymbols(tw.StyleLight),
			Borders: tw.BorderNone,
			Settings: tw.Settings{
				Separators: tw.Separators{BetweenRows: tw.Off, BetweenColumns: tw.Off},
				Lines:      tw.Lines{ShowHeaderLine: tw.On, ShowTop: tw.Off, ShowBottom: tw.Off},
			},
		}))
	}
	out := tablewriter.NewTable(w, opts...)
	out.Header(cells(t.Header, clean))
	for _, r := range t.Rows {
		if err := out.Append(cells(r, clean)); err != nil {
			return fmt.Errorf("writing a table: %w", err)
		}
	}
	if err := out.Render(); err != nil {
		return fmt.Errorf("writing a table: %w", err)
	}
	return nil
}

func cells(row []string, clean func(string) string) []string {
	out := make([]string, len(row))
	for i, c := range row {
		out[i] = clean(c)
	}
	return out
}

// plain keeps a cell on one line.
func plain(s string) string { return strings.Join(strings.Fields(s), " ") }

// escape does so and keeps Markdown from reading the cell's characters as its own.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`").Replace(plain(s))
}

// String renders the table as text.
func (t Table) String() string {
	var b strings.Builder
	if err := t.Write(&b, Text); err != nil {
		return err.Error()
	}
	return b.String()
}

// OfSeries makes a table with a row for each X and a column for each line. The
// unit is in the cells, for it may change its prefix.
func OfSeries(s group.Series, xLabel, xUnit string) Table {
	t := Table{Kind: s.Kind, Header: []string{xLabel}, Numeric: []bool{true}}
	for _, l := range s.Lines {
		t.Header = append(t.Header, l.Name)
		t.Numeric = append(t.Numeric, true)
	}
	unit := s.Query.Unit
	if s.Query.As != group.Absolute {
		unit = "x"
	}
	for _, x := range s.Xs() {
		name := x
		if xUnit == "B" {
			name = quantity.Bytes(x)
		}
		row := []string{name}
		for _, l := range s.Lines {
			e, _ := l.At(x)
			row = append(row, quantity.Quantity(e, unit))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// Join puts the columns of b beside those of a, row by row of equal first cells.
// Tables of different kinds are an error wrapping [results.ErrKind].
func Join(a, b Table) (Table, error) {
	if a.Kind != b.Kind {
		return Table{}, fmt.Errorf("joining tables: %w: one is %s, one is %s", results.ErrKind, a.Kind, b.Kind)
	}
	if len(a.Rows) != len(b.Rows) {
		return Table{}, errors.New("joining tables: they have different rows")
	}
	out := Table{
		Kind:    a.Kind,
		Header:  append(slices.Clone(a.Header), b.Header[1:]...),
		Numeric: append(slices.Clone(a.Numeric), b.Numeric[1:]...),
	}
	for i, r := range a.Rows {
		if r[0] != b.Rows[i][0] {
			return Table{}, errors.New("joining tables: they have different rows")
		}
		out.Rows = append(out.Rows, append(slices.Clone(r), b.Rows[i][1:]...))
	}
	return out, nil
}

// OfGoals makes two tables of the goals: measured ones and modelled ones.
func OfGoals(rows []goals.Row) (measured, modelled Table) {
	head := []string{"goal", "value", "wanted", "n", "status", "what"}
	numeric := []bool{false, true, true, true, false, false}
	measured = Table{Kind: results.Measured, Header: head, Numeric: numeric}
	modelled = Table{Kind: results.Modelled, Header: head, Numeric: numeric}
	for _, r := range rows {
		row := []string{
			r.Name, quantity.Quantity(r.Estimate, r.Unit),
			r.Wanted(),
			fmt.Sprint(r.N), string(r.Status), r.What,
		}
		if r.Kind == results.Modelled {
			modelled.Rows = append(modelled.Rows, row)
		} else {
			measured.Rows = append(measured.Rows, row)
		}
	}
	return measured, modelled
}

// OfComparison makes a table of two runs' settings.
func OfComparison(r regress.Report) Table {
	t := Table{
		Kind: r.Kind, Header: []string{"setting", "old", "new", "speed", "p", "verdict"},
		Numeric: []bool{false, true, true, true, true, false},
	}
	for _, row := range r.Rows {
		p := quantity.None
		if r.Kind == results.Measured {
			p = quantity.Decimals(row.P, 3)
		}
		t.Rows = append(t.Rows, []string{
			row.Name, quantity.Quantity(row.Old, row.Unit), quantity.Quantity(row.New, row.Unit),
			quantity.Quantity(row.Speed, "x"), p, string(row.Verdict),
		})
	}
	return t
}
