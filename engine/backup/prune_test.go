// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/delta/codec"
)

func pruneOptions(keep Retention, how Rewrite) PruneOptions {
	return PruneOptions{Retention: keep, Rewrite: how, Codecs: []codec.ID{codec.Raw, codec.Zstd, codec.ZstdPatch},
		Chooser: func(extent int, full bool) (codec.Chooser, error) {
			id := codec.ZstdPatch
			if full {
				id = codec.Zstd
			}
			return codec.NewFixed(id, codec.Options{Extent: extent})
		}}
}

// TestPruneKeeps: whatever is pruned, in whatever way, what is kept reads as before, what
// is not is gone, the plan said so, and no garbage is left.
func TestPruneKeeps(t *testing.T) {
	for seed := range seeds(6) {
		how := Rewrite(seed % 3)
		h := newHistory(t, newRepository(t, storage.NewMemory(), &seal.Key{9}), seed)
		h.grow(8)
		o := pruneOptions(Retention{Last: 1 + int(seed)%4}, how)
		o.DryRun = true
		plan, err := h.r.Prune(t.Context(), o)
		require.NoError(t, err)
		require.Len(t, h.verify(), 8, "a dry run does nothing")
		o.DryRun = false
		res, err := h.r.Prune(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, plan.FreedBytes, res.FreedBytes)
		var want []string
		for i, p := range plan.Points {
			require.Equal(t, p.Kept, res.Points[i].Kept)
			if len(p.Kept) > 0 {
				want = append(want, p.ID)
			}
			if i >= len(plan.Points)-o.Last {
				require.Contains(t, p.Kept, "last")
			}
			if how == RewriteAll && i < len(plan.Points)-o.Last {
				require.Empty(t, p.Kept)
			}
		}
		require.Equal(t, want, h.verify(), "seed %d", seed)
		require.Zero(t, h.check().Garbage)
		_, err = h.add(h.order[len(h.order)-1])
		require.NoError(t, err)
		h.verify()
	}
}

// crashing is a storage that does so many changes, of which the last one may or may not
// be done, and nothing after.
type crashing struct {
	*storage.Memory
	mu   sync.Mutex
	left int
	done bool // the last one is done
}

var errCrash = errors.New("crashed")

func (c *crashing) change(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	if c.left < 0 || c.left == 0 && !c.done {
		return errCrash
	}
	if err := do(); err != nil {
		return err
	}
	if c.left == 0 {
		return errCrash
	}
	return nil
}

func (c *crashing) Put(ctx context.Context, name string, p []byte) error {
	return c.change(func() error { return c.Memory.Put(ctx, name, p) })
}

func (c *crashing) Delete(ctx context.Context, name string) error {
	return c.change(func() error { return c.Memory.Delete(ctx, name) })
}

// TestCrashAnywhere: after a crash at any change of the storage, by adding or by pruning,
// every point that is listed is whole, all that were to stay are there, and another prune
// leaves no garbage.
func TestCrashAnywhere(t *testing.T) {
	for _, how := range []Rewrite{RewriteDeltas, RewriteNothing, RewriteAll} {
		if testing.Short() && how != RewriteAll {
			continue
		}
		before := storage.NewMemory()
		h := newHistory(t, newRepository(t, before, nil), 3)
		h.grow(6)
		crashes := 0
		for n := 1; ; n++ {
			for _, done := range []bool{false, true} {
				c := &crashing{Memory: before.Clone(), left: n, done: done}
				crashed, err := Open(t.Context(), c, nil)
				require.NoError(t, err)
				sure := h.crash(crashed, how)
				after, err := Open(t.Context(), c.Memory, nil)
				require.NoError(t, err)
				h.survived(after, sure)
				if c.left > 0 {
					require.Greater(t, crashes, 10)
					n = -1
				}
				crashes++
			}
			if n < 0 {
				break
			}
		}
	}
}

// crash adds a point and prunes until the storage fails, and returns the points that are
// to be there whatever happened.
func (h *history) crash(r *Repository, how Rewrite) (sure []string) {
	own := *h
	own.r, own.rng = r, newHistory(h.t, r, 4).rng
	own.states = map[string]content{}
	for id, c := range h.states {
		own.states[id] = c
	}
	own.id = codec.Zstd
	p, err := own.add(h.order[len(h.order)-1])
	h.states = own.states
	last := h.order[len(h.order)-1]
	if err != nil {
		require.ErrorIs(h.t, err, errCrash)
		return []string{last}
	}
	_, err = r.Prune(h.t.Context(), pruneOptions(Retention{Last: 2}, how))
	require.True(h.t, err == nil || errors.Is(err, errCrash), "%v", err)
	return []string{last, p.ID}
}

