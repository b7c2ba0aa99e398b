// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
)

func (a *app) delta() *cobra.Command {
	return family(&cobra.Command{
		Use:   "delta",
		Short: "What changed between snapshots, as a list, a file or a stream",
		Long: `Delta says which parts of a volume changed between two snapshots, and makes a delta of
them: a file or a stream by which whoever has the older snapshot's content gets the
newer's. The cost is that of what changed, whatever the size of the volume.`,
	}, a.changelist(), a.deltaCreate(), a.deltaApply(), a.deltaCompose(), a.deltaInfo(), a.deltaVerify(), a.deltaListen())
}

func (a *app) changelist() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "changelist [flags] SERVER|STORE FROM [TO]",
		Short: "List what changed between two snapshots",
		Long: `Changelist prints the extents in which the snapshot TO, or without TO the origin as it
is now, may differ from the snapshot FROM: the offset and the length of each, in
bytes. Either may be a snapshot of the origin or of another snapshot, and FROM may be
the newer one. Chunks that were overwritten with what they held are listed too. Where
the sizes differ, what is beyond FROM's end is listed.`,
		Example: `  ddsnap delta changelist /srv/vm.store monday tuesday
  ddsnap delta changelist --json /srv/vm.store 17 | jq '[.extents[].length_bytes] | add'`,
		Args: args(2, 3, "SERVER|STORE", "FROM", "TO"),
	}
	f := a.targetFlags(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := parseRef(args[1])
		if err != nil {
			return err
		}
		q := admin.ChangeQuery{From: &from}
		if len(args) == 3 {
			to, err := parseRef(args[2])
			if err != nil {
				return err
			}
			q.To = &to
		}
		return a.with(cmd.Context(), args[0], f, true, func(ctx context.Context, t *target) error {
			list, err := t.changes(ctx, q)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(newChangelist(list))
			}
			return a.printExtents(list)
		})
	}
	return cmd
}

// changes returns all of a change list.
func (t *target) changes(ctx context.Context, q admin.ChangeQuery) (*admin.ChangeList, error) {
	var all *admin.ChangeList
	for {
		r, err := t.Do(ctx, admin.Request{Verb: admin.VerbChanges, Changes: &q})
		if err != nil {
			return nil, fmt.Errorf("listing what changed on %s: %w", t.name, err)
		}
		next := r.Changes.Next
		if all == nil {
			all = r.Changes
		} else {
			all.Runs = append(all.Runs, r.Changes.Runs...)
		}
		if next <= q.First {
			all.Next = 0
			return all, nil
		}
		q.First = next
	}
}

// changelist is what changelist --json prints.
type changelist struct {
	From         *admin.Snapshot `json:"from"`
	To           *admin.Snapshot `json:"to,omitempty"` // none: the origin
	Size         int64           `json:"size_bytes"`
	ChunkSize    int             `json:"chunk_size_bytes"`
	Chunks       uint64          `json:"changed_chunks"`
	Extents      []extent        `json:"extents"`
	ChangedBytes int64           `json:"changed_bytes"`
}

type extent struct {
	Offset int64 `json:"offset_bytes"`
	Length int64 `json:"length_bytes"`
}

func newChangelist(l *admin.ChangeList) changelist {
	c := changelist{From: l.From, To: l.To, Size: l.Size, ChunkSize: l.ChunkSize, Extents: make([]extent, len(l.Runs))}
	for i, r := range l.Runs {
		c.Extents[i] = extentOf(l, r)
		c.Chunks += r[1]
		c.ChangedBytes += c.Extents[i].Length
	}
	return c
}

// extentOf returns the bytes of a run of chunks.
func extentOf(l *admin.ChangeList, run [2]uint64) extent {
	from := int64(run[0]) * int64(l.ChunkSize)
	to := int64(run[0]+run[1]) * int64(l.ChunkSize)
	return extent{from, min(to, l.Size) - from}
}

func (a *app) printExtents(l *admin.ChangeList) error {
	w := bufio.NewWriterSize(a.Out, block.PageSize)
	for _, r := range l.Runs {
		e := extentOf(l, r)
		fmt.Fprintf(w, "%d %d\n", e.Offset, e.Length)
	}
	return w.Flush()
}
