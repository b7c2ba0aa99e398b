// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/chunksize"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

func (a *app) tuneCommand() *cobra.Command {
	var name, model string
	var chunks []string
	cmd := &cobra.Command{
		Use:   "tune --trace FILE --device hdd|ssd|nvme",
		Short: "Find the chunk size for a trace of your own",
		Long: `Tune replays a trace on a model of the device at each chunk size, with a snapshot before
each of the trace's phases, and says which size to use, why, and what it costs in space.
Models compare layouts; they do not foretell the speed of a given drive. A trace is made
with zbench record, or is one of the built-in ones that zbench trace names.`,
		Example: "  zbench tune --trace sqlite --device ssd",
		Args:    between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := runner.TuneOptions{Model: model}
			if name == "" {
				return fmt.Errorf("%w: --trace is missing: the file of a trace, or the name of a built-in one", errUsage)
			}
			var err error
			if o.Chunks, err = each("chunks", chunks, spec.ParseSize); err != nil {
				return err
			}
			if o.Trace, err = openTrace(name); err != nil {
				return err
			}
			rows, err := runner.Tune(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.showTuned(rows, model)
		},
	}
	cmd.Flags().StringVar(&name, "trace", "", "the `file` of a trace, or the name of a built-in one")
	cmd.Flags().StringVar(&model, "device", "ssd", "the model of the device: hdd, ssd or nvme")
	cmd.Flags().StringSliceVar(&chunks, "chunks", []string{"4K", "16K", "64K", "256K", "1M"}, "chunk `sizes` to try")
	return cmd
}

// showTuned prints the table of all sizes, and which to use.
func (a *app) showTuned(rows []runner.Tuned, model string) error {
	t := table.Table{
		Kind: results.Modelled, Header: []string{"chunk", "time", "against raw", "copies", "index", "space"},
		Numeric: []bool{true, true, true, true, true, true},
	}
	size := func(n int64) string { return quantity.Value(float64(n), "B") }
	for _, r := range rows {
		t.Rows = append(t.Rows, []string{
			quantity.Bytes(fmt.Sprint(r.Chunk)), quantity.Value(float64(r.Time), "ns"), quantity.Decimals(r.Cost, 2) + " x",
			size(r.Copied), size(r.Index), size(r.Space()),
		})
	}
	if err := t.Write(a.out, table.Text); err != nil {
		return err
	}
	choices := runner.Choices(rows)
	best := rows[chunksize.Best(choices)]
	fmt.Fprintf(a.out, "\nUse a chunk size of %s on a device like the %s model: it takes %s times as long as without snapshots, %s.\n",
		quantity.Bytes(fmt.Sprint(best.Chunk)), model, quantity.Decimals(best.Cost, 2), chunksize.Reason(choices))
	_, err := fmt.Fprintf(a.out, "The snapshots of the trace take %s: %s of copies and %s of index.\n\n  ddsnap initialize --chunksize %dk SNAPDEV ORGDEV\n",
		size(best.Space()), size(best.Copied), size(best.Index), best.Chunk>>10)
	return err
}
