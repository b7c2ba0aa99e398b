// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// Rewrite says what is done about a point that is not to be kept, but that one to be kept
// needs.
type Rewrite uint8

// The ways.
const (
	// RewriteDeltas makes a delta from a point that stays to the one that needs it. Full
	// images that are needed stay.
	RewriteDeltas Rewrite = iota
	// RewriteNothing has all that is needed stay.
	RewriteNothing
	// RewriteAll makes new full images as well.
	RewriteAll
)

// PruneOptions say what is pruned, and how.
type PruneOptions struct {
	Retention
	Rewrite Rewrite
	DryRun  bool
	// Chooser returns what codes deltas and full images that are made anew, with Codecs.
	Chooser func(extent int, full bool) (codec.Chooser, error)
	Codecs  []codec.ID
	// Progress is told what is being done, and how far it is; it may be nil.
	Progress func(doing string, done, total int64)
}

// Pruned is what became, or would become, of a point.
type Pruned struct {
	Point
	Kept []string // why; nothing: it goes
	// NewBase is what its delta is made from anew, if Rewritten is set; empty: it becomes
	// a full image.
	NewBase   string
	Rewritten bool
}

// PruneResult is what Prune did, or would do.
type PruneResult struct {
	Points         []Pruned
	Garbage        int   // objects that nothing needed, before anything was pruned
	GarbageBytes   int64 // their bytes
	FreedBytes     int64 // of all that was removed, or would be, those garbage objects among them
	RewrittenBytes int64 // of what was written anew
}

// Prune removes the points that the retention does not keep, and what is left of those
// that did not come about. It has the repository alone meanwhile. What is kept stays
// whole at any crash: what it needs anew is written, then its manifest replaced, then
// manifests that are not kept are removed, the newest first, and then what nothing needs.
// It refuses to remove anything while a manifest cannot be read.
func (r *Repository) Prune(ctx context.Context, o PruneOptions) (*PruneResult, error) {
	ctx, l, err := r.Lock(ctx, "backup prune", !o.DryRun)
	if err != nil {
		return nil, err
	}
	res, err := r.prune(ctx, l, o)
	return res, errors.Join(err, l.Close())
}

func (r *Repository) prune(ctx context.Context, l *Lock, o PruneOptions) (*PruneResult, error) {
	points, bad, err := r.Points(ctx)
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("nothing is pruned: %w", errors.Join(bad...))
	}
	if err != nil {
		return nil, err
	}
	res := &PruneResult{}
	if res.Points, err = plan(points, o); err != nil {
		return nil, err
	}
	garbage, err := r.garbage(ctx, points)
	if err != nil {
		return nil, err
	}
	for _, g := range garbage {
		res.Garbage++
		res.GarbageBytes += g.Size
	}
	res.FreedBytes = res.GarbageBytes
	for i := range res.Points {
		if p := &res.Points[i]; len(p.Kept) == 0 || p.Rewritten {
			res.FreedBytes += p.Stored()
		}
	}
	if o.DryRun {
		return res, nil
	}
	if err := r.rewriteAll(ctx, l, res, o); err != nil {
		return res, err
	}
	return res, r.removeUnkept(ctx, l, res)
}

