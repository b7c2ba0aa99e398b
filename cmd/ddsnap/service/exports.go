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
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

// Names of exports.
const (
	OriginExport   = "origin"
	SnapshotPrefix = "snapshot/" // before the tag
	sincePrefix    = "since-"    // before the tag, in names of dirty bitmaps
)

// exports are a volume's origin and snapshots.
type exports struct {
	server *server.Server
	origin *volume.Origin // nil if it is not exported
	holes  *holes         // of the origin; may be nil
	source volume.SnapshotSource
}

var _ nbd.Exports = (*exports)(nil)

// List implements nbd.Exports.
func (x *exports) List() []string {
	var names []string
	if x.origin != nil {
		names = append(names, OriginExport)
	}
	for _, s := range x.server.Snapshots() {
		names = append(names, SnapshotPrefix+strconv.FormatUint(uint64(s.Tag), 10))
	}
	return names
}

// Open implements nbd.Exports. The default export is the origin.
func (x *exports) Open(name string) (*nbd.Export, error) {
	if (name == OriginExport || name == "") && x.origin != nil {
		return x.openOrigin(), nil
	}
	text, ok := strings.CutPrefix(name, SnapshotPrefix)
	tag, err := strconv.ParseUint(text, 10, 32)
	if !ok || err != nil || strconv.FormatUint(tag, 10) != text {
		return nil, nbd.ErrNoExport
	}
	return x.openSnapshot(block.Tag(tag))
}

func (x *exports) openOrigin() *nbd.Export {
	e := &nbd.Export{
		Name: OriginExport, Description: "the live volume", Device: exported{x.origin},
		Contexts: x.since(store.OriginGeneration),
	}
	if x.holes != nil {
		e.Contexts[wire.ContextAllocation] = x.holes.status
	}
	return e
}

func (x *exports) openSnapshot(tag block.Tag) (*nbd.Export, error) {
	s, err := volume.OpenSnapshot(x.source, tag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", nbd.ErrNoExport, err)
	}
	return &nbd.Export{
		Name:        SnapshotPrefix + strconv.FormatUint(uint64(tag), 10),
		Description: fmt.Sprintf("snapshot %d", tag),
		Device:      s, ReadOnly: true, Close: s.Close,
		Contexts: x.sinceSnapshot(s.Info()),
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
		if s.Generation < upTo && s.Parent == 0 && !s.Written {
			name := sincePrefix + strconv.FormatUint(uint64(s.Tag), 10)
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
