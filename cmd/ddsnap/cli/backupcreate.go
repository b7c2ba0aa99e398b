// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// backupCreation is one run of backup create.
type backupCreation struct {
	deltaCreation
	repository   repositoryFlags
	full, dryRun bool
}

func (a *app) backupCreate() *cobra.Command {
	c := &backupCreation{deltaCreation: deltaCreation{app: a}}
	cmd := &cobra.Command{
		Use:   "create [flags] SERVER|STORE TAG|NAME REPO",
		Short: "Back a snapshot up",
		Long: `Create adds the snapshot TAG or NAME to the repository REPO: as a delta from the newest
snapshot before it that is in the repository and that the store still has, or as a full
image where there is none, or with --full. Keep the newest snapshot that was backed up, and
the next one costs only what changed. The backup is there when it is complete and durable.

What changed is coded by --codec raw, zlib, zstd, bsdiff, vcdiff or zstd-patch. A running
server is read over NBD, at its default address unless --nbd names another. Of a store
that no server has open, --origin names the origin. The snapshots cannot be deleted
meanwhile.`,
		Example: `  ddsnap backup create /srv/vm.store tuesday /mnt/backup/vm
  ddsnap backup create --key /root/backup.key /srv/vm.store 17 s3://backups/vm`,
		Args: args(3, 3, "SERVER|STORE", "TAG|NAME", "REPO"),
	}
	fl := cmd.Flags()
	fl.StringVar(&c.codec, "codec", "", "`how` to code what changed (default zstd-patch for a delta, else zstd)")
	fl.IntVar(&c.level, "level", 0, "how hard the codec tries (default its own)")
	fl.Var(&c.extent, "extent", "code so much at a time: a power of two from 64k to 16m (default 1m)")
	fl.BoolVar(&c.full, "full", false, "make a full image")
	fl.BoolVar(&c.dryRun, "dry-run", false, "say what would be made, and do nothing")
	c.repository.add(cmd)
	c.content.addReading(cmd)
	f := a.targetFlags(cmd)
	a.progressFlag(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.check(args[1]); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := c.repository.open(ctx, args[2])
		if err != nil {
			return err
		}
		t, err := a.open(ctx, args[0], f, true)
		if err != nil {
			return err
		}
		return errors.Join(c.run(ctx, t, r), t.close())
	}
	return cmd
}

