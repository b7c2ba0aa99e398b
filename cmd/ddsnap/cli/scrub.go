// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
)

func (a *app) scrub() *cobra.Command {
	return family(&cobra.Command{
		Use:   "scrub",
		Short: "Verify copied chunks while a server runs",
		Long: `Scrub has a running server read all chunks that were copied out and verify their
checksums, in the background. What was written to snapshots has no checksums. A
store that no server has open is verified with "check --data".`,
	}, a.scrubStart(), a.scrubStop(), a.scrubStatus())
}

func (a *app) scrubStart() *cobra.Command {
	var s admin.Scrub
	var rate size
	cmd := &cobra.Command{
		Use:   "start [flags] SERVER|STORE",
		Short: "Begin to verify, or go on",
		Long: `Start begins a scrub, or goes on where the last one was stopped. Of one that is
running it changes the rate.`,
		Example: `  ddsnap scrub start --rate 20m /srv/vm.store`,
		Args:    args(1, 1, "SERVER|STORE"),
	}
	f := a.targetFlags(cmd)
	cmd.Flags().VarP(&rate, "rate", "r", "read at most so much a second (default no limit)")
	cmd.Flags().BoolVar(&s.Again, "again", false, "begin with the first chunk, even if the last one was stopped midway")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.Rate = int64(rate)
		return a.runScrub(cmd.Context(), args[0], f, admin.Request{Verb: admin.VerbScrubStart, Scrub: &s}, false)
	}
	return cmd
}

func (a *app) scrubStop() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "stop [flags] SERVER|STORE",
		Short:   "Stop verifying",
		Long:    `Stop ends a scrub that is running. The next one goes on from there.`,
		Example: `  ddsnap scrub stop /srv/vm.store`,
		Args:    args(1, 1, "SERVER|STORE"),
	}
	f := a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.runScrub(cmd.Context(), args[0], f, admin.Request{Verb: admin.VerbScrubStop}, false)
	}
	return cmd
}

func (a *app) scrubStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [flags] SERVER|STORE",
		Short: "Show how far a scrub has come, and what it has found",
		Long: `Status shows how far the scrub has come, and each chunk that was found bad: where it
is, and which snapshots show it. It exits with 7 if there are such.`,
		Example: `  ddsnap scrub status /srv/vm.store`,
		Args:    args(1, 1, "SERVER|STORE"),
	}
	f := a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.runScrub(cmd.Context(), args[0], f, admin.Request{Verb: admin.VerbScrubStatus}, true)
	}
	return cmd
}

func (a *app) runScrub(ctx context.Context, name string, f *targetFlags, r admin.Request, show bool) error {
	return a.with(ctx, name, f, true, func(ctx context.Context, t *target) error {
		if t.offline != nil {
			return noServer(t, "verify it with \"ddsnap check --data\"")
		}
		got, err := t.Do(ctx, r)
		switch {
		case err != nil:
			return fmt.Errorf("scrubbing %s: %w", t.name, err)
		case a.json:
			err = a.printJSON(got.Scrub)
		case show:
			err = a.printScrub(got.Scrub)
		}
		if n := got.Scrub.BadCount; err == nil && show && n > 0 {
			return codeError{fmt.Errorf("%s: %s bad: copy what you need from the snapshots that show them, then delete those", t.name, plural(int(n), "chunk")), exitDamaged}
		}
		return err
	})
}

func (a *app) printScrub(s *admin.ScrubStatus) error {
	if err := printFields(a.Out, scrubFields(s)); err != nil || len(s.Bad) == 0 {
		return err
	}
	rows := make([][]string, len(s.Bad))
	for i, b := range s.Bad {
		tags := make([]string, len(b.Snapshots))
		for k, tag := range b.Snapshots {
			tags[k] = formatTag(tag)
		}
		if b.More > 0 {
			tags = append(tags, fmt.Sprintf("and %s more", formatCount(b.More)))
		}
		rows[i] = []string{fmt.Sprint(b.Chunk), fmt.Sprint(b.Slot), fmt.Sprint(b.Offset), strings.Join(tags, " "), b.Reason}
	}
	fmt.Fprintln(a.Out)
	return printColumns(a.Out, []bool{false, false, false, true, true}, []string{"CHUNK", "SLOT", "OFFSET", "SNAPSHOTS", "REASON"}, rows)
}

func scrubFields(s *admin.ScrubStatus) [][2]string {
	state := "never run since the store was opened"
	switch {
	case s.Running && s.Rate > 0:
		state = "running, at most " + formatSize(s.Rate) + "/s"
	case s.Running:
		state = "running"
	case s.Error != "":
		state = "failed: " + s.Error
	case s.Complete:
		state = "complete"
	case s.Started != nil:
		state = "stopped midway: \"ddsnap scrub start\" goes on"
	}
	fields := [][2]string{
		{"Scrub", state},
		{"Verified", fmt.Sprintf("%s of %s chunks, %s read", formatCount(s.Verified), formatCount(max(s.Verified, s.Total)), formatSize(s.Bytes))},
		{"Bad", plural(int(s.BadCount), "chunk")},
	}
	if s.Started != nil {
		fields = append(fields, [2]string{"Started", formatTime(*s.Started)})
	}
	if s.Ended != nil {
		fields = append(fields, [2]string{"Ended", formatTime(*s.Ended)})
	}
	return fields
}
