// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// The vectors of testdata are the protocol by example, for clients in other languages
// too. A file is lines of hexadecimal bytes; "#" begins a comment. Rewriting them is
// changing the protocol.
var rewrite = flag.Bool("rewrite", false, "write the golden vectors anew")

var (
	uuid     = layout.UUID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	position = layout.Position{Place: 0x1234, Seq: 77}
	runs     = []layout.SlotRun{{First: 100, Len: 64}, {First: 5000, Len: 647}}
	copies   = []layout.Copy{{Chunk: 10, Slot: 101, Sum: 0x11111111}, {Chunk: 11, Slot: 102, Sum: 0x22222222}, {Chunk: 40, Slot: 111, Sum: 0x33333333}}
	state    = wire.State{Generation: 9, Newest: 7, Size: 1<<40 + 512, Largest: 1 << 41, Restoring: 5, Revoked: true, Failed: true}
	snapshot = layout.Snapshot{
		Generation: 9, Parent: 4, Tag: 42, State: layout.SnapshotLive, Priority: -3, UseCount: 2,
		Created: 1_700_000_000_000_000_000, Size: 1 << 30, Name: "täglich",
	}
	chunks   = []block.Chunk{64, 65, 100, 127, 128, 193}
	mappings = []wire.Mapping{
		{Chunk: 64, Len: 6, Kind: wire.Stored, Owned: true, Slot: 700}, {Chunk: 70, Len: 50, Kind: wire.Shared},
		{Chunk: 120, Len: 1, Kind: wire.Lost}, {Chunk: 121, Len: 73, Kind: wire.Stored, Slot: 1},
	}
)

func geometry() block.Geometry {
	g, err := block.NewGeometry(1<<40+512, 64<<10)
	if err != nil {
		panic(err)
	}
	return g
}

// message is an example of a message.
type message struct {
	t      wire.Type
	flags  uint16
	id     uint64
	body   []byte
	decode func(p []byte) (any, error)
	want   any
}

