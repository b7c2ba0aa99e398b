// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
)

// eventsFlags are the flags of events.
type eventsFlags struct {
	*targetFlags
	follow bool
	since  uint64
}

func (a *app) events() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [flags] SERVER|STORE",
		Short: "Show what has happened to a store",
		Long: `Events prints what has happened since the server has had the store open, as far as
it remembers: snapshots made, deleted, or given up for space; the store filling up
and being full; damage found; clients coming and going. With --follow it goes on
with what happens, until it is interrupted.

Events are numbered. Who was too slow is told how many were missed.`,
		Example: `  ddsnap events /srv/vm.store
  ddsnap events --follow --json /srv/vm.store | jq -r .line`,
		Args: args(1, 1, "SERVER|STORE"),
	}
	f := &eventsFlags{targetFlags: a.targetFlags(cmd)}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "wait for more")
	cmd.Flags().Uint64Var(&f.since, "since", 0, "begin after the event of this `number`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.watch(cmd.Context(), args[0], f.targetFlags, "there are no events", func(ctx context.Context, t *target) error {
			return a.runEvents(ctx, t, f)
		})
	}
	return cmd
}

func (a *app) runEvents(ctx context.Context, t *target, f *eventsFlags) error {
	query := admin.EventQuery{Since: f.since}
	for {
		asking, cancel := context.WithTimeoutCause(ctx, max(a.timeout, time.Minute), errors.New("no answer"))
		r, err := t.Do(asking, admin.Request{Verb: admin.VerbEvents, Events: &query})
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil // interrupted: that is how it ends
		case err != nil:
			return fmt.Errorf("asking for events: %w", err)
		}
		for _, e := range r.Events {
			query.Since = e.Number
			if err := a.printEvent(e); err != nil {
				return err
			}
		}
		if !f.follow {
			return nil
		}
		query.Wait = true
	}
}

func (a *app) printEvent(e admin.Event) error {
	if a.json {
		return json.NewEncoder(a.Out).Encode(e)
	}
	if e.Missed > 0 {
		fmt.Fprintf(a.Out, "(%s missed)\n", plural(int(e.Missed), "event"))
	}
	_, err := fmt.Fprintf(a.Out, "%s  %s\n", formatTime(e.Time), e.Line)
	return err
}
