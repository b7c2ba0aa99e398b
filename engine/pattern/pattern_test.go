// SPDX-License-Identifier: Apache-2.0

package pattern_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/pattern"
)

const (
	size   = 256 << 10
	stream = 0x1234
)

func TestSectors(t *testing.T) {
	p := make([]byte, 4*pattern.SectorSize)
	s := pattern.Stamp{Stream: stream, Seq: 7}
	pattern.Fill(p, 8192, s)
	for i := 0; i < len(p); i += pattern.SectorSize {
		got, err := pattern.Read(p[i:i+pattern.SectorSize], 8192+int64(i))
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	_, err := pattern.Read(p[512:1024], 8192)
	require.ErrorIs(t, err, pattern.ErrWrong, "of another place")
	for i := range pattern.SectorSize {
		q := bytes.Clone(p[:512])
		q[i] ^= 0x10
		_, err := pattern.Read(q, 8192)
		require.ErrorIs(t, err, pattern.ErrWrong, "byte %d", i)
	}
	zero, err := pattern.Read(make([]byte, 512), 99)
	require.NoError(t, err)
	require.Zero(t, zero)
}

// hooked has a hook for the n-th write, which may do it in its place.
type hooked struct {
	pattern.Device
	writes atomic.Int64
	hook   func(n int64, p []byte, off int64) (done bool, err error)
}

func (h *hooked) WriteAt(p []byte, off int64) (int, error) {
	if done, err := h.hook(h.writes.Add(1), p, off); done || err != nil {
		return len(p), err
	}
	return h.Device.WriteAt(p, off)
}

// loaded runs a load until it has written so often.
func loaded(t *testing.T, d pattern.Device, l *pattern.Ledger, o pattern.Options, writes int64) {
	ctx, cancel := context.WithCancel(t.Context())
	c := pattern.NewChurn(l, o)
	require.NoError(t, c.Run(ctx, &hooked{Device: d, hook: func(n int64, _ []byte, _ int64) (bool, error) {
		if n == writes {
			cancel()
		}
		return false, nil
	}}))
	require.Greater(t, c.Ops(), writes)
}

func TestChurnOnAGoodDevice(t *testing.T) {
	for _, o := range []pattern.Options{{}, {Workers: 8, Align: 4096, Seed: 3}, {Workers: 3, MostBytes: 64 << 10}} {
		d := memdev.New(size)
		l := pattern.NewLedger(pattern.Zeroes(stream, size), nil)
		loaded(t, d, l, o, 300)
		found, err := l.Present().Check(d)
		require.NoError(t, err)
		_, err = found.Check(d)
		require.NoError(t, err)
		// By the pattern alone, another process goes on.
		found, err = pattern.Any(stream, size).Check(d)
		require.NoError(t, err)
		loaded(t, d, pattern.NewLedger(found, nil), o, 300)
		_, err = pattern.Any(stream+1, size).Check(d)
		require.ErrorIs(t, err, pattern.ErrWrong, "another stream")
	}
}

func TestChurnFindsWhatIsWrong(t *testing.T) {
	for name, put := range map[string]func(d *memdev.Device, p []byte, off int64){
		"lost":      func(*memdev.Device, []byte, int64) {},
		"misplaced": func(d *memdev.Device, p []byte, off int64) { _, _ = d.WriteAt(p, (off+4096)%(size-4096)) },
		"torn":      func(d *memdev.Device, p []byte, off int64) { _, _ = d.WriteAt(p[:len(p)-512], off) },
		"mixed":     func(d *memdev.Device, p []byte, off int64) { _, _ = d.WriteAt(append(p[512:], p[:512]...), off) },
	} {
		t.Run(name, func(t *testing.T) {
			d := memdev.New(size)
			wrong := &hooked{Device: d, hook: func(n int64, p []byte, off int64) (bool, error) {
				if n == 2000 {
					return true, errEnough
				}
				if n != 60 {
					return false, nil
				}
				put(d, p, off)
				return true, nil
			}}
			l := pattern.NewLedger(pattern.Zeroes(stream, size), nil)
			err := pattern.NewChurn(l, pattern.Options{MostBytes: 4096}).Run(t.Context(), wrong)
			require.ErrorIs(t, err, pattern.ErrWrong)
		})
	}
}

// cached is a device behind a page cache: what is being written may be read torn.
type cached struct {
	mu   sync.Mutex
	data []byte
	lose int // one in how many pieces of what is written is lost; 0: none
	n    int // pieces written
}

func (c *cached) pieces(p []byte, off int64, each func(p, data []byte)) {
	for n := 0; n < len(p); n += 128 {
		c.mu.Lock()
		each(p[n:n+128], c.data[off+int64(n):])
		c.mu.Unlock()
		runtime.Gosched()
	}
}

func (c *cached) ReadAt(p []byte, off int64) (int, error) {
	c.pieces(p, off, func(p, data []byte) { copy(p, data) })
	return len(p), nil
}

func (c *cached) WriteAt(p []byte, off int64) (int, error) {
	c.pieces(p, off, func(p, data []byte) {
		if c.n++; c.lose == 0 || c.n%c.lose != 0 {
			copy(data, p)
		}
	})
	return len(p), nil
}

func (c *cached) Flush() error { return nil }

// What is read torn is read again if it was being written meanwhile, and only then.
func TestChurnReadsWhatIsBeingWritten(t *testing.T) {
	o := pattern.Options{Workers: 4, MostBytes: 4096}
	loaded(t, &cached{data: make([]byte, size)}, pattern.NewLedger(pattern.Zeroes(stream, size), nil), o, 2000)
	c := pattern.NewChurn(pattern.NewLedger(pattern.Zeroes(stream, size), nil), o)
	require.ErrorIs(t, c.Run(t.Context(), &cached{data: make([]byte, size), lose: 99}), pattern.ErrWrong)
}

// A load that spares an error goes on: what failed may have happened or not.
func TestChurnSpares(t *testing.T) {
	full := errors.New("full")
	d := memdev.New(size)
	failing := &hooked{Device: d, hook: func(n int64, p []byte, off int64) (bool, error) {
		switch {
		case n == 2000:
			return true, errEnough
		case n%6 == 0:
			_, _ = d.WriteAt(p[:len(p)/1024*512], off)
			return true, full
		}
		return n%3 == 0, map[bool]error{true: full}[n%3 == 0]
	}}
	l := pattern.NewLedger(pattern.Zeroes(stream, size), nil)
	c := pattern.NewChurn(l, pattern.Options{Workers: 2, Spare: func(err error) bool { return errors.Is(err, full) }})
	err := c.Run(t.Context(), failing)
	require.ErrorIs(t, err, errEnough)
	require.NotErrorIs(t, err, pattern.ErrWrong)
	_, err = l.Present().Check(d)
	require.NoError(t, err)
}

var errEnough = errors.New("that is enough")

// After a power cut all that was flushed is there, and the rest may be.
func TestLedgerOfAPowerCut(t *testing.T) {
	lost := 0
	for seed := range uint64(20) {
		d := memdev.NewVolatile(size)
		var text bytes.Buffer
		log, err := pattern.NewLog(&text, pattern.Zeroes(stream, size))
		require.NoError(t, err)
		l := pattern.NewLedger(pattern.Zeroes(stream, size), log)
		c := pattern.NewChurn(l, pattern.Options{Workers: 4, Seed: seed, FlushEvery: 30})
		require.ErrorIs(t, c.Run(t.Context(), &hooked{Device: d, hook: func(n int64, _ []byte, _ int64) (bool, error) {
			if n > 100 {
				return true, errEnough
			}
			return false, nil
		}}), errEnough)
		after := d.Crash(rand.New(rand.NewPCG(seed, 1)), memdev.Fate{Keep: 0.5, Tear: 0.2})

		again, err := pattern.ReadLog(bytes.NewReader(append(text.Bytes(), 1, 2, 3)))
		require.NoError(t, err)
		require.Equal(t, l.Durable(), again.Durable())
		if _, err = l.Present().Check(after); err != nil {
			require.ErrorIs(t, err, pattern.ErrWrong)
			lost++
		}
		found, err := again.Durable().Check(after)
		require.NoError(t, err)
		require.NoError(t, again.Recover(found))
		loaded(t, after, again, pattern.Options{Workers: 4}, 200)
		_, err = again.Present().Check(after)
		require.NoError(t, err)
		_, err = again.Durable().Check(after.Crash(rand.New(rand.NewPCG(seed, 2)), memdev.Fate{}))
		require.NoError(t, err)
	}
	require.Positive(t, lost, "what was not flushed was never lost")
}

// What was flushed and is lost is found.
func TestLedgerFindsLostFlushes(t *testing.T) {
	d := memdev.New(size)
	l := pattern.NewLedger(pattern.Zeroes(stream, size), nil)
	s, ok, err := l.Begin(8, 8)
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = l.Begin(15, 1)
	require.NoError(t, err)
	require.False(t, ok, "a write is under way there")
	p := make([]byte, 4096)
	pattern.Fill(p, 4096, s)
	_, err = d.WriteAt(p, 4096)
	require.NoError(t, err)
	require.NoError(t, l.End(8, 8, s, true))
	_, err = l.Durable().Check(memdev.New(size))
	require.NoError(t, err, "it was not flushed")
	require.NoError(t, l.Flush(d.Flush))
	_, err = l.Durable().Check(d)
	require.NoError(t, err)
	_, err = l.Durable().Check(memdev.New(size))
	require.ErrorIs(t, err, pattern.ErrWrong)
}

// A file will do as well, with a log beside it.
func TestLogOfAFile(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "device"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(size))
	logFile, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer logFile.Close()
	log, err := pattern.NewLog(logFile, pattern.Zeroes(stream, size))
	require.NoError(t, err)
	l := pattern.NewLedger(pattern.Zeroes(stream, size), log)
	loaded(t, fileDevice{f}, l, pattern.Options{Workers: 2, Align: 4096, FlushEvery: 20}, 50)

	_, err = logFile.Seek(0, 0)
	require.NoError(t, err)
	again, err := pattern.ReadLog(logFile)
	require.NoError(t, err)
	require.Equal(t, l.Present(), again.Present())
	require.Equal(t, l.Durable(), again.Durable())
	_, err = again.Present().Check(f)
	require.NoError(t, err)
	_, err = pattern.ReadLog(bytes.NewReader(make([]byte, 64)))
	require.Error(t, err)
}

type fileDevice struct{ *os.File }

func (f fileDevice) Flush() error { return f.Sync() }
