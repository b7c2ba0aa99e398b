// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/store"
)

// TestNext: which snapshot's digest comes next, and when.
func TestNext(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	snap := func(g block.Generation, age time.Duration, change ...func(*admin.Snapshot)) admin.Snapshot {
		s := admin.Snapshot{Tag: block.Tag(g), Generation: g, State: "live", Created: now.Add(-age)}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	known := func(s *admin.Snapshot) { s.Digest = true }
	branch := func(s *admin.Snapshot) { s.Parent = 1 }
	squashed := func(s *admin.Snapshot) { s.State = "squashed" }
	lossy := func(s *admin.Snapshot) { s.Lossy = true }
	for _, c := range []struct {
		name string
		list []admin.Snapshot
		want block.Tag // 0: none
		wait time.Duration
	}{
		{"nothing", nil, 0, 0},
		{"all known", []admin.Snapshot{snap(3, time.Hour, known)}, 0, 0},
		{"without any the newest that is old enough", []admin.Snapshot{snap(3, time.Hour), snap(5, 2*time.Minute), snap(7, time.Second)}, 5, 0},
		{"the first to be old enough", []admin.Snapshot{snap(5, 20*time.Second), snap(7, time.Second)}, 5, 40 * time.Second},
		{"after a known one the next", []admin.Snapshot{snap(2, time.Hour), snap(3, time.Hour, known), snap(5, 2*time.Minute), snap(7, 2*time.Minute)}, 5, 0},
		{"none that is older than a known one", []admin.Snapshot{snap(2, time.Hour), snap(3, time.Hour, known)}, 0, 0},
		{"none that can have none", []admin.Snapshot{snap(2, time.Hour, branch), snap(3, time.Hour, squashed), snap(4, time.Hour, lossy), snap(9, time.Hour)}, 0, 0},
		{"a clock that was set back", []admin.Snapshot{snap(5, -time.Hour)}, 5, time.Minute},
	} {
		b := &Background{tries: map[block.Generation]int{9: mostTries}}
		s, wait := b.next(c.list, now)
		require.Equal(t, c.want == 0, s == nil, c.name)
		if s != nil {
			require.Equal(t, c.want, s.Tag, c.name)
		}
		require.Equal(t, c.wait, wait, c.name)
	}
}

// fake is a store of snapshots of zeroes, with some that cannot have a digest.
type fake struct {
	mu    sync.Mutex // guards what follows
	list  []admin.Snapshot
	errs  map[block.Generation]error // of putting sums
	begun []block.Generation
	used  uint64 // percent of the metadata pages
}

const fakeSize = 8 << 20

func (f *fake) Do(_ context.Context, r admin.Request) (a admin.Response, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	find := func(g block.Generation) *admin.Snapshot {
		for i := range f.list {
			if f.list[i].Generation == g {
				return &f.list[i]
			}
		}
		return &admin.Snapshot{}
	}
	switch r.Verb {
	case admin.VerbList:
		return admin.Response{List: append([]admin.Snapshot(nil), f.list...)}, nil
	case admin.VerbStatus:
		return admin.Response{Status: &admin.Status{MetadataPages: 100, MetadataUsed: f.used}}, nil
	case admin.VerbDigest:
		return admin.Response{Digest: &admin.Digest{}}, nil
	case admin.VerbDigestBegin:
		g := block.Generation(r.Snapshot.Tag)
		f.begun = append(f.begun, g)
		return admin.Response{Digest: &admin.Digest{Generation: g, Size: fakeSize}}, nil
	case admin.VerbDigestPut:
		if err := f.errs[r.Digest.Generation]; err != nil {
			return a, err
		}
		find(r.Digest.Generation).Digest = true
	}
	return a, nil
}

// digested returns the snapshots that have a digest.
func (f *fake) digested() (list []block.Generation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.list {
		if s.Digest {
			list = append(list, s.Generation)
		}
	}
	return list
}

func (f *fake) tried() []block.Generation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.begun)
}

func (f *fake) make(g block.Generation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, aged(g)...)
}

