// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

func (a *app) backupList() *cobra.Command {
	var f repositoryFlags
	cmd := &cobra.Command{
		Use:   "list [flags] REPO",
		Short: "List the backups, oldest state first",
		Long: `List prints the backups of a repository: ID, when the snapshot was taken, the size of the
volume then, whether it is a full image or a delta, how much it takes, the snapshot's tag and
name, and the volume where there are several. Each can be restored, whichever it is.`,
		Example: `  ddsnap backup list /mnt/backup/vm`,
		Args:    args(1, 1, "REPO"),
	}
	f.add(cmd)
	a.jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := f.open(ctx, args[0])
		if err != nil {
			return err
		}
		points, bad, err := r.Points(ctx)
		if err != nil {
			return err
		}
		if err := a.printPoints(points); err != nil {
			return err
		}
		return errors.Join(bad...)
	}
	return cmd
}

// listedBackup is a backup as list --json prints it.
type listedBackup struct {
	ID      string    `json:"id"`
	Base    string    `json:"base,omitempty"`
	Tag     block.Tag `json:"tag"`
	Name    string    `json:"name,omitempty"`
	Store   string    `json:"store_uuid"`
	Created time.Time `json:"created"`
	Made    time.Time `json:"made"`
	Size    int64     `json:"size_bytes"`
	Stored  int64     `json:"stored_bytes"`
}

func describePoint(p *backup.Point) listedBackup {
	return listedBackup{p.ID, p.Base, p.Snapshot.Tag, p.Snapshot.Name, layout.UUID(p.Snapshot.Store).String(), p.Created().UTC(), p.Made, p.Snapshot.Size, p.Stored()}
}

func (a *app) printPoints(points []backup.Point) error {
	list := []listedBackup{}
	for i := range points {
		list = append(list, describePoint(&points[i]))
	}
	switch {
	case a.json:
		return a.printJSON(list)
	case len(list) == 0:
		fmt.Fprintln(a.Out, "no backups")
		return nil
	}
	head, several := []string{"ID", "CREATED", "SIZE", "KIND", "STORED", "TAG", "NAME"}, false
	for _, p := range list {
		several = several || p.Store != list[0].Store
	}
	var rows [][]string
	for _, p := range list {
		kind := "delta"
		if p.Base == "" {
			kind = "full"
		}
		row := []string{p.ID, formatTime(p.Created), formatSize(p.Size), kind, formatSize(p.Stored), formatTag(p.Tag), p.Name}
		if several {
			row = slices.Insert(row, 6, p.Store)
		}
		rows = append(rows, row)
	}
	left := []bool{true, true, false, true, false, false, true}
	if several {
		head, left = slices.Insert(head, 6, "VOLUME"), append(left, true)
	}
	return printColumns(a.Out, left, head, rows)
}

func (a *app) backupCheck() *cobra.Command {
	var f repositoryFlags
	var o backup.CheckOptions
	cmd := &cobra.Command{
		Use:   "check [flags] REPO",
		Short: "Check that every backup can be restored",
		Long: `Check verifies all manifests, that all objects are there with their sizes, and the headers
and indexes of all deltas. With --data it reads all objects, verifies every checksum and
digest, and makes the content of all records. It prints what is wrong, and exits with 7 if
anything is.`,
		Example: `  ddsnap backup check /mnt/backup/vm
  ddsnap backup check --data --key /root/backup.key s3://backups/vm`,
		Args: args(1, 1, "REPO"),
	}
	f.add(cmd)
	a.jsonFlag(cmd)
	a.progressFlag(cmd)
	cmd.Flags().BoolVar(&o.Data, "data", false, "read all objects and make all content")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := f.open(ctx, args[0])
		if err != nil {
			return err
		}
		ctx, l, err := r.Lock(ctx, "backup check", false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		show, finish := a.progress("checking")
		if show != nil {
			o.Progress = func(done, total int64) { show(uint64(done), uint64(total)) }
		}
		res, err := r.Check(ctx, o)
		finish()
		if err != nil {
			return fmt.Errorf("checking %s: %w", args[0], err)
		}
		return a.printCheck(args[0], res)
	}
	return cmd
}

// checkedBackups is what check --json prints.
type checkedBackups struct {
	Backups int      `json:"backups"`
	Objects int      `json:"objects"`
	Stored  int64    `json:"stored_bytes"`
	Garbage int      `json:"garbage_objects"`
	Bad     int      `json:"bad_backups"`
	Wrong   []string `json:"wrong"`
}

func (a *app) printCheck(name string, res *backup.CheckResult) error {
	out := checkedBackups{res.Points, res.Objects, res.Bytes, res.Garbage, len(res.Bad), []string{}}
	for _, err := range res.Wrong {
		out.Wrong = append(out.Wrong, message(err))
	}
	if a.json {
		if err := a.printJSON(out); err != nil {
			return err
		}
	} else {
		for _, text := range out.Wrong {
			fmt.Fprintln(a.Out, text)
		}
		fmt.Fprintf(a.Out, "%s in %s, %s\n", plural(out.Backups, "backup"), plural(out.Objects, "object"), formatSize(out.Stored))
		if out.Garbage > 0 {
			fmt.Fprintf(a.Out, "%s that nothing needs: \"ddsnap backup prune\" removes them\n", plural(out.Garbage, "object"))
		}
	}
	if len(out.Wrong) > 0 {
		return codeError{fmt.Errorf("%s: %d of %s cannot be restored", name, out.Bad, plural(out.Backups, "backup")), exitDamaged}
	}
	return nil
}
