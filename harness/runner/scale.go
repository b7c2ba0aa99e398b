// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// scale measures stores of very many exceptions: what a crash, a check and deletions
// of snapshots cost whoever uses the origin. There is a store for each number of
// snapshots over which the exceptions are spread. Origins and stores are sparse files;
// the first store has the worst case, a snapshot of which frees least at a time.
type scale struct {
	bench
	tmp    string
	stores []*synthetic
}

// synthetic is a store of many exceptions, closed.
type synthetic struct {
	origin, store string
	snapshots     int
	oldest        block.Tag
}

func (x *scale) prepare(context.Context) (err error) {
	if x.tmp, err = os.MkdirTemp(x.dir, "zbench-"); err != nil {
		return err
	}
	for _, n := range x.Snapshots {
		s := &synthetic{
			origin: filepath.Join(x.tmp, fmt.Sprintf("origin-%d", n)), store: filepath.Join(x.tmp, fmt.Sprintf("store-%d", n)),
			snapshots: n, oldest: 1,
		}
		x.stores = append(x.stores, s)
		if err := s.make(checktest.Synthetic{Exceptions: x.Exceptions, Snapshots: n, ChunkSize: int(x.Chunks[0]), Seed: x.seed}); err != nil {
			return fmt.Errorf("making a store of %d exceptions: %w", x.Exceptions, err)
		}
	}
	return nil
}

// make makes the files.
func (s *synthetic) make(contents checktest.Synthetic) error {
	f, err := device.OpenFile(s.origin, device.FileOptions{Create: contents.OriginSize()})
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	if f, err = device.OpenFile(s.store, device.FileOptions{Create: contents.StoreSize()}); err != nil {
		return err
	}
	return errors.Join(contents.Write(f), f.Close())
}

// open opens origin and store.
func (s *synthetic) open() (*stack.Stack, func() error, error) {
	bed, err := stack.OpenPaths(s.origin, s.store)
	if err != nil {
		return nil, nil, err
	}
	st, err := bed.OpenAll()
	if err != nil {
		return nil, nil, errors.Join(err, bed.Close())
	}
	return st, func() error { return errors.Join(st.Close(), bed.Close()) }, nil
}

func (x *scale) close() error {
	if x.tmp == "" {
		return nil
	}
	return os.RemoveAll(x.tmp)
}

func (x *scale) round(ctx context.Context, n int) (all []results.Sample, err error) {
	rng := x.random(n)
	for i, s := range x.stores {
		samples, err := x.store(ctx, s, i == 0, n, rng)
		if err != nil {
			return nil, fmt.Errorf("%d snapshots: %w", s.snapshots, err)
		}
		all = append(all, samples...)
	}
	return all, nil
}

// store measures a store: deletions and, if whole is set, all else.
func (x *scale) store(ctx context.Context, s *synthetic, whole bool, round int, rng *rand.Rand) (all []results.Sample, err error) {
	add := func(op string, qd int, t tally) *results.Sample {
		sample := t.sample(x.Name, results.Measured, round, config(op, "inline", x.Chunks[0], qd, s.snapshots, "").With("exceptions", strconv.Itoa(x.Exceptions)))
		all = append(all, sample)
		return &all[len(all)-1]
	}
	var recovery tally
	if whole {
		recovery.ops = 1
		if recovery.elapsed, err = x.crash(s, rng.Uint64()); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	st, closeStack, err := s.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeStack()) }()
	if whole {
		if _, err := st.Device().WriteAt(device.Buffer(int(x.Block)), rng.Int64N(st.Device().Size()/x.Block)*x.Block); err != nil {
			return nil, err
		}
		recovery.elapsed += time.Since(began)
		add("recovery", 0, recovery)
		checked, err := x.check(st, s.store)
		if err != nil {
			return nil, err
		}
		add("check", 0, checked)
		tallies, err := x.foreground(ctx, st, s, rng)
		if err != nil {
			return nil, err
		}
		for i, deleting := range []string{"no", "yes"} {
			sample := add("foreground", x.Depths[0], tallies[i])
			sample.Config = sample.Config.With("deleting", deleting)
		}
	}
	deleted, err := s.delete(st)
	if err != nil {
		return nil, err
	}
	add("delete", 0, deleted)
	return all, nil
}

