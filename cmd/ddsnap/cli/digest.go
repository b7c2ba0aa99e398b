// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest/compute"
)

// digestion is one run of digest.
type digestion struct {
	app     *app
	content contentFlags
	rate    size
	ref     admin.Ref
}

func (a *app) digest() *cobra.Command {
	d := &digestion{app: a}
	cmd := &cobra.Command{
		Use:   "digest [flags] SERVER|STORE SNAPSHOT",
		Short: "Compute the digest of a snapshot",
		Long: `Digest prints the digest of a snapshot of the origin: the root of a tree of SHA-256 sums
over all of its content. Snapshots with the same digest have the same content and size,
in whatever store.

The store keeps the tree. What it does not have it computes: by reading what changed since
an older snapshot that has a digest, or all of the snapshot. If it is interrupted, it
begins anew. "ddsnap nbd", "attach" and "server" compute those of new snapshots by
themselves, slowly (--digest-rate). Snapshots of snapshots, and such as were written to,
have no digest.

A running server is read over NBD, at its default address unless --nbd names another.
Of a store that no server has open, --origin names the origin, if there is something to
compute.`,
		Example: `  ddsnap digest /srv/vm.store monday
  ddsnap digest --rate 50m --json /srv/vm.store 17`,
		Args: args(2, 2, "SERVER|STORE", "SNAPSHOT"),
	}
	cmd.Flags().VarP(&d.rate, "rate", "r", "read at most so much a second (default no limit)")
	d.content.addReading(cmd)
	f := a.targetFlags(cmd)
	a.progressFlag(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if d.ref, err = parseRef(args[1]); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		t, err := a.open(ctx, args[0], f, false)
		if err != nil {
			return err
		}
		return errors.Join(d.run(ctx, t), t.close())
	}
	return cmd
}

func (d *digestion) run(ctx context.Context, t *target) error {
	asking, cancel := context.WithTimeout(ctx, d.app.timeout)
	defer cancel()
	s, err := find(asking, t, d.ref)
	if err != nil {
		return err
	}
	res, err := d.take(ctx, t, s)
	if err != nil {
		return explain(t, d.ref, "computing the digest of", err)
	}
	if d.app.json {
		return d.app.printJSON(digested{s.Tag, s.Name, s.Size, res.Sum.String(), res.There, res.Read})
	}
	fmt.Fprintln(d.app.Out, res.Sum)
	return nil
}

// digested is what digest --json prints.
type digested struct {
	Tag   block.Tag `json:"tag"`
	Name  string    `json:"name,omitempty"`
	Size  int64     `json:"size_bytes"`
	Sum   string    `json:"digest"`
	There bool      `json:"was_there"`
	Read  int64     `json:"read_bytes"`
}

// take returns the digest of a snapshot, which is opened only if it is to be read.
func (d *digestion) take(ctx context.Context, t *target, s admin.Snapshot) (res compute.Result, err error) {
	if res.Sum, res.There, err = compute.Known(ctx, t, admin.Ref{Tag: s.Tag}); err != nil || res.There {
		return res, err
	}
	o, err := d.content.opener(ctx, d.app, t)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	content, err := o.open(s)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	show, finish := d.app.progress("reading")
	defer finish()
	return compute.Run(ctx, t, admin.Ref{Tag: s.Tag}, content, compute.Options{Rate: int64(d.rate), Progress: show})
}

// digestLine says of how many snapshots the store has digests, and which is being computed.
func digestLine(st admin.Status) string {
	text := ""
	if st.Digested > 0 {
		text = "of " + plural(st.Digested, "snapshot")
	}
	d := st.Digesting
	if d == nil {
		return text
	}
	now := ""
	switch {
	case d.Snapshot != nil && d.Leaves > 0:
		now = fmt.Sprintf("that of snapshot %d is being computed, %d%%", *d.Snapshot, 100*d.Done/d.Leaves)
	case d.Snapshot != nil:
		now = fmt.Sprintf("that of snapshot %d is being computed", *d.Snapshot)
	case d.Trouble != "":
		now = "one was not computed: " + d.Trouble
	}
	if text != "" && now != "" {
		text += ", "
	}
	return text + now
}