// messages returns an example of every message by the name of its file.
func messages() map[string]message {
	session := &wire.Session{
		UUID: uuid, Placement: layout.PlacementDisk, Geometry: geometry(), DataOffset: 1 << 20, Slots: 1 << 20,
		Journal: wire.JournalRegion{Start: 8192, Size: 1 << 24}, Epoch: 7, Position: position, Leases: runs, State: state,
	}
	snap := wire.SnapshotState{Generation: 9, Size: 1 << 30, Revoked: true, Writable: true, Squashed: true, Remember: true}
	open := &wire.SnapshotSession{Handle: 3, Snapshot: snapshot, State: snap}
	report := wire.Batch{Batch: &layout.Batch{Generation: 9, Copies: copies}, Head: 100, HasHead: true, Position: position}
	lost := report
	lost.Batch = &layout.Batch{Generation: 9, Copies: []layout.Copy{{Chunk: 64, Slot: 10, Sum: 1}, {Chunk: 65, Slot: layout.LostSlot}, {Chunk: 66, Slot: 11, Sum: 2}}}
	progress := wire.Progress{UUID: uuid, Epoch: 7, Generation: 9, Position: position}
	failed := progress
	failed.Failed = true
	failure := wire.Failure{Progress: failed, Slots: runs, Reason: "i/o error"}
	hello := wire.Hello{Min: 1, Max: 3, Lock: 17, Features: 5}
	welcome := wire.Welcome{Version: 2, Features: 1, UUID: uuid}
	fault := wire.Fault{Code: 6, Text: "snapshot 42: no such snapshot"}
	restore := wire.RestoreProgress{Generation: 5, Next: 777, Done: true, Lost: true, Trouble: "no space left in the store"}
	type written struct {
		h      wire.Handle
		g      block.Generation
		copies []layout.Copy
	}
	type opening struct {
		ref   wire.SnapshotRef
		write bool
	}
	return map[string]message{
		"hello":          {wire.TypeHello, 0, 1, wire.AppendHello(nil, hello), func(p []byte) (any, error) { return wire.DecodeHello(p) }, hello},
		"welcome":        {wire.TypeHello, wire.FlagReply, 1, wire.AppendWelcome(nil, welcome), func(p []byte) (any, error) { return wire.DecodeWelcome(p) }, welcome},
		"session":        {wire.TypeAttach, wire.FlagReply, 2, wire.AppendSession(nil, session), func(p []byte) (any, error) { return wire.DecodeSession(p) }, session},
		"resume":         {wire.TypeResume, 0, 2, wire.AppendProgress(nil, progress), func(p []byte) (any, error) { return wire.DecodeProgress(p) }, progress},
		"renew":          {wire.TypeRenew, 0, 4, wire.AppendFailure(nil, failure), func(p []byte) (any, error) { return wire.DecodeFailure(p) }, failure},
		"runs":           {wire.TypeLease, wire.FlagReply, 3, wire.AppendRuns(nil, runs), func(p []byte) (any, error) { return wire.DecodeRuns(p, nil) }, runs},
		"report":         {wire.TypeReport, 0, 0, wire.AppendReport(nil, report), func(p []byte) (any, error) { return wire.DecodeReport(p, new(layout.Batch)) }, report},
		"report-lost":    {wire.TypeReport, 0, 0, wire.AppendReport(nil, lost), func(p []byte) (any, error) { return wire.DecodeReport(p, new(layout.Batch)) }, lost},
		"position":       {wire.TypeCheckpoint, wire.FlagReply, 4, wire.AppendPosition(nil, position), func(p []byte) (any, error) { return wire.DecodePosition(p) }, position},
		"bitmap":         {wire.TypeUnsettled, wire.FlagReply, 5, wire.AppendBitmap(nil, 64, 194, chunks), func(p []byte) (any, error) { return wire.DecodeBitmap(p, 64, 194, nil) }, chunks},
		"mappings":       {wire.TypeMap, wire.FlagReply, 6, wire.AppendMappings(nil, mappings), func(p []byte) (any, error) { return wire.DecodeMappings(p, 64, 194, nil) }, mappings},
		"open-snapshot":  {wire.TypeOpenSnapshot, wire.FlagReply, 7, wire.AppendSnapshotSession(nil, open), func(p []byte) (any, error) { return wire.DecodeSnapshotSession(p) }, open},
		"state":          {wire.TypeUpdate, 0, 0, wire.AppendState(nil, state), func(p []byte) (any, error) { return wire.DecodeState(p) }, state},
		"fault":          {wire.TypeOpenSnapshot, wire.FlagReply | wire.FlagError, 7, wire.AppendFault(nil, fault), func(p []byte) (any, error) { return wire.DecodeFault(p) }, fault},
		"snapshot-state": {wire.TypeState, 0, 0, wire.AppendSnapshotState(nil, snap), func(p []byte) (any, error) { return wire.DecodeSnapshotState(p) }, snap},
		"restored": {
			wire.TypeRestored, 0, 9, wire.AppendRestoreProgress(nil, restore),
			func(p []byte) (any, error) { return wire.DecodeRestoreProgress(p) }, restore,
		},
		"open": {wire.TypeOpenSnapshot, 0, 7, wire.AppendOpen(nil, wire.SnapshotRef{Name: "täglich"}, true), func(p []byte) (any, error) {
			ref, write, err := wire.DecodeOpen(p)
			return opening{ref, write}, err
		}, opening{wire.SnapshotRef{Name: "täglich"}, true}},
		"written": {wire.TypeReportBranch, 0, 8, wire.AppendWritten(nil, 3, 9, copies), func(p []byte) (any, error) {
			h, g, c, err := wire.DecodeWritten(p)
			return written{h, g, c}, err
		}, written{3, 9, copies}},
		"fit": {wire.TypeFit, 0, 10, wire.AppendNumbers(nil, 1<<40), func(p []byte) (any, error) {
			var n uint64
			err := wire.DecodeNumbers(p, &n)
			return n, err
		}, uint64(1 << 40)},
		"handle-range": {wire.TypeMap, 0, 6, wire.AppendNumbers(nil, 3, 64, 194), func(p []byte) (any, error) {
			var n [3]uint64
			err := wire.DecodeNumbers(p, &n[0], &n[1], &n[2])
			return n, err
		}, [3]uint64{3, 64, 194}},
	}
}