// removeUnkept removes manifests, those that others lead from last, and then what nothing
// needs.
func (r *Repository) removeUnkept(ctx context.Context, l *Lock, res *PruneResult) error {
	var stay []Point
	for _, p := range slices.Backward(byChain(res.Points)) {
		if len(p.Kept) > 0 {
			stay = append(stay, p.Point)
			continue
		}
		if err := l.Held(ctx); err != nil {
			return err
		}
		if err := r.storage.Delete(ctx, pointName(p.ID)); err != nil {
			return fmt.Errorf("removing %s: %w", p.ID, err)
		}
	}
	garbage, err := r.garbage(ctx, stay)
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(garbage, deletesALock) {
		if err := l.Held(ctx); err != nil {
			return err
		}
		err := parallel(ctx, deletes, len(batch), func(i int) error {
			if err := r.storage.Delete(ctx, batch[i].Name); err != nil {
				return fmt.Errorf("removing %s: %w", batch[i].Name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Deletions of garbage at a time, and before the lock is looked after again.
const (
	deletes      = 16
	deletesALock = 256
)

// byChain sorts points so that each stands after the one that it leads from.
func byChain(points []Pruned) []Pruned {
	base := make(map[string]string, len(points))
	for _, p := range points {
		base[p.ID] = p.Base
	}
	depth := func(p Pruned) (n int) {
		for id := p.Base; id != "" && n <= len(points); id = base[id] {
			n++
		}
		return n
	}
	sorted := slices.Clone(points)
	slices.SortStableFunc(sorted, func(a, b Pruned) int { return depth(a) - depth(b) })
	return sorted
}

// Stored returns how many bytes of the storage the point's delta takes.
func (p *Point) Stored() (n int64) {
	full := p.Delta.Bytes / p.partSize
	n = full * seal.SealedSize(p.partSize)
	if rest := p.Delta.Bytes % p.partSize; rest > 0 {
		n += seal.SealedSize(rest)
	}
	return n
}

// garbage returns the objects that none of the points needs. A listing could be wrong: an
// object of a point whose manifest is there after all is an error.
func (r *Repository) garbage(ctx context.Context, points []Point) (list []storage.Object, err error) {
	sets := make(map[string]string, len(points)) // of each point
	for i := range points {
		sets[points[i].ID] = setPrefix(points[i].ID, points[i].data)
	}
	objects, err := r.storage.List(ctx, dataPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the objects: %w", err)
	}
	asked := map[string]bool{}
	for _, o := range objects {
		id, _, _ := strings.Cut(strings.TrimPrefix(o.Name, dataPrefix), "/")
		set, known := sets[id]
		if known && strings.HasPrefix(o.Name, set) {
			continue
		}
		if !known && !asked[id] {
			asked[id] = true
			if _, err := r.point(ctx, id); !errors.Is(err, ErrNoPoint) {
				return nil, fmt.Errorf("nothing is removed: %s was not listed, and is there: %w", id, errors.Join(ErrDamaged, err))
			}
		}
		list = append(list, o)
	}
	temps, err := r.storage.List(ctx, storage.TempPrefix)
	return append(list, temps...), err
}

// rewriteAll makes the deltas and full images anew that are to be, those first that
// others are made from.
func (r *Repository) rewriteAll(ctx context.Context, l *Lock, res *PruneResult, o PruneOptions) error {
	for _, p := range byChain(res.Points) {
		if !p.Rewritten {
			continue
		}
		q, err := r.rewrite(ctx, l, p, o)
		if err != nil {
			return fmt.Errorf("writing %s anew: %w", p.ID, err)
		}
		res.RewrittenBytes += q.Stored()
		for i := range res.Points {
			if res.Points[i].ID == q.ID {
				res.Points[i].Point = *q
			}
		}
	}
	return nil
}

// rewriteMemory bounds the buffers of coding, beside those of reading.
const rewriteMemory = 24 << 20

// rewrite writes the delta to a point anew, from another base, and replaces its manifest.
func (r *Repository) rewrite(ctx context.Context, l *Lock, p Pruned, o PruneOptions) (*Point, error) {
	reader := r.NewReader()
	target, err := reader.Image(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	src := delta.Source{Target: target, Extents: []delta.Extent{{Length: target.Size()}}}
	h := delta.Header{ChunkSize: p.ChunkSize, Extent: p.Extent, To: target.top().header.To, Codecs: o.Codecs}
	if p.NewBase != "" {
		base, err := reader.Image(ctx, p.NewBase)
		if err != nil {
			return nil, err
		}
		from := base.top().header.To
		h.From, src.Base = &from, base
		if src.Extents, err = target.since(p.NewBase); err != nil {
			return nil, err
		}
	}
	e := delta.EncodeOptions{Header: h, Memory: rewriteMemory, Chooser: func() (codec.Chooser, error) { return o.Chooser(h.Extent, p.NewBase == "") }}
	if o.Progress != nil {
		e.Progress = func(done, total int64) { o.Progress("rewriting "+p.ID, done, total) }
	}
	q := &Point{ID: p.ID, Base: p.NewBase, Made: p.Made}
	if err := r.write(ctx, q, src, e); err != nil {
		return nil, err
	}
	return q, r.publish(ctx, l, q) // after an error, either manifest may be there: nothing is removed
}

// sinceStep is of how many windows since looks at all records at once.
const sinceStep = 256

// since returns what may differ from an older point of the image's chain.
func (m *Image) since(base string) ([]delta.Extent, error) {
	i := slices.IndexFunc(m.levels, func(l level) bool { return l.point.ID == base })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s does not lead to %s", ErrDamaged, base, m.top().point.ID)
	}
	var all []delta.Extent
	size := m.levels[i].header.To.Size
	for _, x := range m.levels[i+1:] {
		var list []delta.Extent
		for off := int64(0); off < x.header.To.Size; off += sinceStep * m.window { // all places at once could be many
			places, err := x.delta.Places(off, min(off+sinceStep*m.window, x.header.To.Size))
			if err != nil {
				return nil, damaged(err)
			}
			for _, p := range places {
				list = appendExtent(list, delta.Extent{Offset: p.Offset, Length: p.Length})
			}
		}
		all = union(all, list)
		size = min(size, x.header.To.Size)
	}
	chunk := int64(m.levels[0].header.ChunkSize)
	tail := size / chunk * chunk // what is beyond was not there at some time
	if tail < m.Size() {
		all = union(all, []delta.Extent{{Offset: tail, Length: m.Size() - tail}})
	}
	return clip(all, m.Size()), nil
}

// appendExtent appends an extent that begins at or after the begins of those before.
func appendExtent(list []delta.Extent, e delta.Extent) []delta.Extent {
	if n := len(list) - 1; n >= 0 && list[n].Offset+list[n].Length >= e.Offset {
		list[n].Length = max(list[n].Length, e.Offset+e.Length-list[n].Offset)
		return list
	}
	return append(list, e)
}

// union joins two ascending lists.
func union(a, b []delta.Extent) (list []delta.Extent) {
	for len(a) > 0 || len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].Offset < a[0].Offset {
			from = &b
		}
		list = appendExtent(list, (*from)[0])
		*from = (*from)[1:]
	}
	return list
}

// clip cuts off what is beyond size.
func clip(list []delta.Extent, size int64) []delta.Extent {
	for i := range list {
		if e := &list[i]; e.Offset >= size {
			return list[:i]
		} else if e.Offset+e.Length > size {
			e.Length = size - e.Offset
		}
	}
	return list
}
