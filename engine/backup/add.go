// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// Add makes a point of what the delta says that src and o make: from the point base, or,
// if that is empty, a full image. It takes a shared lock meanwhile. Beside what
// [delta.Encode] does it holds up to 3 parts of [PartSize]. The point is there, durably,
// when Add returns nil, and not at all before; after an error there may be garbage.
func (r *Repository) Add(ctx context.Context, base string, src delta.Source, o delta.EncodeOptions) (*Point, error) {
	ctx, l, err := r.Lock(ctx, "backup create", false)
	if err != nil {
		return nil, err
	}
	p, err := r.add(ctx, l, base, src, o)
	return p, errors.Join(err, l.Close())
}

func (r *Repository) add(ctx context.Context, l *Lock, base string, src delta.Source, o delta.EncodeOptions) (*Point, error) {
	if err := r.checkBase(ctx, base, &o.Header); err != nil {
		return nil, err
	}
	now := r.now().UTC()
	p := &Point{ID: time.Unix(0, o.To.Created).UTC().Format("20060102t150405z") + "-" + randomName(8), Base: base, Made: now}
	if err := r.write(ctx, p, src, o); err != nil {
		return nil, err
	}
	if err := r.publish(ctx, l, p); err != nil {
		if gone := r.remove(ctx, pointName(p.ID)); gone != nil { // it may be there, and then needs what was written
			return nil, errors.Join(err, gone)
		}
		return nil, errors.Join(err, r.removeSet(ctx, p))
	}
	return p, nil
}

// checkBase returns an error unless a delta with that header can follow the point base.
func (r *Repository) checkBase(ctx context.Context, base string, h *delta.Header) error {
	if slices.Contains(h.Codecs, codec.Similar) {
		return errors.New("codec similar is not for repositories: it needs other places of the base")
	}
	if (base == "") != (h.From == nil) {
		return errors.New("a delta follows a point, and a full image none")
	}
	if base == "" {
		return nil
	}
	chain, err := r.chain(ctx, base)
	if err != nil {
		return err
	}
	b := chain[len(chain)-1]
	switch {
	case b.Snapshot.Identity != h.From.Identity || b.Snapshot.Size != h.From.Size || b.ChunkSize != h.ChunkSize:
		return fmt.Errorf("%w: backup %s is not the state that the delta leads from", delta.ErrBase, base)
	case len(chain) > MaxChain:
		return fmt.Errorf("%w: %s has a chain of %d deltas already", delta.ErrChain, base, len(chain)-1)
	}
	return nil
}

// chain returns the points from a full image to the one with that ID.
func (r *Repository) chain(ctx context.Context, id string) (chain []Point, err error) {
	for next := id; next != ""; {
		p, err := r.point(ctx, next)
		if err != nil && next != id {
			return nil, fmt.Errorf("%w: what %s needs: %w", ErrDamaged, id, err)
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, *p)
		next = p.Base
		if len(chain) > MaxChain+1 {
			return nil, fmt.Errorf("%w: the chain of %s has no end", ErrDamaged, id)
		}
	}
	slices.Reverse(chain)
	return chain, nil
}

// write writes the delta of a point as a new set of objects, and notes it in p.
func (r *Repository) write(ctx context.Context, p *Point, src delta.Source, o delta.EncodeOptions) error {
	p.Snapshot, p.ChunkSize, p.Extent = o.To, o.ChunkSize, o.Extent
	p.Snapshot.Algorithm, p.Snapshot.Digest = 0, [32]byte{} // they are in the delta
	p.data, p.partSize = randomName(16), PartSize
	w := r.newParts(ctx, p)
	sum, err := delta.Encode(w.ctx, w, src, o)
	if err = errors.Join(err, w.close()); err != nil {
		return errors.Join(fmt.Errorf("writing backup %s: %w", p.ID, err), r.removeSet(ctx, p))
	}
	p.Delta = sum
	return nil
}

// publish writes the manifest of a point whose delta is there. If the lock was lost, what
// the point needs may be gone.
func (r *Repository) publish(ctx context.Context, l *Lock, p *Point) error {
	content, err := p.encode()
	if err != nil {
		return err
	}
	if err := l.Held(ctx); err != nil {
		return err
	}
	if err := r.putSealed(ctx, pointName(p.ID), content); err != nil {
		return fmt.Errorf("writing the manifest of %s: %w", p.ID, err)
	}
	return l.Held(ctx)
}

// removeSet removes what was written of the delta of a point that has no manifest.
func (r *Repository) removeSet(ctx context.Context, p *Point) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	list, err := r.storage.List(ctx, setPrefix(p.ID, p.data))
	for _, o := range list {
		err = errors.Join(err, r.storage.Delete(ctx, o.Name))
	}
	if err != nil {
		return fmt.Errorf("removing what is left, which prune does later: %w", err)
	}
	return nil
}

// uploads is how many parts are put at a time.
const uploads = 2

// parts is a delta that is being written, as objects.
type parts struct {
	r      *Repository
	ctx    context.Context // ends with the first error
	cancel context.CancelCauseFunc
	point  *Point
	number int64
	build  *seal.Builder // nil: none is begun
	free   chan struct{}
}

var _ io.Writer = (*parts)(nil)

func (r *Repository) newParts(ctx context.Context, p *Point) *parts {
	w := &parts{r: r, point: p, free: make(chan struct{}, uploads)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	for range uploads {
		w.free <- struct{}{}
	}
	return w
}

// Write implements io.Writer. It returns errors of earlier parts.
func (w *parts) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if w.build == nil {
			var err error
			if w.build, err = w.r.seals.Begin(partName(w.point.ID, w.point.data, w.number), PartSize); err != nil {
				return 0, err
			}
		}
		k := min(int64(len(p)), PartSize-w.build.Len())
		if _, err := w.build.Write(p[:k]); err != nil {
			return 0, err
		}
		if p = p[k:]; w.build.Len() == PartSize {
			if err := w.put(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// put begins to put the part that is complete.
func (w *parts) put() error {
	select {
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	case <-w.free:
	}
	name, object := partName(w.point.ID, w.point.data, w.number), w.build.Finish()
	w.build = nil
	w.number++
	go func() {
		if err := w.r.storage.Put(w.ctx, name, object); err != nil {
			w.cancel(err)
		}
		w.free <- struct{}{}
	}()
	return nil
}

// close puts the last part and waits for all.
func (w *parts) close() error {
	var err error
	if w.build != nil && w.ctx.Err() == nil {
		err = w.put()
	}
	for range uploads {
		<-w.free
	}
	if err == nil {
		err = context.Cause(w.ctx)
	}
	w.cancel(nil)
	return err
}
