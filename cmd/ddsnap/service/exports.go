// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"strconv"
	"strings"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/engine/nbd/wire"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	engine "zumastor.org/zumastor/engine/wire"
)

// Names of exports.
const (
	OriginExport   = "origin"
	SnapshotPrefix = "snapshot/" // before the tag or name
	WritablePrefix = "writable/" // the same
	sincePrefix    = "since-"    // before the tag, in names of dirty bitmaps
)

// catalogue is what exports must know of a store beside its data.
type catalogue interface {
	Geometry() block.Geometry
	Snapshots() []store.SnapshotInfo
	// Changed is that of a store, or nil where it cannot be had.
	Changed(since, upTo block.Generation, first, end block.Chunk, dst []store.ChangedRun) ([]store.ChangedRun, error)
}

// exports are a volume's origin and snapshots.
type exports struct {
	server  catalogue
	origin  *volume.Origin // nil if it is not exported
	counted *counted       // the origin
	holes   *holes         // of the origin; may be nil
	source  volume.SnapshotSource
	// writable are the snapshots that are open for writing.
	writable writable
}

var _ nbd.Exports = (*exports)(nil)

// List implements nbd.Exports.
func (x *exports) List() []string {
	var names []string
	if x.origin != nil {
		names = append(names, OriginExport)
	}
	for _, s := range x.server.Snapshots() {
		if s.State == layout.SnapshotLive {
			names = append(names, SnapshotPrefix+formatTag(s.Tag))
		}
	}
	return names
}

// Open implements nbd.Exports. The default export is the origin.
func (x *exports) Open(name string) (*nbd.Export, error) {
	if (name == OriginExport || name == "") && x.origin != nil {
		return x.openOrigin(), nil
	}
	if text, ok := strings.CutPrefix(name, SnapshotPrefix); ok {
		return x.openSnapshot(text)
	}
	if text, ok := strings.CutPrefix(name, WritablePrefix); ok && x.origin != nil {
		return x.openWritable(text)
	}
	return nil, nbd.ErrNoExport
}

// parseRef reads a snapshot's tag or name, as it stands in the name of an export. A
// tag is a number without leading zeroes, and a name is not a number.
func parseRef(text string) (engine.SnapshotRef, error) {
	tag, err := strconv.ParseUint(text, 10, 32)
	switch {
	case err == nil && formatTag(block.Tag(tag)) == text:
		return engine.SnapshotRef{Tag: block.Tag(tag)}, nil
	case text == "" || strings.Trim(text, "0123456789") == "":
		return engine.SnapshotRef{}, nbd.ErrNoExport
	}
	return engine.SnapshotRef{Name: text}, nil
}

func formatTag(t block.Tag) string { return strconv.FormatUint(uint64(t), 10) }

func (x *exports) openOrigin() *nbd.Export {
	e := &nbd.Export{
		Name: OriginExport, Description: "the live volume", Device: x.counted,
		Contexts: x.since(store.OriginGeneration),
	}
	if x.holes != nil {
		e.Contexts[wire.ContextAllocation] = x.holes.status
	}
	return e
}

func (x *exports) openSnapshot(text string) (*nbd.Export, error) {
	ref, err := parseRef(text)
	if err != nil {
		return nil, err
	}
	s, err := volume.OpenSnapshotRef(x.source, ref, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", nbd.ErrNoExport, err)
	}
	return &nbd.Export{
		Name:        SnapshotPrefix + formatTag(s.Info().Tag),
		Description: fmt.Sprintf("snapshot %d", s.Info().Tag),
		Device:      s, ReadOnly: true, Close: s.Close,
		Contexts: x.sinceSnapshot(s.Info()),
	}, nil
}

// openWritable opens a snapshot to be written to. Connections share it: to the
// server, a snapshot has one writer at a time.
func (x *exports) openWritable(text string) (*nbd.Export, error) {
	ref, err := parseRef(text)
	if err != nil {
		return nil, err
	}
	s, release, err := x.writable.open(ref, func() (*volume.Snapshot, error) { return volume.OpenSnapshotRef(x.source, ref, true) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", nbd.ErrNoExport, err)
	}
	return &nbd.Export{
		Name:        WritablePrefix + formatTag(s.Info().Tag),
		Description: fmt.Sprintf("snapshot %d, writable", s.Info().Tag),
		Device:      s, Close: release,
	}, nil
}

// sinceSnapshot returns the dirty bitmaps of a snapshot, of which there are none if
// it is not one of the origin's.
func (x *exports) sinceSnapshot(s layout.Snapshot) map[string]nbd.StatusFunc {
	if s.Parent != 0 {
		return nil
	}
	return x.since(s.Generation)
}

// since returns the dirty bitmaps of an export of generation upTo: what changed
// since each older snapshot.
func (x *exports) since(upTo block.Generation) map[string]nbd.StatusFunc {
	contexts := make(map[string]nbd.StatusFunc)
	for _, s := range x.server.Snapshots() {
		if s.Generation < upTo && s.Parent == 0 && s.State == layout.SnapshotLive {
			name := sincePrefix + formatTag(s.Tag)
			contexts[nbd.DirtyContext(name)] = x.changed(s.Generation, upTo)
		}
	}
	return contexts
}

// Chunks that one answer about changes covers at most, so that its time and size
// are bounded, and when one extent is wanted.
const (
	maxChanged    = 1 << 16
	maxChangedOne = 1 << 10
)

// changed is the dirty bitmap of what changed from generation since to upTo. Once
// the older snapshot is deleted, its answers are errors.
func (x *exports) changed(since, upTo block.Generation) nbd.StatusFunc {
	geo := x.server.Geometry()
	return func(off, n int64, one bool) ([]nbd.Extent, error) {
		first, end := geo.Span(off, n)
		most := block.Chunk(maxChanged)
		if one {
			most = maxChangedOne
		}
		runs, err := x.server.Changed(since, upTo, first, min(end, first+most), nil)
		if err != nil {
			return nil, err
		}
		extents := make([]nbd.Extent, len(runs))
		for i, r := range runs {
			next := geo.Offset(r.Chunk + block.Chunk(r.Len))
			extents[i].Length = next - off
			off = next
			if r.Changed {
				extents[i].Flags = wire.StateDirty
			}
		}
		return extents, nil
	}
}