// check reads the arguments that pflag does not check.
func (c *backupCreation) check(ref string) (err error) {
	if c.to, err = parseRef(ref); err != nil {
		return err
	}
	if c.extent == 0 {
		c.extent = codec.DefaultExtent
	}
	if c.extent < 64<<10 || c.extent > codec.MaxExtent || c.extent&(c.extent-1) != 0 {
		return usageError{fmt.Errorf("--extent %v is not a power of two from 64k to 16m", &c.extent)}
	}
	if c.codec == "" {
		return nil
	}
	id, err := codec.Parse(c.codec)
	if c.codec == best || err == nil && id == codec.Similar {
		return usageError{fmt.Errorf("--codec %s is not for repositories: it needs other places of the older snapshot; zstd-patch is next best", c.codec)}
	}
	if err == nil {
		_, err = codec.NewEncoder(id, codec.Options{Level: c.level})
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}

func (c *backupCreation) run(ctx context.Context, t *target, r *backup.Repository) (err error) {
	base, err := c.base(ctx, t, r)
	if err != nil {
		return err
	}
	if err := c.pickCodec(base != nil); err != nil {
		return err
	}
	if c.dryRun {
		return c.print(base, nil)
	}
	o, err := c.content.opener(ctx, c.app, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	src, list, done, err := c.source(ctx, t, o)
	defer func() { err = errors.Join(err, done()) }()
	if err != nil {
		return err
	}
	opts, err := c.options(ctx, t, list)
	if err != nil {
		return err
	}
	show, finish := c.app.progress("backing up")
	if show != nil {
		opts.Progress = func(done, total int64) { show(uint64(done), uint64(total)) }
	}
	from := ""
	if base != nil {
		from = base.ID
	}
	p, err := r.Add(ctx, from, src, opts)
	finish()
	if err != nil {
		return fmt.Errorf("backing snapshot %v of %s up: %w", c.to, t.name, err)
	}
	return c.print(base, p)
}

// pickCodec decides what codes where nobody said so.
func (c *backupCreation) pickCodec(based bool) error {
	id, err := codec.Parse(c.codec)
	switch {
	case c.codec == "" && based:
		c.codec = codec.ZstdPatch.String()
	case c.codec == "":
		c.codec = codec.Zstd.String()
	case err == nil && id.NeedsBase() && !based:
		return usageError{fmt.Errorf("codec %v is for deltas, and this will be a full image: leave --codec away", id)}
	}
	return nil
}

// base returns the backup that the delta is to lead from, or nil where a full image is to
// be made, and has c.from name its snapshot.
func (c *backupCreation) base(ctx context.Context, t *target, r *backup.Repository) (*backup.Point, error) {
	points, bad, err := r.Points(ctx)
	if err != nil {
		return nil, err
	}
	for _, err := range bad {
		fmt.Fprintf(c.app.Err, "ddsnap: %v\n", err)
	}
	asking, cancel := context.WithTimeout(ctx, c.app.timeout)
	defer cancel()
	to, err := find(asking, t, c.to)
	if err != nil {
		return nil, err
	}
	c.to = admin.Ref{Tag: to.Tag}
	snaps, err := t.list(asking)
	if err != nil {
		return nil, err
	}
	st, err := t.ask(asking, admin.VerbStatus)
	if err != nil {
		return nil, err
	}
	known := newest(points, st.Status.ChunkSize)
	state, err := deltaEndOf(st.Status, &to)
	if err != nil {
		return nil, err
	}
	if p := known[state.Identity]; p != nil && !c.full {
		return nil, fmt.Errorf("snapshot %v of %s %w, as %s", c.to, t.name, backup.ErrExists, p.ID)
	}
	if c.full {
		return nil, nil
	}
	return c.closest(st.Status, snaps, to, known), nil
}

// newest returns the newest backup of each state that a delta can lead from.
func newest(points []backup.Point, chunkSize int) map[delta.Identity]*backup.Point {
	length := map[string]int{} // of chains
	base := map[string]string{}
	for _, p := range points {
		base[p.ID] = p.Base
	}
	for _, p := range points {
		for id := p.Base; id != "" && length[p.ID] <= backup.MaxChain; id = base[id] {
			length[p.ID]++
		}
	}
	known := map[delta.Identity]*backup.Point{}
	for i := range points {
		p := &points[i]
		if p.ChunkSize == chunkSize && length[p.ID] < backup.MaxChain {
			known[p.Snapshot.Identity] = p
		}
	}
	return known
}

// closest returns the backup of the newest snapshot before one, or else of the oldest
// after it, that the store has, and has c.from name it.
func (c *backupCreation) closest(st *admin.Status, snaps []admin.Snapshot, to admin.Snapshot, known map[delta.Identity]*backup.Point) *backup.Point {
	slices.SortFunc(snaps, func(a, b admin.Snapshot) int { return a.Created.Compare(b.Created) })
	var found *backup.Point
	for i := range snaps {
		s := &snaps[i]
		if s.Tag == to.Tag || s.State != "live" {
			continue
		}
		e, err := deltaEndOf(st, s)
		p := known[e.Identity]
		if err != nil || p == nil {
			continue
		}
		if s.Created.After(to.Created) && found != nil {
			break
		}
		found, c.from = p, &admin.Ref{Tag: s.Tag}
	}
	return found
}

// createdBackup is what create --json prints.
type createdBackup struct {
	ID      string    `json:"id,omitempty"` // none: nothing was done
	Tag     block.Tag `json:"tag"`
	Base    string    `json:"base,omitempty"` // none: a full image
	Content int64     `json:"content_bytes"`
	Stored  int64     `json:"stored_bytes"`
}

func (c *backupCreation) print(base, made *backup.Point) error {
	out := createdBackup{Tag: c.to.Tag}
	what := "a full image"
	if base != nil {
		out.Base, what = base.ID, "a delta from "+base.ID
	}
	if made != nil {
		out.ID, out.Content, out.Stored = made.ID, made.Delta.Content, made.Stored()
	}
	switch {
	case c.app.json:
		return c.app.printJSON(out)
	case made == nil:
		fmt.Fprintf(c.app.Out, "snapshot %d would be %s\nnothing was done (--dry-run)\n", out.Tag, what)
	default:
		fmt.Fprintf(c.app.Out, "%s: snapshot %d as %s, %s\n", out.ID, out.Tag, what, formatSize(out.Stored))
	}
	return nil
}
