// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/layout"
)

func (a *app) deltaInfo() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "info [flags] FILE|-",
		Short: "Show what is in a delta",
		Long: `Info shows between which snapshots a delta is, what records it has, and how many bytes
they stand for. It reads all of it, with "-" from standard input, verifies its
checksums, and needs no volume.`,
		Example: `  ddsnap delta info tuesday.delta`,
		Args:    args(1, 1, "FILE|-"),
	}
	a.jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rep, err := a.inspectDelta(cmd, args[0], false)
		switch {
		case err != nil:
			return err
		case a.json:
			return a.printJSON(describeDelta(rep))
		}
		return a.printDelta(rep)
	}
	return cmd
}

func (a *app) deltaVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [flags] FILE|-",
		Short: "Verify that a delta is whole",
		Long: `Verify reads a delta to its end and verifies every checksum and the digest of the whole,
and that the content which needs no base is what it is to be. It needs no volume. What
is coded against the base is verified when it is applied. It exits with 7 if
the delta is damaged or cut off.`,
		Example: `  ddsnap delta verify tuesday.delta
  ssh backup cat tuesday.delta | ddsnap delta verify -`,
		Args: args(1, 1, "FILE|-"),
	}
	a.jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		rep, err := a.inspectDelta(cmd, args[0], true)
		if err != nil || !a.json {
			return err
		}
		return a.printJSON(describeDelta(rep))
	}
	return cmd
}

// inspectDelta reads the delta that name names.
func (a *app) inspectDelta(cmd *cobra.Command, name string, decode bool) (*delta.Report, error) {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	from, done, err := a.openDelta(name)
	if err != nil {
		return nil, err
	}
	defer done()
	rep, err := delta.Inspect(ctx, from, decode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rep, nil
}

// openDelta opens a delta to be read; "-" is standard input.
func (a *app) openDelta(name string) (io.Reader, func() error, error) {
	if name == "-" {
		return a.In, func() error { return nil }, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

// deltaEnd is one end of a delta in JSON.
type deltaEnd struct {
	Store      string           `json:"store_uuid"`
	Generation block.Generation `json:"generation"`
	Tag        block.Tag        `json:"tag"`
	Name       string           `json:"name,omitempty"`
	Created    time.Time        `json:"created"`
	Size       int64            `json:"size_bytes"`
	Digest     string           `json:"digest,omitempty"`
}

func describeEnd(e *delta.End) *deltaEnd {
	if e == nil {
		return nil
	}
	d := &deltaEnd{
		Store: layout.UUID(e.Store).String(), Generation: e.Generation, Tag: e.Tag, Name: e.Name,
		Created: time.Unix(0, e.Created).UTC(), Size: e.Size,
	}
	if e.Algorithm != delta.DigestNone {
		d.Digest = digest.Sum(e.Digest).String()
	}
	return d
}

// deltaCount counts records of a sort in JSON.
type deltaCount struct {
	Sort    string `json:"sort"`
	Records uint64 `json:"records"`
	Content int64  `json:"content_bytes"`
	Coded   int64  `json:"coded_bytes"`
}

// deltaInfo is what info and verify print as JSON.
type deltaInfo struct {
	From      *deltaEnd    `json:"from,omitempty"`
	To        *deltaEnd    `json:"to"`
	ChunkSize int          `json:"chunk_size_bytes"`
	Extent    int          `json:"extent_bytes"`
	Records   uint64       `json:"records"`
	Content   int64        `json:"content_bytes"`
	Bytes     int64        `json:"delta_bytes"`
	Digest    string       `json:"delta_digest"` // of the whole delta: see FORMAT.md
	Sorts     []deltaCount `json:"sorts"`
}

func describeDelta(r *delta.Report) deltaInfo {
	h := r.Header
	return deltaInfo{
		From: describeEnd(h.From), To: describeEnd(&h.To), ChunkSize: h.ChunkSize, Extent: h.Extent,
		Records: r.Summary.Records, Content: r.Summary.Content, Bytes: r.Summary.Bytes, Digest: hex.EncodeToString(r.Summary.Digest[:]),
		Sorts: sortsOf(r),
	}
}

// sortsOf counts extents by codec, and the other records by kind.
func sortsOf(r *delta.Report) []deltaCount {
	list := []deltaCount{}
	add := func(sort string, c delta.Count) {
		if c.Records > 0 {
			list = append(list, deltaCount{sort, c.Records, c.Content, c.Coded})
		}
	}
	for _, id := range r.Header.Codecs {
		add(id.String(), r.Codecs[id])
	}
	for k := delta.KindZero; k < delta.KindEnd; k++ {
		add(k.String(), r.Kinds[k])
	}
	return list
}

func (a *app) printDelta(r *delta.Report) error {
	h := r.Header
	fields := [][2]string{{"To", endText(&h.To)}}
	if h.From != nil {
		fields = [][2]string{{"From", endText(h.From)}, fields[0]}
	}
	for _, f := range []struct {
		name string
		end  *delta.End
	}{{"Digest of from", h.From}, {"Digest of to", &h.To}} {
		if f.end != nil && f.end.Algorithm != delta.DigestNone {
			fields = append(fields, [2]string{f.name, digest.Sum(f.end.Digest).String()})
		}
	}
	s := r.Summary
	fields = append(fields,
		[2]string{"Chunks of", formatSize(int64(h.ChunkSize)) + ", extents of up to " + formatSize(int64(h.Extent))},
		[2]string{"Content", fmt.Sprintf("%s in %s", formatSize(s.Content), plural(int(s.Records), "record"))},
		[2]string{"Delta", formatSize(s.Bytes)},
	)
	if err := printFields(a.Out, fields); err != nil || s.Records == 0 {
		return err
	}
	fmt.Fprintln(a.Out)
	var rows [][]string
	for _, c := range sortsOf(r) {
		rows = append(rows, []string{c.Sort, formatCount(c.Records), formatSize(c.Content), formatSize(c.Coded)})
	}
	return printTable(a.Out, 1, []string{"SORT", "RECORDS", "CONTENT", "CODED"}, rows)
}

// endText describes an end of a delta.
func endText(e *delta.End) string {
	name := formatTag(e.Tag)
	if e.Name != "" {
		name += " " + e.Name
	}
	return fmt.Sprintf("snapshot %s of %s, %s, generation %d of store %s", name, formatTime(time.Unix(0, e.Created)), formatSize(e.Size),
		e.Generation, layout.UUID(e.Store))
}
