// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// query returns the data of LIST_META_CONTEXT and SET_META_CONTEXT.
func query(export string, queries ...string) []byte {
	b := binary.BigEndian.AppendUint32(wire.AppendString(nil, export), uint32(len(queries)))
	for _, q := range queries {
		b = wire.AppendString(b, q)
	}
	return b
}

// goData returns the data of INFO and GO.
func goData(export string, items ...wire.Info) []byte {
	b := binary.BigEndian.AppendUint16(wire.AppendString(nil, export), uint16(len(items)))
	for _, i := range items {
		b = binary.BigEndian.AppendUint16(b, uint16(i))
	}
	return b
}

// dirtyExports has a volume of which every other 64 KiB changed since "monday".
func dirtyExports() map[string]*Export {
	status := func(off, n int64, one bool) ([]Extent, error) {
		var es []Extent
		for end := off + n; off < end; {
			next := (off>>16 + 1) << 16
			es = append(es, Extent{Length: next - off, Flags: uint32(off>>16) & 1})
			off = next
		}
		return es, nil
	}
	broken := func(int64, int64, bool) ([]Extent, error) { return nil, fmt.Errorf("index is lost") }
	return map[string]*Export{
		"vol": {Device: memdev.New(testSize), Description: "a volume", Contexts: map[string]StatusFunc{
			DirtyContext("monday"): status, DirtyContext("tuesday"): allAllocated, DirtyContext("broken"): broken,
		}},
		"ro": {Device: memdev.New(testSize), ReadOnly: true},
	}
}

func TestOptions(t *testing.T) {
	long := strings.Repeat("x", wire.MaxName+1)
	for _, tc := range []struct {
		name       string
		structured bool
		opt        wire.Option
		data       []byte
		want       []wire.OptionReply
	}{
		{"list", false, wire.OptList, nil, []wire.OptionReply{wire.RepServer, wire.RepServer, wire.RepAck}},
		{"list with data", false, wire.OptList, []byte("x"), []wire.OptionReply{wire.RepErrInvalid}},
		{"unknown", false, 4711, nil, []wire.OptionReply{wire.RepErrUnsup}},
		{"unknown with data", false, 4711, []byte("data"), []wire.OptionReply{wire.RepErrUnsup}},
		{"too long", false, wire.OptInfo, make([]byte, maxOption+1), []wire.OptionReply{wire.RepErrTooBig}},
		{"info", false, wire.OptInfo, goData("vol"), []wire.OptionReply{wire.RepInfo, wire.RepInfo, wire.RepAck}},
		{"info with everything", false, wire.OptInfo, goData("vol", wire.InfoName, wire.InfoDescription, 99),
			[]wire.OptionReply{wire.RepInfo, wire.RepInfo, wire.RepInfo, wire.RepInfo, wire.RepAck}},
		{"info of no export", false, wire.OptInfo, goData("nowhere"), []wire.OptionReply{wire.RepErrUnknown}},
		{"go to no export", false, wire.OptGo, goData("nowhere"), []wire.OptionReply{wire.RepErrUnknown}},
		{"info without data", false, wire.OptInfo, nil, []wire.OptionReply{wire.RepErrInvalid}},
		{"info cut short", false, wire.OptInfo, goData("vol", wire.InfoName)[:9], []wire.OptionReply{wire.RepErrInvalid}},
		{"info of a long name", false, wire.OptInfo, goData(long), []wire.OptionReply{wire.RepErrInvalid}},
		{"starttls without TLS", false, wire.OptStartTLS, nil, []wire.OptionReply{wire.RepErrPolicy}},
		{"structured replies with data", false, wire.OptStructuredReply, []byte{1}, []wire.OptionReply{wire.RepErrInvalid}},
		{"contexts without structured replies", false, wire.OptSetMetaContext, query("vol", "base:allocation"), []wire.OptionReply{wire.RepErrInvalid}},
		{"all contexts", true, wire.OptListMetaContext, query("vol"),
			[]wire.OptionReply{wire.RepMetaContext, wire.RepMetaContext, wire.RepMetaContext, wire.RepMetaContext, wire.RepAck}},
		{"contexts of a namespace", true, wire.OptListMetaContext, query("vol", "qemu:"),
			[]wire.OptionReply{wire.RepMetaContext, wire.RepMetaContext, wire.RepMetaContext, wire.RepAck}},
		{"contexts of a leaf", true, wire.OptListMetaContext, query("vol", "qemu:dirty-bitmap:", "base:allocation"),
			[]wire.OptionReply{wire.RepMetaContext, wire.RepMetaContext, wire.RepMetaContext, wire.RepMetaContext, wire.RepAck}},
		{"one context", true, wire.OptSetMetaContext, query("vol", "qemu:dirty-bitmap:monday"), []wire.OptionReply{wire.RepMetaContext, wire.RepAck}},
		{"one context twice", true, wire.OptSetMetaContext, query("vol", "base:allocation", "base:allocation"), []wire.OptionReply{wire.RepMetaContext, wire.RepAck}},
		{"setting no context", true, wire.OptSetMetaContext, query("vol"), []wire.OptionReply{wire.RepAck}},
		{"setting a namespace", true, wire.OptSetMetaContext, query("vol", "qemu:"), []wire.OptionReply{wire.RepAck}},
		{"unknown context", true, wire.OptSetMetaContext, query("vol", "qemu:dirty-bitmap:sunday"), []wire.OptionReply{wire.RepAck}},
		{"contexts of no export", true, wire.OptListMetaContext, query("nowhere"), []wire.OptionReply{wire.RepErrUnknown}},
		{"queries without count", true, wire.OptListMetaContext, wire.AppendString(nil, "vol"), []wire.OptionReply{wire.RepErrInvalid}},
		{"fewer queries than claimed", true, wire.OptListMetaContext, append(wire.AppendString(nil, "vol"), 0xff, 0xff, 0xff, 0xff), []wire.OptionReply{wire.RepErrInvalid}},
		{"more data than queries", true, wire.OptListMetaContext, append(query("vol", "base:"), 0), []wire.OptionReply{wire.RepErrInvalid}},
		{"abort", false, wire.OptAbort, nil, []wire.OptionReply{wire.RepAck}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, Config{}, dirtyExports()).greeted(t)
			if tc.structured {
				r.option(wire.OptStructuredReply, nil)
				r.answer(wire.OptStructuredReply)
			}
			r.option(tc.opt, tc.data)
			for _, want := range tc.want {
				got, _ := r.answer(tc.opt)
				require.Equal(t, want, got)
			}
			if tc.opt == wire.OptAbort {
				r.closed()
				return
			}
			r.option(wire.OptAbort, nil) // still in step
			got, _ := r.answer(wire.OptAbort)
			require.Equal(t, wire.RepAck, got)
		})
	}
}

