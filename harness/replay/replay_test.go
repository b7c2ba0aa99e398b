// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/harness/replay"
)

const (
	originSize = 1 << 20
	storeSize  = 16 << 20
)

// kernelLog logs as dm-log-writes does.
type kernelLog struct {
	mu      sync.Mutex
	entries int
	bytes   bytes.Buffer // after the superblock
	dirty   [][2][]byte  // head and data, not flushed
}

func head(off, n, flags int64, text string) []byte {
	p := make([]byte, 512)
	for i, v := range []int64{off / 512, n / 512, flags, int64(len(text))} {
		binary.LittleEndian.PutUint64(p[8*i:], uint64(v))
	}
	copy(p[32:], text)
	return p
}

func (k *kernelLog) append(head, data []byte) {
	k.entries++
	k.bytes.Write(head)
	k.bytes.Write(data)
}

func (k *kernelLog) mark(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.append(head(0, 0, replay.Mark, fmt.Sprintf(format, args...)), nil)
}

func (k *kernelLog) reader() *bytes.Reader {
	super := make([]byte, 512)
	binary.LittleEndian.PutUint64(super, 0x6a736677736872)
	binary.LittleEndian.PutUint64(super[8:], 1)
	binary.LittleEndian.PutUint64(super[16:], uint64(k.entries))
	binary.LittleEndian.PutUint32(super[24:], 512)
	return bytes.NewReader(append(super, k.bytes.Bytes()...))
}

// part is a slice of the logged device.
type part struct {
	device.Device
	log  *kernelLog
	at   int64
	lose func(off int64) bool
}

func (p part) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.Device.WriteAt(b, off)
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if p.lose == nil || !p.lose(off) {
		p.log.dirty = append(p.log.dirty, [2][]byte{head(p.at+off, int64(len(b)), 0, ""), bytes.Clone(b)})
	}
	return n, err
}

func (p part) Flush() error {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	for _, d := range p.log.dirty {
		p.log.append(d[0], d[1])
	}
	p.log.dirty = nil
	p.log.append(head(0, 0, replay.Flush, ""), nil)
	return nil
}

// recorded is the log of a volume that is written to while snapshots come and go, on
// devices that lose some writes, and what the snapshots hold.
func recorded(t *testing.T, lose func(off int64) bool) (*replay.Log, replay.Options) {
	log := &kernelLog{}
	origin := part{Device: memdev.New(originSize), log: log}
	devs := placement.Devices{Store: part{Device: memdev.New(storeSize), log: log, at: originSize, lose: lose}}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: originSize, ChunkSize: 16 << 10, UUID: layout.UUID{1}, Policy: layout.PolicyDrop})
	require.NoError(t, err)
	srv, err := server.Open(devs, server.Options{Manual: true})
	require.NoError(t, err)
	vol, err := volume.OpenOrigin(srv, origin, devs, volume.Options{Manual: true})
	require.NoError(t, err)
	ledger := pattern.NewLedger(pattern.Zeroes(9, originSize), nil)
	held := map[block.Tag]pattern.Bounds{}
	churn := pattern.NewChurn(ledger, pattern.Options{Seed: 5, MostBytes: 8 << 10})
	for tag := block.Tag(1); tag <= 4; tag++ {
		held[tag], err = ledger.During(func() error { _, err := srv.CreateSnapshot(tag); return err })
		require.NoError(t, err)
		log.mark("made-%d", tag)
		ctx, cancel := context.WithCancel(t.Context())
		until := churn.Ops() + 60
		require.NoError(t, churn.Run(ctx, &counted{vol, func() {
			if churn.Ops() >= until {
				cancel()
			}
		}}))
		cancel()
	}
	log.mark("delete-2")
	require.NoError(t, srv.DeleteSnapshot(2))
	require.NoError(t, vol.Close())
	require.NoError(t, srv.Close())
	l, err := replay.Read(log.reader())
	require.NoError(t, err)
	return l, replay.Options{
		Origin: originSize, Store: storeSize, Loaded: originSize, Points: 12,
		Promise: func(tag block.Tag) (pattern.Bounds, error) { return held[tag], nil },
	}
}

type counted struct {
	pattern.Device
	after func()
}

func (c *counted) WriteAt(p []byte, off int64) (int, error) {
	defer c.after()
	return c.Device.WriteAt(p, off)
}

func TestEveryCutIsRecoveredFrom(t *testing.T) {
	l, o := recorded(t, nil)
	report, err := replay.Verify(l, o)
	require.NoError(t, err)
	require.Positive(t, report.Snapshots)
	require.GreaterOrEqual(t, report.Points, 2)
	t.Log(report)
}

// A store that loses one write of those that hold preserved chunks is found out.
func TestLostWriteIsFound(t *testing.T) {
	var n int
	l, o := recorded(t, func(off int64) bool {
		n++
		return n == 40
	})
	o.Points = 0
	_, err := replay.Verify(l, o)
	require.Error(t, err)
	t.Log(err)
}

func TestBrokenLogs(t *testing.T) {
	log := &kernelLog{}
	log.mark("made-1")
	r := log.reader()
	whole := make([]byte, r.Len())
	_, _ = r.Read(whole)
	l, err := replay.Read(bytes.NewReader(whole))
	require.NoError(t, err)
	require.Equal(t, "made-1", l.Entries[0].Text)
	for _, at := range []int{0, 8, 22, 25, 512 + 7, 512 + 14, 512 + 26} {
		p := bytes.Clone(whole)
		p[at] ^= 0x40
		_, err := replay.Read(bytes.NewReader(p))
		require.Error(t, err, "byte %d", at)
	}
	_, err = replay.Read(bytes.NewReader(whole[:600]))
	require.Error(t, err)
}
