// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// kills kills the server's process again and again under a load that reads back what it
// writes, with snapshots taken in between, and counts requests that failed and contents
// that are wrong. Time is that of a kill with the requests between it and the next.
type kills struct {
	bench
	tmp, sockets         string
	origin, path, socket string
}

// Between two kills so many requests succeed, and after each snapshotEvery-th kill there
// is a snapshot more.
const (
	requestsBetween = 50
	snapshotEvery   = 5
)

func (x *kills) prepare(context.Context) (err error) {
	if x.tmp, err = os.MkdirTemp(x.dir, "zbench-"); err != nil {
		return err
	}
	if x.sockets, err = os.MkdirTemp("", "zbench-"); err != nil { // their paths must be short
		return err
	}
	x.origin, x.path, x.socket = filepath.Join(x.tmp, "origin"), filepath.Join(x.tmp, "store"), filepath.Join(x.sockets, "server")
	return nil
}

func (x *kills) close() error { return errors.Join(os.RemoveAll(x.tmp), os.RemoveAll(x.sockets)) }

// killed is what a round has found.
type killed struct {
	failed, wrong int64
	elapsed       time.Duration
}

func (x *kills) round(ctx context.Context, n int) ([]results.Sample, error) {
	origin, err := x.format()
	if err != nil {
		return nil, err
	}
	ledger := pattern.NewLedger(pattern.Zeroes(x.random(n).Uint64(), x.Origin), nil)
	taken := make(map[block.Tag]pattern.Bounds)
	k, err := x.kill(ctx, origin, ledger, taken)
	if err = errors.Join(err, origin.Close()); err != nil {
		return nil, err
	}
	if err := x.compare(ledger, taken, &k); err != nil {
		return nil, err
	}
	t := tally{elapsed: k.elapsed, ops: int64(x.MinOps)}
	t.set(goals.Kills, float64(x.MinOps))
	t.set(goals.FailedRequests, float64(k.failed))
	t.set(goals.WrongContents, float64(k.wrong))
	return []results.Sample{t.sample(x.Name, results.Measured, n, config("kill", "", x.Chunks[0], 0, len(taken), ""))}, nil
}

// format makes an origin of zeroes and an empty store.
func (x *kills) format() (*device.File, error) {
	for _, path := range []string{x.origin, x.path} {
		if err := os.RemoveAll(path); err != nil {
			return nil, err
		}
	}
	f, err := device.OpenFile(x.path, device.FileOptions{Create: x.Store, Direct: true})
	if err != nil {
		return nil, err
	}
	_, err = store.Format(placement.Devices{Store: f}, store.FormatOptions{OriginSize: x.Origin, ChunkSize: int(x.Chunks[0])})
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return device.OpenFile(x.origin, device.FileOptions{Create: x.Origin, Direct: true})
}

// kill loads the origin and kills its server MinOps times.
func (x *kills) kill(ctx context.Context, origin device.Device, ledger *pattern.Ledger, taken map[block.Tag]pattern.Bounds) (k killed, err error) {
	child, err := export.StartPart(x.program, export.ServePart, x.path, x.socket)
	if err != nil {
		return k, err
	}
	defer func() {
		if child != nil {
			err = errors.Join(err, child.Close())
		}
	}()
	f, err := device.OpenFile(x.path, device.FileOptions{Direct: true, Role: device.Origin})
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c, err := client.Dial(ctx, x.socket, client.Options{Lock: device.OriginByte})
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	v, err := volume.OpenOrigin(c, origin, placement.Devices{Store: f}, volume.Options{})
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	l := x.load(ctx, v, ledger)
	began := time.Now()
	for i := range x.MinOps {
		if i%snapshotEvery == 0 {
			tag := block.Tag(len(taken))
			if taken[tag], err = ledger.During(func() error { return takeSnapshot(ctx, child, int(tag)) }); err != nil {
				break
			}
		}
		if err = l.goesOn(ctx); err != nil {
			break
		}
		err = errors.Join(child.Kill(), os.RemoveAll(x.socket))
		child = nil
		if err != nil {
			break
		}
		if child, err = export.StartPart(x.program, export.ServePart, x.path, x.socket); err != nil {
			break
		}
		if err = l.goesOn(ctx); err != nil {
			break
		}
	}
	k.elapsed = time.Since(began)
	ended := l.end()
	if errors.Is(ended, pattern.ErrWrong) {
		k.wrong++
		ended, err = nil, nil
	}
	k.failed = l.failed.Load()
	return k, errors.Join(err, ended)
}

// takeSnapshot takes a snapshot as soon as the origin's client is back.
func takeSnapshot(ctx context.Context, child *export.Child, tag int) error {
	for {
		err := child.Snapshot(tag)
		if err == nil || !strings.Contains(err.Error(), wire.ErrAway.Error()) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// compare compares the origin and all snapshots with what they are to be, in a store
// that is opened anew.
func (x *kills) compare(ledger *pattern.Ledger, taken map[block.Tag]pattern.Bounds, k *killed) (err error) {
	bed, err := stack.OpenPaths(x.origin, x.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	st, err := bed.OpenAll()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	count := func(what string, err error) error {
		if errors.Is(err, pattern.ErrWrong) {
			k.wrong++
			return nil
		}
		if err != nil {
			return fmt.Errorf("comparing %s: %w", what, err)
		}
		return nil
	}
	_, err = ledger.Present().Check(st.Device())
	if err := count("the origin", err); err != nil {
		return err
	}
	for tag, content := range taken {
		s, err := st.Open(tag, false)
		if err != nil {
			return err
		}
		_, err = content.Check(s)
		if err := errors.Join(count(fmt.Sprintf("snapshot %d", tag), err), s.Close()); err != nil {
			return err
		}
	}
	return nil
}

// verifiedLoad is a load in the background. Requests that fail are counted.
type verifiedLoad struct {
	churn  *pattern.Churn
	failed atomic.Int64
	stop   context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

func (x *kills) load(ctx context.Context, v pattern.Device, ledger *pattern.Ledger) *verifiedLoad {
	l := &verifiedLoad{done: make(chan struct{})}
	l.churn = pattern.NewChurn(ledger, pattern.Options{Workers: 4, Align: 4096, Seed: x.seed, Spare: func(error) bool {
		l.failed.Add(1)
		return true
	}})
	ctx, l.stop = context.WithCancel(ctx)
	go func() {
		defer close(l.done)
		l.err = l.churn.Run(ctx, v)
	}()
	return l
}

// goesOn waits until more requests have succeeded.
func (l *verifiedLoad) goesOn(ctx context.Context) error {
	for had := l.churn.Ops(); l.churn.Ops() < had+requestsBetween; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.done:
			return errors.New("the load has ended")
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// end ends the load, and returns what it ended with.
func (l *verifiedLoad) end() error {
	l.stop()
	<-l.done
	return l.err
}