func TestBeforeTLSNothingIsTold(t *testing.T) {
	server, _ := testCertificates(t)
	ts := start(t, Config{TLS: server, TLSMode: TLSRequired}, dirtyExports())
	for _, o := range []wire.Option{wire.OptList, wire.OptInfo, wire.OptGo, wire.OptStructuredReply, wire.OptSetMetaContext, 4711} {
		r := ts.greeted(t)
		r.option(o, goData("vol"))
		got, _ := r.answer(o)
		require.Equal(t, wire.RepErrTLSReqd, got)
	}
	r := ts.greeted(t)
	r.option(wire.OptExportName, []byte("vol"))
	r.closed()
	r = ts.greeted(t)
	r.option(wire.OptAbort, nil)
	got, _ := r.answer(wire.OptAbort)
	require.Equal(t, wire.RepAck, got)
}

func TestInfo(t *testing.T) {
	ts := start(t, Config{}, dirtyExports())
	require.Equal(t, nbdclient.Info{
		Size: testSize, MinBlock: 512, PreferredBlock: 4096, MaxPayload: wire.MaxPayload, Name: "vol", Description: "a volume",
		Flags: wire.FlagHasFlags | wire.FlagSendFlush | wire.FlagSendFUA | wire.FlagSendTrim | wire.FlagSendWriteZeroes |
			wire.FlagSendDF | wire.FlagCanMultiConn | wire.FlagSendFastZero,
	}, ts.dial(t, "vol", nbdclient.Options{Structured: true}).Info())
	require.Equal(t, wire.FlagHasFlags|wire.FlagSendFlush|wire.FlagSendFUA|wire.FlagCanMultiConn|wire.FlagReadOnly,
		ts.dial(t, "ro", nbdclient.Options{}).Info().Flags)
	names, err := nbdclient.List("unix", ts.addr, nbdclient.Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"ro", "vol"}, names)
}

// TestExportsAppear checks that an export made after the server's start can be
// attached.
func TestExportsAppear(t *testing.T) {
	ts := start(t, Config{}, dirtyExports())
	_, err := nbdclient.Dial("unix", ts.addr, "later", nbdclient.Options{})
	require.ErrorContains(t, err, "no such export")
	ts.exports.m["later"] = &Export{Device: memdev.New(512)}
	require.EqualValues(t, 512, ts.dial(t, "later", nbdclient.Options{}).Size())
}

