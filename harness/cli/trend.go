// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/analysis/trend"
	"zumastor.org/zumastor/results/history"
)

func (a *app) trendCommand() *cobra.Command {
	var dir, out string
	cmd := &cobra.Command{
		Use:   "trend",
		Short: "Make the page of what is recorded over time",
		Long: `Trend makes a page of the history: a figure for each metric that is measured or has
changed, with the changes marked, and tables. It needs no network and no other file.
Beside it is trend.md, the table of changes in Markdown.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return a.trend(dir, out) },
	}
	cmd.Flags().StringVar(&dir, "history", history.Dir, "the `directory` of the history")
	cmd.Flags().StringVar(&out, "out", "results/trend", "the `directory` of the page")
	return cmd
}

func (a *app) trend(dir, out string) error {
	h, err := history.Load(dir)
	if err != nil {
		return err
	}
	r := trend.Judge(h)
	page, err := trend.Page(r)
	if err != nil {
		return err
	}
	var md bytes.Buffer
	if err := r.Write(&md, table.Markdown); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"trend.html": page, "trend.md": md.Bytes()} {
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(a.out, filepath.Join(out, "trend.html"))
	return err
}
