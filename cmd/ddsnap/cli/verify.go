// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/replicate"
)

// verification is one run of verify.
type verification struct {
	destinations
	content contentFlags
	all     bool
	repair  bool
	yes     bool
}

func (a *app) verify() *cobra.Command {
	v := &verification{destinations: destinations{app: a}}
	cmd := &cobra.Command{
		Use:   "verify [flags] --to [NAME@]HOST[:PORT]|--via COMMAND|--pipe SERVER|STORE [SNAPSHOT]",
		Short: "Compare a snapshot with copies of it on other machines",
		Long: `Verify compares the snapshot, or without one the newest of the origin, with what each
target, where "ddsnap delta listen" runs, has of it. It prints what differs, in chunks,
and exits with 7 if anything does. Nothing is written but digests.

It compares the digests that both stores keep, which are computed first where they are
not there (see "ddsnap digest"), and reads only what differs by them. What became
different after a digest was computed, as on a bad disk, it does not find. With --all
it reads all of both snapshots, and exchanges 28 bytes for each MiB.

With --repair, the chunks that differ are sent, if the snapshot is the copy's newest one, and
a snapshot of the repaired volume takes its place. Until it has the right content, nothing is
deleted, and the copy says that it is being repaired. A repair that was cut is to be run again.

Targets are named as for "ddsnap transmit".`,
		Example: `  ddsnap verify --to copy /srv/vm.store
  ddsnap verify --all --to far@192.0.2.7:4321 /srv/vm.store tuesday
  ddsnap verify --repair --to copy /srv/vm.store`,
	}
	cmd.Args = func(cmd *cobra.Command, got []string) error {
		if err := args(1, 2, "SERVER|STORE", "SNAPSHOT")(cmd, got); err != nil {
			return err
		}
		if v.repair && v.pipe {
			return usageError{errors.New("--repair takes two connections: use --to or --via instead of --pipe")}
		}
		return v.check()
	}
	v.add(cmd, "compare with")
	cmd.Flags().BoolVarP(&v.all, "all", "a", false, "compare all content, and no digests")
	cmd.Flags().BoolVar(&v.repair, "repair", false, "send what differs, and have the copy hold it")
	cmd.Flags().BoolVarP(&v.yes, "yes", "y", false, "with --repair: do not ask")
	v.content.addReading(cmd)
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
		dials, err := v.targets()
		if err != nil {
			return err
		}
		t, err := a.open(ctx, args[0], f, false)
		if err != nil {
			return err
		}
		return errors.Join(v.run(ctx, t, ref, dials), t.close())
	}
	return cmd
}

// verifications is what verify --json prints.
type verifications struct {
	Snapshot replicate.Copy `json:"snapshot"`
	Size     int64          `json:"size_bytes"`
	Digest   string         `json:"digest,omitempty"` // none: all content was compared
	Targets  []compared     `json:"targets"`
}

type compared struct {
	To        string   `json:"to"`
	Equal     bool     `json:"equal"`
	Digest    string   `json:"digest,omitempty"`
	Differs   []extent `json:"differs"`
	Differing int64    `json:"differing_bytes"`
	Exchanged int64    `json:"exchanged_bytes"`
	Repaired  bool     `json:"repaired,omitempty"` // it is equal by now
	Error     string   `json:"error,omitempty"`
}

