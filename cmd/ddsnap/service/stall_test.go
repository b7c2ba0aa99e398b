// SPDX-License-Identifier: Apache-2.0

package service

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/pattern"
)

// The server is stopped for a while under load, and not killed: requests wait, and none
// fails.
func TestServerIsStopped(t *testing.T) {
	sc := newScene(t, 256<<20)
	srv, c := sc.start("server"), sc.start("origin")
	dev := c.dial(OriginExport)
	l := loaded(dev, sceneSize, 7)
	for n := range often(2, 10) {
		takeSnapshot(t, sc.store, uint32(n))
		l.goOn(t, 20)
		srv.signal(syscall.SIGSTOP)
		time.Sleep(time.Duration(often(200, 5000)) * time.Millisecond)
		srv.signal(syscall.SIGCONT)
		l.goOn(t, 100)
	}
	require.NoError(t, l.end())
	_, err := l.ledger.Present().Check(dev)
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	c.end()
	srv.end()
	sc.mustBeClean()
}

// A snapshot of an origin whose client is stopped is refused after a limit, with the
// client's name. The client goes on when it can, and then a snapshot can be taken.
func TestOriginClientIsStoppedForASnapshot(t *testing.T) {
	sc := newScene(t, 256<<20)
	sc.quiet = 100 * time.Millisecond
	srv, c := sc.start("server"), sc.start("origin")
	dev := c.dial(OriginExport)
	l := loaded(dev, sceneSize, 8)
	for n := range often(2, 10) {
		tag := block.Tag(n)
		l.goOn(t, 50)
		c.signal(syscall.SIGSTOP)
		c.awaitStopped()
		_, err := sc.do(admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: tag}})
		require.ErrorContains(t, err, "no answer within 100ms")
		require.ErrorContains(t, err, "client lock 16")
		_, err = sc.do(admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: tag}})
		require.Error(t, err, "it is away")
		c.signal(syscall.SIGCONT)
		l.goOn(t, 50)
		held, _ := l.ledger.During(func() error { takeSnapshot(t, sc.store, uint32(tag)); return nil })
		snap := c.dial(SnapshotPrefix + formatTag(tag))
		_, err = held.Check(snap)
		require.NoError(t, err)
		require.NoError(t, snap.Close())
	}
	require.NoError(t, l.end())
	_, err := l.ledger.Present().Check(dev)
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	c.end()
	srv.end()
	sc.mustBeClean()
}

// filled takes snapshots that are never dropped, each before the origin is overwritten,
// until the store is full. It returns how many there are.
func (sc *scene) filled(dev *nbdclient.Client, seq *uint64) (n int) {
	p := device.Buffer(1 << 20)
	for tag := block.Tag(100); ; tag++ {
		_, err := sc.do(admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: tag, Priority: layout.MaxPriority}})
		require.NoError(sc.t, err)
		n++
		*seq++
		for off := int64(0); off < sceneSize; off += int64(len(p)) {
			pattern.Fill(p, off, pattern.Stamp{Stream: 1, Seq: *seq})
			if _, err := dev.WriteAt(p, off); err != nil {
				return n
			}
		}
	}
}

// A reader is stopped when it knows a slot and has not read it. The snapshot is squashed
// meanwhile, its neighbours are deleted, and what is free is used again. When the reader
// goes on, it gets what the snapshot had, or an error, and nothing else.
func TestSnapshotReaderIsStopped(t *testing.T) {
	sc := newScene(t, 48<<20)
	sc.quiet = time.Second // of the reader, while the origin's client always answers, however busy the machine is
	srv, c := sc.start("server"), sc.start("origin")
	dev := c.dial(OriginExport)
	p, seq := device.Buffer(sceneSize), uint64(1)
	write := func() {
		pattern.Fill(p, 0, pattern.Stamp{Stream: 1, Seq: seq})
		_, err := dev.WriteAt(p, 0)
		require.NoError(t, err)
	}
	write()
	takeSnapshot(t, sc.store, 1)
	_, err := sc.do(admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: 2, Priority: layout.MaxPriority}})
	require.NoError(t, err)
	seq++
	write() // copies for both

	reader := sc.start("snapshots")
	snap := reader.dial("r1")
	q := device.Buffer(64 << 10)
	_, err = snap.ReadAt(q, 0)
	require.NoError(t, err)
	reader.signal(syscall.SIGUSR1)
	result := make(chan error, 1)
	go func() {
		var err error
		for err == nil && len(result) == 0 { // until the signal was seen
			if _, err = snap.ReadAt(q, 1<<20); err == nil {
				var s pattern.Stamp
				if s, err = pattern.Read(q, 1<<20); err == nil && s.Seq != 1 {
					t.Errorf("a stopped reader got write %d", s.Seq)
				}
			}
		}
		result <- err
	}()
	reader.awaitStopped()

	for n := sc.filled(dev, &seq); n > 0; n-- { // the first is squashed by then
		sc.deleted(block.Tag(99 + n))
	}
	sc.deleted(2)
	sc.filled(dev, &seq)
	reader.signal(syscall.SIGCONT)
	err = <-result
	require.Error(t, err, "in the end it hears that the snapshot was squashed")
	require.NotErrorIs(t, err, pattern.ErrWrong)
	_ = snap.Close() // it failed
	reader.end()
	require.NoError(t, dev.Close())
	c.end()
	srv.end()
	sc.mustBeClean()
}

// A server begins while the volume's process, which the one before had, is stopped: a
// request that changes something waits until that has come back.
func TestRequestsWaitForTheOriginClient(t *testing.T) {
	sc := newScene(t, 256<<20)
	srv, c := sc.start("server"), sc.start("origin")
	dev := c.dial(OriginExport)
	c.signal(syscall.SIGSTOP)
	c.awaitStopped()
	srv.kill()
	srv = sc.start("server")
	require.Eventually(t, func() bool { _, err := sc.do(admin.Request{Verb: admin.VerbList}); return err == nil }, time.Minute, time.Millisecond)
	time.AfterFunc(100*time.Millisecond, func() { c.signal(syscall.SIGCONT) })
	_, err := sc.do(admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: 1}})
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	c.end()
	srv.end()
	sc.mustBeClean()
}