// survived verifies a repository after a crash.
func (h *history) survived(r *Repository, sure []string) {
	own := *h
	own.r = r
	points, bad, err := r.Points(h.t.Context())
	require.NoError(h.t, err)
	require.Empty(h.t, bad)
	var there []string
	for _, p := range points {
		if _, known := own.states[p.ID]; !known { // its Add did not say that it succeeded, and yet it did
			require.NotContains(h.t, h.order, p.ID)
			own.states[p.ID] = own.read(p.ID)
		}
		there = append(there, p.ID)
	}
	require.Subset(h.t, there, sure)
	own.verify()
	own.check()
	_, err = r.Unlock(h.t.Context())
	require.NoError(h.t, err)
	_, err = r.Prune(h.t.Context(), pruneOptions(Retention{Last: 2}, RewriteDeltas))
	require.NoError(h.t, err)
	own.verify()
	require.Zero(h.t, own.check().Garbage)
}

func (h *history) read(id string) content {
	m, err := h.r.NewReader().Image(h.t.Context(), id)
	require.NoError(h.t, err)
	p := make(content, m.Size())
	_, err = m.ReadAt(p, 0)
	require.NoError(h.t, err)
	return p
}

// hiding is a storage that leaves something out of its listings.
type hiding struct {
	storage.Storage
	what string
}

func (s hiding) List(ctx context.Context, prefix string) ([]storage.Object, error) {
	list, err := s.Storage.List(ctx, prefix)
	for i, o := range list {
		if strings.HasPrefix(o.Name, s.what) {
			return append(list[:i:i], list[i+1:]...), err
		}
	}
	return list, err
}

// TestPruneDistrusts: where a listing lacks a manifest, or a manifest is damaged, nothing
// is removed.
func TestPruneDistrusts(t *testing.T) {
	m := storage.NewMemory()
	h := newHistory(t, newRepository(t, m, nil), 8)
	h.grow(3)
	for _, id := range h.order {
		r, err := Open(t.Context(), hiding{m, pointName(id)}, nil)
		require.NoError(t, err)
		_, err = r.Prune(t.Context(), pruneOptions(Retention{Last: 5}, RewriteDeltas))
		require.ErrorIs(t, err, ErrDamaged)
		require.Len(t, h.verify(), 3)
	}
	spoilt := m.Clone()
	require.NoError(t, spoilt.Put(t.Context(), pointName(h.order[0]), []byte("nonsense")))
	r, err := Open(t.Context(), spoilt, nil)
	require.NoError(t, err)
	_, err = r.Prune(t.Context(), pruneOptions(Retention{Last: 1}, RewriteDeltas))
	require.ErrorContains(t, err, "nothing is pruned")
}

// TestRetention: tables of days, and which of them are kept.
func TestRetention(t *testing.T) {
	day := func(text string) Point {
		at, err := time.Parse("2006-01-02 15:04", text)
		require.NoError(t, err)
		p := Point{ID: text}
		p.Snapshot.Created = at.UnixNano()
		return p
	}
	var points []Point
	for _, text := range []string{
		"2025-11-02 10:00", "2025-12-31 10:00", "2026-01-01 10:00", "2026-01-04 09:00", "2026-01-04 23:30", "2026-01-05 01:00", "2026-01-06 08:00", "2026-01-06 20:00",
	} {
		points = append(points, day(text))
	}
	other := day("2020-01-01 00:00")
	other.Snapshot.Store[0] = 2
	points = append([]Point{other}, points...)
	for _, c := range []struct {
		keep Retention
		want string
	}{
		{Retention{}, "0 1 2 3 4 5 6 7 8"},
		{Retention{Last: -1}, "0 1 2 3 4 5 6 7 8"},
		{Retention{Last: 3}, "0 6 7 8"},
		{Retention{Last: 100}, "0 1 2 3 4 5 6 7 8"},
		{Retention{Daily: 3}, "0 5 6 8"},
		{Retention{Daily: 3, Zone: time.FixedZone("east", 3600)}, "0 4 6 8"},
		{Retention{Weekly: 2}, "0 5 8"},
		{Retention{Monthly: 2}, "0 2 8"},
		{Retention{Monthly: -1}, "0 1 2 8"},
		{Retention{Yearly: 5}, "0 2 8"},
		{Retention{Last: 1, Daily: 2, Monthly: 3}, "0 1 2 6 8"},
	} {
		var got []string
		for i, why := range c.keep.Kept(points) {
			if len(why) > 0 {
				got = append(got, fmt.Sprint(i))
			}
		}
		require.Equal(t, c.want, strings.Join(got, " "), "%+v", c.keep)
	}
}