func (v *verification) run(ctx context.Context, t *target, ref *admin.Ref, dials []dialer) (err error) {
	snap, err := v.app.findOrNewest(ctx, t, ref)
	if err != nil {
		return err
	}
	o, err := v.content.opener(ctx, v.app, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	content, err := o.open(snap)
	if err != nil {
		return explain(t, admin.Ref{Tag: snap.Tag}, "reading", err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	here, err := v.original(ctx, t, snap, content)
	if err != nil {
		return err
	}
	res := verifications{Snapshot: here.To, Size: here.Size, Targets: make([]compared, len(dials))}
	if here.Tree != nil {
		res.Digest = here.Digest.String()
	}
	errs := make([]error, len(dials))
	for i, d := range dials { // one after the other: each reads the same here
		res.Targets[i], errs[i] = v.compare(ctx, d, here)
		if errs[i] != nil {
			errs[i] = fmt.Errorf("comparing snapshot %d of %s with %s: %w", snap.Tag, t.name, d.name, errs[i])
			res.Targets[i].Error = message(errs[i])
		}
	}
	if v.app.json {
		err = v.app.printJSON(res)
	}
	return errors.Join(append(errs, err)...)
}

// original returns the snapshot as it is compared.
func (v *verification) original(ctx context.Context, t *target, s admin.Snapshot, content delta.Content) (o replicate.Original, err error) {
	to, err := v.app.copyOf(ctx, t, s)
	if err != nil {
		return o, err
	}
	st, err := t.ask(ctx, admin.VerbStatus)
	if err != nil {
		return o, err
	}
	o = replicate.Original{To: to, Size: s.Size, Chunk: st.Status.ChunkSize, Content: content}
	if v.all {
		return o, nil
	}
	show, finish := v.app.progress("reading")
	res, err := compute.Run(ctx, t, admin.Ref{Tag: s.Tag}, content, compute.Options{Progress: show})
	finish()
	if err != nil {
		return o, fmt.Errorf("%w; with --all none is needed", explain(t, admin.Ref{Tag: s.Tag}, "computing the digest of", err))
	}
	o.Digest, o.Tree = res.Sum, digest.TreeOf(compute.TreeOf(ctx, t, &s))
	return o, nil
}

// compare compares with one target, and says what differs.
func (v *verification) compare(ctx context.Context, d dialer, here replicate.Original) (res compared, err error) {
	res = compared{To: d.name, Differs: []extent{}}
	conn, err := d.dial(ctx)
	if err != nil {
		return res, err
	}
	out := v.app.Out
	if v.pipe {
		out = v.app.Err
	}
	show, finish := v.app.progress("comparing")
	got, err := replicate.Verify(ctx, conn, here, replicate.VerifyOptions{
		Idle: v.idle,
		Progress: func(done, total int64) {
			if show != nil {
				show(uint64(done), uint64(total))
			}
		},
		Differs: func(x delta.Extent) error {
			res.Differs = append(res.Differs, extent{x.Offset, x.Length})
			return nil
		},
	})
	finish()
	res.Differing, res.Exchanged = got.Differing, got.Exchanged
	if got.Digest != (digest.Sum{}) {
		res.Digest = got.Digest.String()
	}
	if err != nil {
		return res, err
	}
	res.Equal = len(res.Differs) == 0
	if !v.app.json {
		printCompared(out, here.To, res)
	}
	if v.repair {
		return res, v.mend(ctx, d, here, &res)
	}
	if !res.Equal {
		return res, codeError{fmt.Errorf("%d of %d bytes differ", res.Differing, here.Size), exitDamaged}
	}
	return res, nil
}

// mend has the target hold what it is to hold, or end what an earlier repair left.
func (v *verification) mend(ctx context.Context, d dialer, here replicate.Original, res *compared) error {
	if !res.Equal && !v.yes {
		if err := v.app.confirm(fmt.Sprintf("%d bytes of what it has as %v are overwritten.", res.Differing, here.To)); err != nil {
			return err
		}
	}
	conn, err := d.dial(ctx)
	if err != nil {
		return err
	}
	list := make([]delta.Extent, len(res.Differs))
	for i, x := range res.Differs {
		list[i] = delta.Extent{Offset: x.Offset, Length: x.Length}
	}
	show, finish := v.app.progress("repairing")
	got, err := replicate.Repair(ctx, conn, here, list, replicate.VerifyOptions{Idle: v.idle, Progress: func(done, total int64) {
		if show != nil {
			show(uint64(done), uint64(total))
		}
	}})
	finish()
	res.Exchanged += got.Exchanged
	if err != nil {
		return fmt.Errorf("repairing: %w", err)
	}
	res.Repaired = !res.Equal
	if res.Repaired && !v.app.json {
		fmt.Fprintf(v.app.Out, "%s: %d bytes were repaired\n", d.name, got.Differing)
	}
	return nil
}

func printCompared(out io.Writer, c replicate.Copy, res compared) {
	for _, x := range res.Differs {
		fmt.Fprintf(out, "%s: %d bytes at offset %d differ\n", res.To, x.Length, x.Offset)
	}
	if res.Equal {
		fmt.Fprintf(out, "%s: %v is the same\n", res.To, c)
	}
}