// run has a background at work until nothing happens any more, as often as it is told to.
func (f *fake) run(t *testing.T, during func(b *Background, happened chan<- store.Event)) {
	b := &Background{
		Manager: f, Logger: slog.New(slog.DiscardHandler), Rate: 1 << 20,
		Open: func(admin.Snapshot) (Content, error) { return zeroes{}, nil },
	}
	happened := make(chan store.Event, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx, happened)
	}()
	during(b, happened)
	cancel()
	<-ended
}

type zeroes struct{}

func (zeroes) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }
func (zeroes) Close() error                          { return nil }

func aged(gs ...block.Generation) (list []admin.Snapshot) {
	for _, g := range gs {
		list = append(list, admin.Snapshot{Tag: block.Tag(g), Generation: g, State: "live", Created: time.Now()})
	}
	return list
}

// TestBackgroundKeepsUp: it waits for snapshots to be old enough, keeps to the rate, takes
// up those that are made later, and ends at once.
func TestBackgroundKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{list: aged(1, 2)}
		f.run(t, func(b *Background, happened chan<- store.Event) {
			time.Sleep(DefaultAge - time.Second)
			synctest.Wait()
			require.Empty(t, f.tried())
			time.Sleep(4 * time.Second)
			synctest.Wait()
			st := b.Status()
			require.NotNil(t, st.Snapshot)
			require.EqualValues(t, 2, *st.Snapshot, "the newest comes first where there is none")
			require.EqualValues(t, digest.Leaves(fakeSize), st.Leaves)
			require.InDelta(t, 3, float64(st.Done), 1.1, "1 MiB a second")
			time.Sleep(10 * time.Second)
			synctest.Wait()
			require.Equal(t, []block.Generation{2}, f.digested())
			require.Equal(t, admin.Digesting{}, b.Status())
			f.make(3)
			happened <- store.Event{}
			time.Sleep(2 * DefaultAge)
			synctest.Wait()
			require.Equal(t, []block.Generation{2, 3}, f.digested())
			close(happened) // the store's last event
			synctest.Wait()
			f.make(4)
			time.Sleep(2 * DefaultAge)
			synctest.Wait()
			require.NotContains(t, f.digested(), block.Generation(4), "nobody said so yet")
			time.Sleep(idle)
			synctest.Wait()
			require.Contains(t, f.digested(), block.Generation(4), "it looks by itself")
		})
	})
}

// TestBackgroundTroubles: a snapshot that has none is passed over, and a store that has no
// room is left alone for a while, however much happens.
func TestBackgroundTroubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{list: aged(1, 2, 3), errs: map[block.Generation]error{
			3: errors.New("cannot be read"), 2: store.ErrNoDigest, 1: alloc.ErrNoSpace,
		}}
		f.run(t, func(b *Background, happened chan<- store.Event) {
			time.Sleep(DefaultAge + 60*time.Second)
			synctest.Wait()
			require.Equal(t, []block.Generation{3, 2, 2, 2, 1}, f.tried())
			require.Contains(t, b.Status().Trouble, alloc.ErrNoSpace.Error())
			happened <- store.Event{}
			time.Sleep(time.Second)
			synctest.Wait()
			require.Len(t, f.tried(), 5)
			f.mu.Lock()
			f.errs = nil
			f.mu.Unlock()
			time.Sleep(retry + 20*time.Second)
			synctest.Wait()
			require.Equal(t, []block.Generation{1}, f.digested())
			require.Empty(t, b.Status().Trouble)
		})
	})
}

// TestBackgroundLeavesRoom: where much metadata is in use, nothing is read for digests.
func TestBackgroundLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{list: aged(1), used: share + 1}
		f.run(t, func(b *Background, _ chan<- store.Event) {
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Empty(t, f.tried())
			require.Contains(t, b.Status().Trouble, "metadata pages")
			f.mu.Lock()
			f.used = share
			f.mu.Unlock()
			time.Sleep(retry + time.Minute)
			synctest.Wait()
			require.Equal(t, []block.Generation{1}, f.digested())
		})
	})
}
