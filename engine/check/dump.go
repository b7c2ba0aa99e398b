// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// DumpOptions say what a dump shows beside superblocks, snapshots and statistics.
type DumpOptions struct {
	JSON bool // a JSON object a line, instead of text
	Log  bool // the records since the last checkpoint
	// The exceptions of the chunks [First, End), as the last checkpoint has them;
	// none when both are zero.
	First, End block.Chunk
}

// Dump prints a store's structures to w, a line each: in text a name and its
// fields, in JSON an object whose "record" is that name. What cannot be read is
// printed as a violation, and Dump goes on. The error is one of writing, or says
// that there is no store.
func Dump(d Devices, w io.Writer, o DumpOptions) error {
	out := &printer{w: bufio.NewWriter(w), json: o.JSON}
	found := false
	report := func(v Violation) {
		found = true
		out.violation(v)
	}
	img := openImage(d, nil, report)
	if img == nil {
		if !found {
			return errors.New("no store device was named")
		}
		return errors.Join(errors.New("there is no store that could be dumped"), out.w.Flush())
	}
	img.dumpSuperblocks(out)
	img.dumpSnapshots(out)
	if o.Log {
		img.dumpLog(out, "control", img.controlRing(), img.sb.ControlPos)
		if l := img.batchLog(); l != nil {
			img.dumpLog(out, "batch", l, img.sb.LogPos)
		}
	}
	img.dumpStats(out, report)
	if o.First < o.End {
		img.dumpExceptions(out, o.First, o.End)
	}
	return out.w.Flush()
}

// field is a name and a value that prints well in text and in JSON.
type field struct {
	name  string
	value any
}

// printer prints lines. bufio.Writer remembers an error until Flush.
type printer struct {
	w    *bufio.Writer
	json bool
}

// line prints a record. Fields keep their order, which a map would not.
func (p *printer) line(record string, fields ...field) {
	if !p.json {
		fmt.Fprint(p.w, record)
		for _, f := range fields {
			fmt.Fprintf(p.w, " %s=%v", f.name, f.value)
		}
		fmt.Fprintln(p.w)
		return
	}
	fmt.Fprintf(p.w, `{"record":%q`, record)
	for _, f := range fields {
		value, err := json.Marshal(f.value)
		if err != nil {
			value = []byte("null") // only numbers, texts and flags are printed
		}
		fmt.Fprintf(p.w, ",%q:%s", f.name, value)
	}
	fmt.Fprintln(p.w, "}")
}

func (p *printer) violation(v Violation) {
	p.line("violation", field{"severity", v.Severity.String()}, field{"code", v.Code}, field{"device", v.Device},
		field{"offset", v.Offset}, field{"structure", v.Structure}, field{"problem", v.Problem}, field{"meaning", v.Meaning})
}

// stamp prints nanoseconds since 1970.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

func (img *image) dumpSuperblocks(out *printer) {
	for i := range int64(layout.Superblocks) {
		sb := img.superblock(i).sb
		if sb == nil {
			continue
		}
		out.line("superblock", field{"page", i}, field{"newest", sb.Checkpoint == img.sb.Checkpoint},
			field{"uuid", sb.UUID.String()}, field{"checkpoint", sb.Checkpoint}, field{"epoch", sb.Epoch}, field{"created", stamp(sb.Created)},
			field{"placement", sb.Placement.String()}, field{"separate", sb.Separate}, field{"clean", sb.Clean},
			field{"chunk_size", 1 << sb.ChunkShift}, field{"origin_size", sb.OriginSize}, field{"generation", sb.Generation},
			field{"data_offset", sb.DataOffset}, field{"slots", sb.Slots}, field{"allocated", sb.Allocated},
			field{"control_page", sb.Control.First}, field{"control_pages", sb.Control.Len},
			field{"journal_page", sb.Journal.First}, field{"journal_pages", sb.Journal.Len}, field{"journal_size", sb.JournalSize},
			field{"tree_page", sb.TreePages.First}, field{"tree_pages", sb.TreePages.Len},
			field{"control_place", sb.ControlPos.Place}, field{"control_seq", sb.ControlPos.Seq},
			field{"log_place", sb.LogPos.Place}, field{"log_seq", sb.LogPos.Seq}, field{"policy", sb.Policy.String()},
			field{"restore_generation", sb.Restore.Generation}, field{"restore_next", sb.Restore.Next}, field{"restore_merge", sb.Restore.Merge})
		for _, e := range sb.Grown {
			out.line("grown", field{"page", i}, field{"tree_page", e.First}, field{"tree_pages", e.Len})
		}
	}
	for i, r := range img.sb.Roots {
		out.line("root", field{"tree", treeNames[i+1]}, field{"page", r.Page}, field{"level", r.Level}, field{"entries", r.Entries})
	}
	w := walk[layout.SlotRun]{img: img, codec: layout.LeaseCodec{}, kind: layout.KindLeases, pages: new(bitset)}
	w.leaf = func(_ layout.PageHeader, entries []layout.SlotRun) bool {
		for _, l := range entries {
			out.line("lease", field{"slot", l.First}, field{"slots", l.Len})
		}
		return true
	}
	w.run()
}

