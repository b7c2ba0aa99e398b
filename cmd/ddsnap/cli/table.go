// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// printTable prints rows under a head: the first left columns aligned to the left,
// the others, which hold numbers, to the right.
func printTable(w io.Writer, left int, head []string, rows [][]string) error {
	aligned := make([]bool, len(head))
	for i := range aligned {
		aligned[i] = i < left
	}
	return printColumns(w, aligned, head, rows)
}

// printColumns prints rows under a head, each column aligned to the left or to the
// right.
func printColumns(w io.Writer, left []bool, head []string, rows [][]string) error {
	rows = append([][]string{head}, rows...)
	widths := make([]int, len(head))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line []string
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if !left[i] {
				pad, cell = "", pad+cell
			}
			line = append(line, cell+pad)
		}
		b.WriteString(strings.TrimRight(strings.Join(line, "  "), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printFields prints names with their values.
func printFields(w io.Writer, fields [][2]string) error {
	width := 0
	for _, f := range fields {
		width = max(width, len(f[0]))
	}
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f[0] + ":" + strings.Repeat(" ", width-len(f[0])+2) + f[1] + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
