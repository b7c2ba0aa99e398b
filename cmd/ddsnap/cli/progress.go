// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// showProgress says how long work shows how far it is.
type showProgress string

// The ways to show progress.
const (
	progressAuto showProgress = "auto" // a bar on a terminal, nothing elsewhere
	progressJSON showProgress = "json" // a line of JSON for each per cent
	progressNone showProgress = "none"
)

// String implements pflag.Value.
func (p *showProgress) String() string { return string(*p) }

// Type implements pflag.Value.
func (p *showProgress) Type() string { return "how" }

// Set implements pflag.Value.
func (p *showProgress) Set(text string) error {
	switch *p = showProgress(text); *p {
	case progressAuto, progressJSON, progressNone:
		return nil
	}
	return fmt.Errorf("%q is none of auto, json and none", text)
}

// progressFlag adds --progress to a verb that can take long.
func (a *app) progressFlag(cmd *cobra.Command) {
	a.show = progressAuto
	cmd.Flags().Var(&a.show, "progress", "show progress on standard error: auto, json or none")
	_ = cmd.RegisterFlagCompletionFunc("progress", cobra.FixedCompletions([]string{"auto", "json", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// progress returns a function that shows how far the work is, nil where nobody
// would see it, and one that ends the show. Neither may be called concurrently.
func (a *app) progress(doing string) (show func(done, total uint64), finish func()) {
	switch {
	case a.show == progressJSON:
		return progressLines(a.Err, doing), func() {}
	case a.show == progressAuto && !a.json && isTerminal(a.Err):
		return progressBar(a.Err, doing)
	}
	return nil, func() {}
}

// progressLine is what --progress json prints.
type progressLine struct {
	Doing string `json:"doing"`
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
}

// progressLines prints a line whenever another per cent is done.
func progressLines(w io.Writer, doing string) func(done, total uint64) {
	next := 0.0
	return func(done, total uint64) {
		total = max(total, 1)
		percent := 100 * float64(done) / float64(total)
		if percent < next {
			return
		}
		next = float64(int(percent)) + 1
		_ = json.NewEncoder(w).Encode(progressLine{doing, done, total}) // nobody need listen
	}
}

// progressBar draws a bar, which goes when the work is done.
func progressBar(w io.Writer, doing string) (show func(done, total uint64), finish func()) {
	p := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40))
	bar := p.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(doing+" ")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)))
	show = func(done, total uint64) {
		bar.SetTotal(int64(max(total, 1)), false)
		bar.SetCurrent(int64(done))
	}
	return show, func() {
		bar.SetTotal(-1, true)
		p.Wait()
	}
}