// dumpSnapshots prints the snapshot table. Damage in the tree is reported with
// its statistics.
func (img *image) dumpSnapshots(out *printer) {
	w := walk[layout.Snapshot]{img: img, codec: layout.SnapshotCodec{}, kind: layout.KindSnapshots, pages: new(bitset)}
	w.leaf = func(_ layout.PageHeader, entries []layout.Snapshot) bool {
		for _, s := range entries {
			out.line("snapshot", snapshotFields(s)...)
		}
		return true
	}
	w.run()
}

func snapshotFields(s layout.Snapshot) []field {
	fields := []field{{"tag", s.Tag}, {"generation", s.Generation}, {"parent", s.Parent}, {"state", s.State.String()},
		{"created", stamp(s.Created)}, {"size", s.Size}, {"priority", s.Priority}, {"use_count", s.UseCount}}
	if s.Name != "" {
		fields = append(fields, field{"name", s.Name})
	}
	if s.Held {
		fields = append(fields, field{"held", true})
	}
	if s.Damaged {
		fields = append(fields, field{"damaged", true})
	}
	if s.Lossy {
		fields = append(fields, field{"lossy", true})
	}
	if s.Applying != (layout.UUID{}) {
		fields = append(fields, field{"applying", s.Applying.String()}, field{"applied", s.Applied})
	}
	if s.GroupSize != 0 {
		fields = append(fields, field{"group", s.Group.String()}, field{"group_size", s.GroupSize})
	}
	return fields
}

// dumpLog prints the records since the last checkpoint, of a store closed in order
// too, where there are none.
func (img *image) dumpLog(out *printer, what string, l recordLog, pos layout.Position) {
	id := layout.Identity{UUID: img.sb.UUID, Epoch: img.sb.Epoch, Seq: pos.Seq}
	end, why := scan(l, id, pos.Place, func(r record) bool {
		out.line("record", append([]field{{"log", what}, {"seq", r.Seq}, {"epoch", r.Epoch}, {"device", l.source().name},
			{"offset", r.offset}, {"bytes", layout.RecordHeaderSize + int(r.Body)}, {"durable", r.Durable}, {"next", r.Next}},
			bodyFields(r)...)...)
		return true
	})
	out.line("end", field{"log", what}, field{"seq", end.Seq}, field{"why", why.Error()})
}

// bodyFields describes a record's body.
func bodyFields(r record) []field {
	if r.Kind == layout.RecordSnapshot {
		s, err := layout.DecodeSnapshotRecord(r.body)
		if err != nil {
			return []field{{"error", err.Error()}}
		}
		return snapshotFields(s)
	}
	b, err := layout.DecodeBatch(r.body)
	if err != nil {
		return []field{{"error", err.Error()}}
	}
	fields := []field{{"branch", b.Branch}, {"generation", b.Generation}, {"chunks", len(b.Copies)}}
	if n := len(b.Copies); n > 0 {
		fields = append(fields, field{"first", b.Copies[0].Chunk}, field{"last", b.Copies[n-1].Chunk})
	}
	return fields
}

func (img *image) dumpStats(out *printer, report report) {
	s := img.stats(report)
	for _, t := range s.Trees {
		out.line("tree", field{"name", t.Name}, field{"entries", t.Entries}, field{"levels", t.Levels}, field{"leaves", t.Leaves},
			field{"inner", t.Inner}, field{"bytes", t.Bytes()}, field{"fill", round(t.Fill())})
	}
	out.line("metadata", field{"exceptions", s.Exceptions()}, field{"bytes", s.TreeBytes()}, field{"bytes_per_exception", round(s.BytesPerException())})
}

// round leaves three digits after the point.
func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

func (img *image) dumpExceptions(out *printer, first, end block.Chunk) {
	w := walk[layout.Exception]{img: img, codec: layout.ExceptionCodec{}, kind: layout.KindExceptions, pages: new(bitset)}
	// What lies within one branch, and before or after the chunks there.
	w.skip = func(low, high *layout.Exception) bool {
		before := high != nil && high.Chunk < first && (low == nil && high.Branch == 0 || low != nil && low.Branch == high.Branch)
		after := low != nil && low.Chunk >= end && high != nil && high.Branch == low.Branch
		return before || after
	}
	w.leaf = func(_ layout.PageHeader, entries []layout.Exception) bool {
		for _, e := range entries {
			if e.Chunk >= first && e.Chunk < end {
				out.exception(img, e)
			}
		}
		return true
	}
	w.run()
}

// exception prints an exception; one whose content is lost has no place.
func (p *printer) exception(img *image, e layout.Exception) {
	fields := []field{{"branch", e.Branch}, {"chunk", e.Chunk}, {"generation", e.Generation}}
	if e.Slot == layout.LostSlot {
		p.line("exception", append(fields, field{"lost", true})...)
		return
	}
	p.line("exception", append(fields, field{"slot", e.Slot}, field{"offset", img.slotOffset(e.Slot)},
		field{"sum", fmt.Sprintf("%08x", e.Sum)})...)
}
