// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/volume"
)

// serveSnapshots is a process that has snapshots open, and not the origin.
func (p process) serveSnapshots(ctx context.Context) error {
	devs, err := OpenDevices(Paths{Store: p.Store}, Access{Role: device.Snapshots})
	if err != nil {
		return err
	}
	defer devs.Close()
	origin, err := os.Open(p.Origin)
	if err != nil {
		return err
	}
	defer origin.Close()
	socket, err := Socket(p.Store, ClientsSuffix)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, socket, client.Options{Lock: devs.StoreFile.HeldByte()})
	if err != nil {
		return err
	}
	defer c.Close()
	at := &stopper{Device: devs.Store}
	usr := make(chan os.Signal, 1)
	signal.Notify(usr, syscall.SIGUSR1)
	go func() {
		for range usr {
			at.armed.Store(true)
		}
	}()
	ln, err := nbd.Listen("unix", p.Listen)
	if err != nil {
		return err
	}
	s, err := nbd.NewServer(nbd.Config{Exports: snapshotsOnly{volume.SnapshotSource{
		Server: c, Origin: unlocked{memdev.New(sceneSize), origin}, Store: placement.Devices{Store: at}, ChunkSize: sceneChunk, DataOffset: devs.Superblock().DataOffset,
	}}})
	if err != nil {
		return err
	}
	return s.Serve(ctx, ln)
}

// unlocked is an origin that is read beside the process that has locked it.
type unlocked struct {
	device.Device
	file *os.File
}

func (u unlocked) ReadAt(p []byte, off int64) (int, error) { return u.file.ReadAt(p, off) }

// stopper is a store whose reader stops its own process, once it is armed by SIGUSR1,
// when it knows the slot and has not read it.
type stopper struct {
	device.Device
	armed atomic.Bool
}

func (s *stopper) ReadAt(p []byte, off int64) (int, error) {
	if s.armed.Swap(false) {
		if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
			return 0, err
		}
	}
	return s.Device.ReadAt(p, off)
}

// snapshotsOnly exports snapshots by their tags, for writing if a w is before.
type snapshotsOnly struct{ source volume.SnapshotSource }

func (x snapshotsOnly) List() []string { return nil }

func (x snapshotsOnly) Open(name string) (*nbd.Export, error) {
	write := name[0] == 'w'
	ref, err := parseRef(name[1:])
	if err != nil {
		return nil, err
	}
	s, err := volume.OpenSnapshotRef(x.source, ref, write)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", nbd.ErrNoExport, err)
	}
	return &nbd.Export{Name: name, Device: s, ReadOnly: !write, Close: s.Close}, nil
}

// do makes a request of the scene's server.
func (sc *scene) do(r admin.Request) (admin.Response, error) {
	control, err := Socket(sc.store, ControlSuffix)
	require.NoError(sc.t, err)
	c, err := admin.Dial(sc.t.Context(), control)
	if err != nil {
		return admin.Response{}, err
	}
	defer c.Close()
	return c.Do(sc.t.Context(), r)
}

// deleted deletes a snapshot, once nobody has it open.
func (sc *scene) deleted(tag block.Tag) {
	require.Eventually(sc.t, func() bool {
		_, err := sc.do(admin.Request{Verb: admin.VerbDelete, Snapshot: &admin.Ref{Tag: tag}})
		return err == nil
	}, 10*time.Second, 10*time.Millisecond, "snapshot %d is not let go of", tag)
}

// The process with the origin is killed under load, and started again: what it had
// acknowledged is there, snapshots are as they were, and the server keeps nothing of it.
func TestOriginClientIsKilled(t *testing.T) {
	sc := newScene(t, 256<<20)
	srv, c := sc.start("server"), sc.start("origin")
	dev := c.dial(OriginExport)
	l := loaded(dev, sceneSize, 5)
	taken := map[block.Tag]pattern.Bounds{}
	kills := often(4, 20)
	for n := range kills {
		tag := block.Tag(n)
		l.goOn(t, 100)
		held, _ := l.ledger.During(func() error { takeSnapshot(t, sc.store, uint32(tag)); return nil })
		snap := c.dial(SnapshotPrefix + formatTag(tag)) // open when it is killed
		found, err := held.Check(snap)
		require.NoError(t, err)
		taken[tag] = found
		l.goOn(t, int64(20*n))
		c.kill()
		err = l.end()
		require.Error(t, err)
		require.False(t, errors.Is(err, pattern.ErrWrong), "%v", err)
		_, _ = snap.Close(), dev.Close() // they are broken

		c = sc.start("origin")
		dev = c.dial(OriginExport)
		found, err = l.ledger.Present().Check(dev)
		require.NoError(t, err)
		require.NoError(t, l.ledger.Recover(found))
		for tag, held := range taken {
			snap := c.dial(SnapshotPrefix + formatTag(tag))
			_, err = held.Check(snap)
			require.NoError(t, err, "snapshot %d", tag)
			require.NoError(t, snap.Close())
		}
		if n%2 == 1 {
			sc.deleted(tag)
			delete(taken, tag)
		}
		l.run(dev)
	}
	require.NoError(t, l.end())
	require.NoError(t, dev.Close())
	t.Logf("%d kills, %d requests", kills, l.Ops())
	c.end()
	srv.end()
	sc.mustBeClean()
}

// A process that writes to a snapshot is killed: what it had flushed is there, and the
// snapshot may be opened by another, and deleted.
func TestSnapshotClientIsKilled(t *testing.T) {
	sc := newScene(t, 256<<20)
	srv, c := sc.start("server"), sc.start("origin")
	dev := c.dial(OriginExport)
	l := loaded(dev, sceneSize, 6)
	for n := range often(2, 20) {
		tag := block.Tag(n)
		l.goOn(t, 50)
		held, _ := l.ledger.During(func() error { takeSnapshot(t, sc.store, uint32(tag)); return nil })
		writer := sc.start("snapshots")
		snap := writer.dial("w" + formatTag(tag))
		found, err := held.Check(snap)
		require.NoError(t, err)
		w := &load{ledger: pattern.NewLedger(found, nil)}
		w.Churn = pattern.NewChurn(w.ledger, pattern.Options{Workers: 2, Align: 4096, Seed: uint64(n)})
		w.run(snap)
		w.goOn(t, 100)
		writer.kill()
		err = w.end()
		require.Error(t, err)
		require.False(t, errors.Is(err, pattern.ErrWrong), "%v", err)
		_ = snap.Close() // it is broken

		next := sc.start("snapshots")
		snap = next.dial("w" + formatTag(tag))
		_, err = w.ledger.Durable().Check(snap)
		require.NoError(t, err)
		require.NoError(t, snap.Close())
		next.end()
		sc.deleted(tag)
	}
	require.NoError(t, l.end())
	_, err := l.ledger.Present().Check(dev)
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	c.end()
	srv.end()
	sc.mustBeClean()
}