// crash has a process write to the origin, kills it when its log is long, and returns
// how long that took to end: from then on I/O is held. Nothing stays in the page cache.
func (x *scale) crash(s *synthetic, seed uint64) (time.Duration, error) {
	ch, err := export.StartPart(x.program, export.CrashPart, s.origin, s.store, strconv.FormatUint(seed, 10))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = ch.Kill()
	took := time.Since(began)
	return took, errors.Join(err, cold(s.origin), cold(s.store))
}

// cold has the kernel forget what it has of a file in memory. A host that caches the
// disk of this machine does not forget.
func cold(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if err == nil {
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	if err != nil {
		err = fmt.Errorf("clearing the page cache of %s: %w", path, err)
	}
	return errors.Join(err, f.Close())
}

// check checks the store that is in use, in a process of its own, whose memory is
// measured as a whole.
func (x *scale) check(st *stack.Stack, path string) (t tally, err error) {
	pin, err := st.Server().Pin()
	if err != nil {
		return t, err
	}
	defer pin.Unpin()
	if err := cold(path); err != nil {
		return t, err
	}
	report, err := export.ReadCheck(x.program, path, pin.Superblock)
	switch {
	case err != nil:
		return t, err
	case pin.Revoked():
		return t, errors.New("the checkpoint was not kept through the check")
	case report.Entries < uint64(x.Exceptions)/2: // the deletions of all rounds free less
		return t, fmt.Errorf("the check looked at %d entries only", report.Entries)
	case len(report.Violations) > 0:
		return t, fmt.Errorf("the check finds %q", report.Violations)
	}
	t.ops, t.elapsed = 1, time.Duration(report.Seconds*float64(time.Second))
	t.set(goals.PeakBytes, float64(report.PeakBytes))
	return t, nil
}

// deletingTurns is how many slices the window of rewrites is cut into: long enough
// for a deletion to find its pace, short enough to see the same machine.
const deletingTurns = 8

// foreground measures settled rewrites, in turns without and with deletions under
// way.
func (x *scale) foreground(ctx context.Context, st *stack.Stack, s *synthetic, rng *rand.Rand) ([]tally, error) {
	a := newAddresses(rng.Uint64(), min(x.Origin, st.Origin), x.Chunks[0], x.Block, x.MaxOps)
	if _, err := drive(ctx, st, a.slice(0, 1), x.Depths[0], x.newVersion()); err != nil {
		return nil, err
	}
	tallies, freed := make([]tally, 2), 0.0
	var under time.Duration
	err := inTurns(ctx, rng, deletingTurns, len(tallies), func(v, slice int) error {
		stop := func() error { return nil }
		if v == 1 {
			var err error
			if stop, err = s.keepDeleting(st); err != nil {
				return err
			}
		}
		before, began := st.Status().Exceptions, time.Now()
		r, err := drive(ctx, st, x.stream("rewrite", "inline", &a, slice, deletingTurns), x.Depths[0], x.newVersion())
		tallies[v].add(r)
		if v == 1 {
			freed += float64(before) - float64(st.Status().Exceptions) // not what ends after the slice
			under += time.Since(began)
			tallies[v].setFreed(freed, under)
		}
		return errors.Join(err, stop(), st.Idle())
	})
	return tallies, err
}

// keepDeleting deletes the oldest snapshot, and the next when what it held is freed,
// until stop is called.
func (s *synthetic) keepDeleting(st *stack.Stack) (stop func() error, err error) {
	if err := s.drop(st); err != nil {
		return nil, err
	}
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				ended <- nil
				return
			case <-tick.C:
			}
			if st.Status().SnapshotsGoing > 0 {
				continue
			}
			if err := s.drop(st); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() error {
		close(done)
		return <-ended
	}, nil
}

// drop deletes the oldest snapshot; what it held is freed in the background.
func (s *synthetic) drop(st *stack.Stack) error {
	if err := st.Delete(s.oldest); err != nil {
		return err
	}
	s.oldest++
	return nil
}

// delete measures a deletion of the oldest snapshot until all that it held is freed.
func (s *synthetic) delete(st *stack.Stack) (t tally, err error) {
	before, began := st.Status().Exceptions, time.Now()
	if err := errors.Join(s.drop(st), st.Idle()); err != nil {
		return t, err
	}
	t.ops, t.elapsed = 1, time.Since(began)
	t.setFreed(float64(before-st.Status().Exceptions), t.elapsed)
	return t, nil
}

// setFreed notes how many exceptions deletions freed in how long.
func (t *tally) setFreed(n float64, in time.Duration) {
	t.set(goals.FreedExceptions, n)
	t.set(goals.FreedPerSecond, n/in.Seconds())
}