func (m message) encode() []byte {
	p := append(wire.AppendHeader(nil, m.t, m.flags, m.id), m.body...)
	wire.Seal(p)
	return p
}

// The bytes of every message are what they always were, and mean the same.
func TestGoldenVectors(t *testing.T) {
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".hex")
			if *rewrite {
				require.NoError(t, os.WriteFile(file, format(name, m.encode()), 0o666))
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			golden := parse(t, text)
			require.Equal(t, hex.Dump(golden), hex.Dump(m.encode()))
			h, err := wire.DecodeHeader(golden)
			require.NoError(t, err)
			require.Equal(t, wire.Header{Length: uint32(len(m.body)), Type: m.t, Flags: m.flags, ID: m.id}, h)
			got, err := m.decode(golden[wire.HeaderSize:])
			require.NoError(t, err)
			require.Equal(t, m.want, got)
		})
	}
}

func format(name string, p []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# example of: %s\n", name)
	for ; len(p) > 0; p = p[min(16, len(p)):] {
		fmt.Fprintf(&b, "% x\n", p[:min(16, len(p))])
	}
	return b.Bytes()
}

func parse(t testing.TB, file []byte) (p []byte) {
	for lines := bufio.NewScanner(bytes.NewReader(file)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(line), " ", ""))
		require.NoError(t, err)
		p = append(p, b...)
	}
	return p
}

// A body that is cut, or longer than it should be, is refused. What ends in a text of
// any length cannot tell.
func TestBodiesOfWrongLengthAreRefused(t *testing.T) {
	for name, m := range messages() {
		for n := range len(m.body) {
			if (name == "open" || name == "fault") && n >= 8 || name == "restored" && n >= 24 {
				break
			}
			_, err := m.decode(m.body[:n])
			require.ErrorIs(t, err, wire.ErrProtocol, "%s cut to %d bytes", name, n)
		}
		if name != "open" && name != "fault" && name != "restored" {
			_, err := m.decode(append(bytes.Clone(m.body), 0))
			require.ErrorIs(t, err, wire.ErrProtocol, "%s with a byte more", name)
		}
	}
}

// Values that no well-behaved side sends.
func TestNonsenseIsRefused(t *testing.T) {
	all := messages()
	for _, test := range []struct {
		name string
		at   int // offset in the body
		to   byte
	}{
		{"hello", 0, 1}, {"hello", 8, 4}, {"welcome", 0, 1}, {"welcome", 10, 1},
		{"session", 16, 0}, {"session", 16, 5}, {"session", 17, 40}, {"session", 18, 1}, {"session", 24, 1}, {"session", 39, 0x80},
		{"session", 88 + 40, 4}, {"session", 136, 3}, {"session", 140, 1},
		{"runs", 0, 1}, {"runs", 16, 0}, {"runs", 15, 0xff},
		{"report", 24, 2}, {"report", 28, 1}, {"report", 32 + 16, 9},
		{"bitmap", 0, 131}, {"bitmap", 4, 1}, {"bitmap", 8 + 16, 0x80 | 4},
		{"mappings", 8, 63}, {"mappings", 8 + 8, 7}, {"mappings", 8 + 24, 3}, {"mappings", 8 + 25, 2}, {"mappings", 8 + 26, 1},
		{"mappings", 8 + 32 + 16, 1}, {"mappings", 8 + 32 + 25, 1}, {"mappings", 8 + 23, 0x80},
		{"snapshot-state", 16, 0x20}, {"snapshot-state", 20, 1}, {"snapshot-state", 15, 0x80},
		{"state", 40, 8}, {"state", 44, 1}, {"open", 4, 4}, {"open", 4, 0}, {"open-snapshot", 32 + 20, 9},
		{"written", 8 + 8, 1}, {"restored", 16, 4}, {"restored", 20, 1}, {"fault", 4, 1},
	} {
		m := all[test.name]
		p := bytes.Clone(m.body)
		require.NotEqual(t, test.to, p[test.at], "%s byte %d", test.name, test.at)
		p[test.at] = test.to
		_, err := m.decode(p)
		require.ErrorIs(t, err, wire.ErrProtocol, "%s byte %d = %#x", test.name, test.at, test.to)
	}
}