// TestOldClientsGetTheirZeroes attaches without the flag NO_ZEROES.
func TestOldClientsGetTheirZeroes(t *testing.T) {
	nc, err := net.Dial("unix", start(t, Config{}, one()).addr)
	require.NoError(t, err)
	r := &raw{Conn: nc, t: t}
	r.read(18)
	r.send([]byte{0, 0, 0, 0})
	r.option(wire.OptExportName, nil)
	answer := r.read(8 + 2 + 124)
	require.EqualValues(t, testSize, binary.BigEndian.Uint64(answer))
	require.Equal(t, make([]byte, 124), answer[10:])
	r.request(wire.Request{Type: wire.CmdDisc})
	r.closed()
}

func TestBlockStatus(t *testing.T) {
	monday := DirtyContext("monday")
	ts := start(t, Config{}, dirtyExports())
	c := ts.dial(t, "vol", nbdclient.Options{Contexts: []string{monday, wire.ContextAllocation}})
	got, err := c.BlockStatus(monday, 32<<10, 128<<10)
	require.NoError(t, err)
	require.Equal(t, []nbdclient.Extent{{Length: 32 << 10}, {Length: 64 << 10, Flags: wire.StateDirty}, {Length: 32 << 10}}, got)
	got, err = c.BlockStatus(wire.ContextAllocation, 0, testSize)
	require.NoError(t, err)
	require.Equal(t, []nbdclient.Extent{{Length: testSize}}, got)
	_, err = c.BlockStatus(DirtyContext("tuesday"), 0, 512)
	require.Error(t, err, "not selected")
	_, err = nbdclient.Dial("unix", ts.addr, "ro", nbdclient.Options{Contexts: []string{monday}})
	require.ErrorContains(t, err, "no metadata context")

	broken := ts.dial(t, "vol", nbdclient.Options{Contexts: []string{DirtyContext("broken")}})
	_, err = broken.BlockStatus(DirtyContext("broken"), 0, 512)
	require.ErrorIs(t, err, wire.EIO)
}

func TestAppendStatus(t *testing.T) {
	const one = wire.CmdFlagReqOne
	for _, tc := range []struct {
		name    string
		flags   uint16
		extents []Extent
		want    []nbdclient.Extent
	}{
		{"whole", 0, []Extent{{4096, 1}}, []nbdclient.Extent{{Length: 4096, Flags: 1}}},
		{"joined", 0, []Extent{{512, 1}, {512, 1}, {512, 0}}, []nbdclient.Extent{{Length: 1024, Flags: 1}, {Length: 512}}},
		{"cut off", 0, []Extent{{1 << 40, 3}}, []nbdclient.Extent{{Length: 4096, Flags: 3}}},
		{"one of several", one, []Extent{{512, 1}, {512, 1}, {512, 0}}, []nbdclient.Extent{{Length: 1024, Flags: 1}}},
		{"none", 0, nil, []nbdclient.Extent{{Length: 4096}}},
		{"bad lengths", 0, []Extent{{0, 1}, {-5, 1}}, []nbdclient.Extent{{Length: 4096}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &request{Request: wire.Request{Type: wire.CmdBlockStatus, Flags: tc.flags, Length: 4096, Cookie: 7}}
			b := appendStatus(nil, r, 5, wire.ChunkFlagDone, tc.extents)
			var c wire.Chunk
			require.NoError(t, c.Parse(b))
			require.Equal(t, wire.Chunk{Flags: wire.ChunkFlagDone, Type: wire.ChunkBlockStatus, Cookie: 7, Length: uint32(4 + 8*len(tc.want))}, c)
			b = b[wire.ChunkSize:]
			require.EqualValues(t, 5, binary.BigEndian.Uint32(b))
			var got []nbdclient.Extent
			for b = b[4:]; len(b) > 0; b = b[8:] {
				got = append(got, nbdclient.Extent{Length: int64(binary.BigEndian.Uint32(b)), Flags: binary.BigEndian.Uint32(b[4:])})
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// TestManyExtentsAreBounded asks for more extents than one reply holds.
func TestManyExtentsAreBounded(t *testing.T) {
	status := func(off, n int64, _ bool) (es []Extent, err error) {
		for ; n > 0; n -= 512 {
			es = append(es, Extent{Length: 512, Flags: uint32(n>>9) & 1})
		}
		return es, nil
	}
	ts := start(t, Config{}, map[string]*Export{"": {Device: memdev.New(testSize), Contexts: map[string]StatusFunc{"x-test:fine": status}}})
	got, err := ts.dial(t, "", nbdclient.Options{Contexts: []string{"x-test:fine"}}).BlockStatus("x-test:fine", 0, testSize)
	require.NoError(t, err)
	require.Len(t, got, maxExtents)
}
