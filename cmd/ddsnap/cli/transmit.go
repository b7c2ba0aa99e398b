// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/replicate"
)

// transmission is one run of transmit.
type transmission struct {
	destinations
	coding   deltaCreation // how it is coded, for each target anew
	rate     bitrate
	rateFile string
	giveUp   time.Duration
	limiter  *replicate.Limiter
}

func (a *app) transmit() *cobra.Command {
	x := &transmission{destinations: destinations{app: a}, coding: deltaCreation{app: a}}
	cmd := &cobra.Command{
		Use:   "transmit [flags] --to [NAME@]HOST[:PORT]|--via COMMAND|--pipe SERVER|STORE [SNAPSHOT]",
		Short: "Send a snapshot to copies of the volume on other machines",
		Long: `Transmit sends the snapshot, or without one the newest of the origin, to each target,
where "ddsnap delta listen" makes it a snapshot of the copy. What is sent is a delta from
the newest snapshot that the copy has, or all of the volume if it has none.

With --to, the target is NAME in the file of peers, which is HOST unless given, and must prove to be
it. With --via, COMMAND is run by the shell, and its standard input and output are the
connection, such as ssh makes. After a cut, transmit connects again, and goes on at the record
that was being written, until --give-up passes without progress. With --pipe, standard
input and output are the connection, once.

The server of SERVER|STORE may be restarted meanwhile; see --server-wait.

All targets together get what --rate allows; --rate-file is looked at each second, and has a
rate such as 20mbit, or "none"; while it is empty the rate stays. The snapshots cannot be
deleted until all targets have acknowledged the newer one.`,
		Example: `  ddsnap transmit --to copy --to far@192.0.2.7:4321 /srv/vm.store
  ddsnap transmit --via 'ssh copy ddsnap delta listen --stdio /srv/copy.store' /srv/vm.store tuesday`,
	}
	cmd.Args = func(cmd *cobra.Command, got []string) error {
		if err := args(1, 2, "SERVER|STORE", "SNAPSHOT")(cmd, got); err != nil {
			return err
		}
		return x.check()
	}
	x.flags(cmd)
	f := a.targetFlags(cmd)
	a.progressFlag(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var ref *admin.Ref
		if len(args) == 2 {
			r, err := parseRef(args[1])
			if err != nil {
				return err
			}
			ref = &r
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		dials, err := x.targets()
		if err != nil {
			return err
		}
		t, err := a.open(ctx, args[0], f, true)
		if err != nil {
			return err
		}
		return errors.Join(x.run(ctx, t, ref, dials), t.close())
	}
	return cmd
}

func (x *transmission) flags(cmd *cobra.Command) {
	x.add(cmd, "send to")
	fl := cmd.Flags()
	fl.Var(&x.rate, "rate", "send at most at this `rate`, such as 20mbit")
	fl.StringVar(&x.rateFile, "rate-file", "", "`file` with the rate, which may change")
	fl.DurationVar(&x.giveUp, "give-up", replicate.DefaultGiveUp, "end after so long without progress; 0: with the first cut")
	x.coding.flags(cmd)
}

// check reads the flags that pflag does not check.
func (x *transmission) check() error {
	if err := x.destinations.check(); err != nil {
		return err
	}
	switch {
	case x.rate != 0 && x.rateFile != "":
		return usageError{errors.New("--rate and --rate-file both say how fast to send")}
	}
	if x.coding.codec == best || x.coding.codec == "" {
		probe := x.coding
		return probe.parseFlags()
	}
	id, err := codec.Parse(x.coding.codec)
	if err != nil {
		return usageError{err}
	}
	probe := x.coding
	if id.NeedsBase() {
		probe.from = &admin.Ref{}
	}
	return probe.parseFlags()
}

// transmitted is what transmit --json prints.
type transmitted struct {
	Snapshot replicate.Copy `json:"snapshot"`
	Targets  []delivered    `json:"targets"`
}

type delivered struct {
	To      string          `json:"to"`
	There   bool            `json:"was_there"`
	Base    *replicate.Copy `json:"base,omitempty"`
	Start   int64           `json:"start_bytes"` // offset from which on the last session sent
	Content int64           `json:"content_bytes"`
	Bytes   int64           `json:"delta_bytes"` // of that session
	Error   string          `json:"error,omitempty"`
}

func (x *transmission) run(ctx context.Context, t *target, ref *admin.Ref, dials []dialer) (err error) {
	o, err := x.coding.content.opener(ctx, x.app, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	snap, err := x.app.findOrNewest(ctx, t, ref)
	if err != nil {
		return err
	}
	kept, err := o.open(snap)
	if err != nil {
		return explain(t, admin.Ref{Tag: snap.Tag}, "reading", err)
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	stop, err := x.limit(ctx)
	if err != nil {
		return err
	}
	defer stop()
	show := x.app.transfers(len(dials))
	res := transmitted{Targets: make([]delivered, len(dials))}
	errs := make([]error, len(dials))
	var all sync.WaitGroup
	for i, d := range dials {
		s := shipment{transmission: x, target: t, opener: o, snapshot: snap, show: show.target(d.name)}
		all.Go(func() {
			res.Targets[i], errs[i] = s.deliver(ctx, d)
			res.Targets[i].To = d.name
			if errs[i] != nil {
				errs[i] = fmt.Errorf("sending snapshot %d of %s to %s: %w", snap.Tag, t.name, d.name, errs[i])
				res.Targets[i].Error = message(errs[i])
			}
		})
	}
	all.Wait()
	show.finish()
	if x.app.json {
		if res.Snapshot, err = x.app.copyOf(ctx, t, snap); err == nil {
			err = x.app.printJSON(res)
		}
	}
	return errors.Join(append(errs, err)...)
}
