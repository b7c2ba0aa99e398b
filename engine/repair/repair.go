// SPDX-License-Identifier: Apache-2.0

// Package repair makes a new store, on other devices, of what can still be read of
// a damaged one.
//
// It owns the search for what is left and the judgement of what to believe. It
// knows the format (package layout) and uses no tree or log of the engine, since
// those refuse what it is for; only the shape of the new store is the engine's own
// (store.Format). It never writes to the old devices. The command line calls it.
// The old devices must not change meanwhile. Damage of any kind is expected: an
// error is returned only when nothing at all is left, or when the new devices or
// the sorting of the finds fail; until Run returns without one, the new store is an
// empty one.
//
// # What is believed
//
// Of the tree of exceptions, what the newest superblock reaches. Where pages of it are
// lost, every whole leaf of this store that lies anywhere in the tree pages, of
// whatever checkpoint: an exception of the origin, once made, is true for as long as
// a snapshot needs it, and its checksum says whether its slot still holds it. Of the
// logs, every batch that can be found. Nothing of the origin is taken without its
// checksum. Writes to snapshots have none: of those, what was reached is believed, and
// what was found otherwise only if the change tree names it; else the snapshot is
// marked damaged.
//
// What is known to be lost, because the change tree names it, becomes an exception in
// layout.LostSlot: reading it is an error. What may be lost without anybody knowing,
// because both trees have lost the same part or a record of a log is missing, marks
// the snapshots concerned as damaged. A last record that is lost whole cannot be told
// from one that was never written.
//
// # Memory
//
// A bit a tree page and a bit a slot of the old store, 200 bytes a lost page and a
// snapshot, and Options.SortBytes for sorting in files: 48 bytes of temporary space an
// exception, and again as much while a tree is lost. Chunks are read 4 MiB ahead.
package repair

import (
	"context"
	"errors"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
)

// ErrNothing is wrapped when nothing of a store was found.
var ErrNothing = errors.New("nothing of a store was found")

// Devices are what the old store lies on, as far as they can still be read.
type Devices struct {
	Store   io.ReaderAt // the data area
	Meta    io.ReaderAt // the metadata area; nil if it is on Store
	Journal io.ReaderAt // the batches' journal, of placements nvram and pmem; else nil
}

// Options tune a repair; the zero value of each field means its default.
type Options struct {
	TempDir   string // for sorting; default as of os.CreateTemp
	SortBytes int64  // of memory for sorting; default 64 MiB
	// Superblock stands in for lost ones: only sizes, regions and placement are used.
	// Without it they are guessed from what was found, and from how stores are made.
	Superblock *layout.Superblock
	// Of the new store.
	Placement   layout.Placement // default the old one's
	JournalSize int64            // see store.FormatOptions
	// OnProgress, if not nil, is told how many of about total bytes were read.
	OnProgress func(done, total int64)
}

// Plan says what Run would make of a store. It writes nothing but temporary files,
// and reads all that Run reads.
func Plan(ctx context.Context, old Devices, o Options) (*Report, error) {
	r, err := newRepair(ctx, old, o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.gather(); err != nil {
		return nil, err
	}
	for range r.exceptions() {
	}
	return r.finish(), r.err
}

// Run makes a new store on the devices to, whose content is lost, of what can be
// read of the old one, with the same chunks, snapshots, tags and generations, and an
// identity of its own. When it returns without an error the new store is durable.
func Run(ctx context.Context, old Devices, to placement.Devices, o Options) (*Report, error) {
	r, err := newRepair(ctx, old, o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.gather(); err != nil {
		return nil, err
	}
	if err := r.write(to); err != nil {
		return nil, err
	}
	return r.finish(), nil
}

// repair is a repair under way.
type repair struct {
	ctx  context.Context
	opts Options
	old  *image
	err  error // of what an iteration met

	report    Report
	snaps     *table
	lost      [layout.Kinds + 1]ranges // of keys, by kind; of exceptions and changes only
	finds     *sorter[find]
	changes   *sorter[layout.Change]  // of the new store
	reached   bitset                  // pages of trees
	used      bitset                  // old slots that were taken
	done      int64                   // bytes read
	ahead     map[block.Slot][]byte   // slots that were read before they are judged
	copyTo    func(data []byte) error // writes the next slot of the new store; nil data: the end
	nextSlot  block.Slot
	suspicion []suspicion

	chunks     uint64           // of the origin at its largest
	generation block.Generation // the newest of all that was found
	ends       []counts         // see countCopy
	writes     map[block.Branch]counts
}

func newRepair(ctx context.Context, old Devices, o Options) (*repair, error) {
	if o.SortBytes == 0 {
		o.SortBytes = 64 << 20
	}
	r := &repair{ctx: ctx, opts: o, snaps: newTable(), ahead: make(map[block.Slot][]byte)}
	img, err := r.openImage(old)
	if err != nil {
		return nil, err
	}
	r.old = img
	r.finds = newSorter(o.TempDir, int(o.SortBytes/2/findSize), findCodec{})
	r.changes = newSorter(o.TempDir, int(o.SortBytes/2/changeSize), changeCodec{})
	return r, nil
}

// close removes the temporary files.
func (r *repair) close() {
	r.finds.close()
	r.changes.close()
}

// gather collects all finds.
func (r *repair) gather() error {
	for _, step := range []func() error{r.readTrees, r.readLogs, r.settleSnapshots} {
		if err := step(); err != nil {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return fmt.Errorf("repairing store %v: %w", r.old.sb.UUID, err)
		}
	}
	return nil
}

// problem notes something about the old store.
func (r *repair) problem(format string, args ...any) {
	r.report.Problems = appendBounded(r.report.Problems, fmt.Sprintf(format, args...))
}

// maxProblems bounds the problems listed in a report.
const maxProblems = 1000

func appendBounded(list []string, s string) []string {
	if len(list) < maxProblems {
		return append(list, s)
	}
	return list
}
