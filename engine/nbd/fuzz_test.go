// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// feed gives a server all of input as one connection's bytes, reads what it
// answers, hangs up, and checks that nothing is left. It returns the answer.
func feed(t *testing.T, input []byte) []byte {
	exports := newExports(map[string]*Export{"": {Device: memdev.New(1 << 20), Contexts: map[string]StatusFunc{"x-a:b": allAllocated}}})
	s, err := NewServer(Config{Exports: exports, HandshakeTimeout: 5 * time.Second})
	require.NoError(t, err)
	ours, theirs := net.Pipe()
	answer := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(ours)
		answer <- b
	}()
	go func() {
		_, _ = ours.Write(input)
		if len(input) < 4096 { // let the answers come: a pipe has no half-close
			time.Sleep(100 * time.Microsecond)
		}
		_ = ours.Close()
	}()
	s.serveConn(context.Background(), theirs)
	got := <-answer
	require.Equal(t, s.cfg.Memory, s.budget.left, "payload memory leaked")
	require.Zero(t, exports.open.Load(), "export left open")
	return got
}

// script returns the bytes of a client: flags, then what parts append.
func script(parts ...[]byte) []byte {
	return append([]byte{0, 0, 0, wire.FlagFixedNewstyle | wire.FlagNoZeroes}, bytes.Join(parts, nil)...)
}

func option(o wire.Option, data []byte) []byte {
	b := make([]byte, wire.OptionSize)
	wire.PutOption(b, o, uint32(len(data)))
	return append(b, data...)
}

func requestBytes(q wire.Request) []byte {
	b := make([]byte, wire.RequestSize)
	q.Put(b)
	return b
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte{})
	f.Add(script(option(wire.OptList, nil), option(wire.OptAbort, nil)))
	f.Add(script(option(wire.OptStructuredReply, nil), option(wire.OptListMetaContext, query("")),
		option(wire.OptSetMetaContext, query("", "base:allocation", "x-a:b")), option(wire.OptGo, goData("", wire.InfoName))))
	f.Add(script(option(wire.OptInfo, goData("x")), option(wire.OptExportName, nil)))
	f.Add(script(option(wire.OptStartTLS, nil), option(99, []byte("abc"))))
	f.Fuzz(func(t *testing.T, input []byte) { feed(t, input) })
}

// FuzzRequests feeds requests to a connection with structured replies and
// contexts.
func FuzzRequests(f *testing.F) {
	f.Add(requestBytes(wire.Request{Type: wire.CmdRead, Length: 4096}))
	f.Add(append(requestBytes(wire.Request{Type: wire.CmdWrite, Flags: wire.CmdFlagFUA, Length: 512}), make([]byte, 512)...))
	f.Add(requestBytes(wire.Request{Type: wire.CmdBlockStatus, Flags: wire.CmdFlagReqOne, Length: 1 << 20}))
	f.Add(append(requestBytes(wire.Request{Type: wire.CmdWriteZeroes, Length: 1 << 19}), requestBytes(wire.Request{Type: wire.CmdTrim, Offset: 512, Length: 1 << 19})...))
	f.Add(append(requestBytes(wire.Request{Type: wire.CmdFlush}), requestBytes(wire.Request{Type: wire.CmdDisc})...))
	f.Fuzz(func(t *testing.T, input []byte) {
		feed(t, append(script(option(wire.OptStructuredReply, nil),
			option(wire.OptSetMetaContext, query("", "base:allocation", "x-a:b")), option(wire.OptExportName, nil)), input...))
	})
}

func FuzzParseQueries(f *testing.F) {
	f.Add(query("vol", "base:allocation"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if export, queries, err := parseQueries(data); err == nil {
			require.Equal(t, data, query(export, queries...))
		}
		if name, want, err := parseInfo(data); err == nil {
			require.LessOrEqual(t, len(want), int(binary.BigEndian.Uint16(data[4+len(name):])))
		}
	})
}