func TestHeaderNonsenseIsRefused(t *testing.T) {
	p := wire.AppendHeader(nil, wire.TypeMap, wire.FlagReply, 5)
	for _, test := range []struct{ at, to byte }{{3, 1}, {6, 4}, {6, 2}} {
		q := bytes.Clone(p)
		q[test.at] = test.to
		_, err := wire.DecodeHeader(q)
		require.ErrorIs(t, err, wire.ErrProtocol, "byte %d", test.at)
	}
	_, err := wire.DecodeHeader(p[:15])
	require.ErrorIs(t, err, wire.ErrProtocol)
	require.Panics(t, func() { wire.Seal(make([]byte, wire.HeaderSize+wire.MaxBody+1)) })
}

// The largest batch of the smallest chunks fits a message.
func TestTheLargestBatchFits(t *testing.T) {
	const chunks = 32 << 20 / block.MinChunkSize
	require.LessOrEqual(t, layout.MaxBatchBody(chunks)+32, wire.MaxBody)
}

func TestBitmapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := block.Chunk(rapid.Uint64Max(1<<40).Draw(t, "first"))
		n := rapid.Uint64Max(wire.MaxUnsettled).Draw(t, "n")
		var want []block.Chunk
		for i := range n {
			if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
				want = append(want, first+block.Chunk(i))
			}
		}
		end := first + block.Chunk(n)
		got, err := wire.DecodeBitmap(wire.AppendBitmap(nil, first, end, want), first, end, nil)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// Messages of the data path are coded and read without a heap allocation, into
// buffers that are used again.
func TestDataPathAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 1<<12)
	list := make([]wire.Mapping, 0, 8)
	batch := new(layout.Batch)
	report := wire.Batch{Batch: &layout.Batch{Generation: 9, Copies: copies}, Head: 100, HasHead: true, Position: position}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p := wire.AppendHeader(buf[:0], wire.TypeReport, 0, 0)
		p = wire.AppendReport(p, report)
		wire.Seal(p)
		if _, err := wire.DecodeReport(p[wire.HeaderSize:], batch); err != nil {
			t.Fatal(err)
		}
		p = wire.AppendMappings(buf[:0], mappings)
		var err error
		if list, err = wire.DecodeMappings(p, 64, 194, list[:0]); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.DecodeHeader(wire.AppendHeader(buf[:0], wire.TypeMap, 0, 9)); err != nil {
			t.Fatal(err)
		}
	}))
}

// Whatever bytes come, decoders return, and what they accept is coded as it came.
func FuzzDecode(f *testing.F) {
	all := messages()
	for _, m := range all {
		f.Add(m.body)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, m := range all {
			_, _ = m.decode(p)
		}
		if s, err := wire.DecodeSession(p); err == nil {
			require.Equal(t, p, wire.AppendSession(nil, s))
		}
		if s, err := wire.DecodeState(p); err == nil {
			require.Equal(t, p, wire.AppendState(nil, s))
		}
		if b, err := wire.DecodeReport(p, new(layout.Batch)); err == nil {
			require.Equal(t, p, wire.AppendReport(nil, b))
		}
		if r, err := wire.DecodeRuns(p, nil); err == nil {
			require.Equal(t, p, wire.AppendRuns(nil, r))
		}
		if m, err := wire.DecodeMappings(p, 64, 194, nil); err == nil {
			require.Equal(t, p, wire.AppendMappings(nil, m))
		}
		if s, err := wire.DecodeSnapshotSession(p); err == nil {
			require.Equal(t, p, wire.AppendSnapshotSession(nil, s))
		}
		if h, err := wire.DecodeHeader(p); err == nil {
			require.Equal(t, p[4:16], wire.AppendHeader(nil, h.Type, h.Flags, h.ID)[4:])
		}
	})
}
