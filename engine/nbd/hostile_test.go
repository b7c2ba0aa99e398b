// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// TestHostileClients lets clients misbehave, each more than once, and checks
// that the server drops them, goes on serving others, and keeps nothing: see
// start for the latter, and TestMain for goroutines.
func TestHostileClients(t *testing.T) {
	put := func(q wire.Request) []byte {
		b := make([]byte, wire.RequestSize)
		q.Put(b)
		return b
	}
	for _, tc := range []struct {
		name      string
		handshake bool // is what is too long
		do        func(ts *testServer, t *testing.T)
	}{
		{"says nothing", true, func(ts *testServer, t *testing.T) {
			nc, err := net.Dial("unix", ts.addr)
			require.NoError(t, err)
			(&raw{Conn: nc, t: t}).closed()
		}},
		{"leaves at once", false, func(ts *testServer, t *testing.T) {
			nc, err := net.Dial("unix", ts.addr)
			require.NoError(t, err)
			require.NoError(t, nc.Close())
		}},
		{"sends garbage for flags", false, func(ts *testServer, t *testing.T) {
			nc, err := net.Dial("unix", ts.addr)
			require.NoError(t, err)
			r := &raw{Conn: nc, t: t}
			r.send(bytes.Repeat([]byte{0xa5}, 4))
			r.closed()
		}},
		{"sends garbage for an option", false, func(ts *testServer, t *testing.T) {
			r := ts.greeted(t)
			r.send(bytes.Repeat([]byte{0xa5}, 64))
			r.closed()
		}},
		{"claims a huge option", false, func(ts *testServer, t *testing.T) {
			r := ts.greeted(t)
			b := make([]byte, wire.OptionSize)
			wire.PutOption(b, wire.OptList, 1<<32-1)
			r.send(b)
			r.closed()
		}},
		{"asks for a name of 64 KiB", false, func(ts *testServer, t *testing.T) {
			r := ts.greeted(t)
			r.option(wire.OptExportName, make([]byte, maxOption))
			r.closed()
		}},
		{"never ends the handshake", true, func(ts *testServer, t *testing.T) {
			r := ts.greeted(t)
			for {
				b := make([]byte, wire.OptionSize)
				wire.PutOption(b, wire.OptList, 0)
				if _, err := r.Write(b); err != nil {
					return
				}
				if _, err := io.ReadFull(r, make([]byte, 2*wire.OptionReplySize+4)); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}},
		{"sends garbage for a request", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			r.send(bytes.Repeat([]byte{0xa5}, wire.RequestSize))
			r.closed()
		}},
		{"claims a huge write", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			r.request(wire.Request{Type: wire.CmdWrite, Length: 1<<32 - 512})
			r.closed()
		}},
		{"stalls in a payload", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			r.request(wire.Request{Type: wire.CmdWrite, Length: 16 << 20})
			r.send(make([]byte, 1<<20))
			r.closed()
		}},
		{"stalls in a payload that is refused", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			r.request(wire.Request{Type: wire.CmdWrite, Offset: testSize, Length: 16 << 20})
			r.send(make([]byte, 1<<20))
			r.closed()
		}},
		{"leaves in a payload", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			r.request(wire.Request{Type: wire.CmdWrite, Length: 16 << 20})
			r.send(make([]byte, 1<<20))
			require.NoError(t, r.Close())
		}},
		{"leaves with requests in flight", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			for i := range 64 {
				r.request(wire.Request{Type: wire.CmdRead, Cookie: uint64(i), Length: 1 << 20})
			}
			require.NoError(t, r.Close())
		}},
		{"never reads its replies", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			q := put(wire.Request{Type: wire.CmdRead, Length: 8 << 20})
			for { // until the server, which cannot send, hangs up
				if _, err := r.Write(q); err != nil {
					require.NotErrorIs(t, err, net.ErrClosed)
					return
				}
			}
		}},
		{"never reads its small replies", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			q := bytes.Repeat(put(wire.Request{Type: wire.CmdRead, Length: 4096}), 64)
			for {
				if _, err := r.Write(q); err != nil {
					return
				}
			}
		}},
		{"never reads the chunks of a reply", false, func(ts *testServer, t *testing.T) {
			r := ts.greeted(t)
			r.option(wire.OptStructuredReply, nil)
			r.answer(wire.OptStructuredReply)
			r.option(wire.OptExportName, nil)
			r.read(10)
			q := put(wire.Request{Type: wire.CmdRead, Length: 8 << 20})
			for {
				if _, err := r.Write(q); err != nil {
					return
				}
			}
		}},
		{"talks on after goodbye", false, func(ts *testServer, t *testing.T) {
			r := ts.attached(t)
			r.send(append(put(wire.Request{Type: wire.CmdDisc}), put(wire.Request{Type: wire.CmdRead, Length: 512})...))
			r.closed()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := memdev.New(testSize)
			_, err := d.WriteAt(bytes.Repeat([]byte{1}, 8<<20), 0)
			require.NoError(t, err)
			cfg := quick()
			cfg.Memory = 64 << 20
			if !tc.handshake {
				cfg.HandshakeTimeout = 0
			}
			ts := start(t, cfg, map[string]*Export{"": {Device: d}})
			for range 2 {
				tc.do(ts, t)
				ts.usable(t)
			}
		})
	}
}

// TestIdleClientsStay checks that patience ends only in the middle of things.
func TestIdleClientsStay(t *testing.T) {
	cfg := quick()
	cfg.StallTimeout, cfg.HandshakeTimeout = 20*time.Millisecond, 100*time.Millisecond
	r := start(t, cfg, one()).attached(t)
	time.Sleep(150 * time.Millisecond)
	r.request(wire.Request{Type: wire.CmdRead, Length: 512})
	r.read(wire.SimpleSize + 512)
}

// TestMemoryBoundsAreShared has one connection hold all payload memory by not
// reading; another gets its turn when the first is dropped.
func TestMemoryBoundsAreShared(t *testing.T) {
	cfg := quick()
	cfg.Memory = wire.MaxPayload
	ts := start(t, cfg, one())
	greedy := ts.attached(t)
	greedy.request(wire.Request{Type: wire.CmdRead, Length: wire.MaxPayload})
	require.Eventually(t, func() bool { return !ts.budget.try(1) || ts.giveBack() }, testPatience, testTick)
	ts.usable(t)
	greedy.closed()
}

// giveBack undoes a try that succeeded.
func (s *Server) giveBack() bool {
	s.budget.give(1)
	return false
}
