// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// fields lists names and numbers as testdata/fields.c prints them.
type fields struct{ strings.Builder }

func (f *fields) number(name string, value uint64) { fmt.Fprintf(f, "%s %d\n", name, value) }
func (f *fields) bytes(name string, p []byte)      { fmt.Fprintf(f, "%s %x\n", name, p) }

// bit returns a flag if it is set.
func bit(set bool, flag uint64) uint64 {
	if set {
		return flag
	}
	return 0
}

func (f *fields) position(p layout.Position) {
	f.number("place", p.Place)
	f.number("seq", p.Seq)
}

func (f *fields) state(s wire.State) {
	f.number("generation", uint64(s.Generation))
	f.number("newest", uint64(s.Newest))
	f.number("size", uint64(s.Size))
	f.number("largest", uint64(s.Largest))
	f.number("restoring", uint64(s.Restoring))
	f.number("flags", bit(s.Revoked, 1)|bit(s.Failed, 2))
}

func (f *fields) snapshotState(s wire.SnapshotState) {
	f.number("generation", uint64(s.Generation))
	f.number("size", uint64(s.Size))
	f.number("flags", bit(s.Revoked, 1)|bit(s.Writable, 4)|bit(s.Squashed, 8)|bit(s.Remember, 16))
}

func (f *fields) runs(list []layout.SlotRun) {
	for _, r := range list {
		f.number("first", uint64(r.First))
		f.number("slots", r.Len)
	}
}

// batch lists copies: runs of chunks and slots that both ascend by one, then checksums.
func (f *fields) batch(g block.Generation, list []layout.Copy) {
	f.number("generation", uint64(g))
	f.number("branch", 0)
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n].Chunk == list[i].Chunk+block.Chunk(n) && list[i+n].Slot == list[i].Slot+block.Slot(n) {
			n++
		}
		f.number("chunk", uint64(list[i].Chunk))
		f.number("slot", uint64(list[i].Slot))
		f.number("length", uint64(n))
		i += n
	}
	for _, c := range list {
		f.number("crc", uint64(c.Sum))
	}
	f.number("rest", 0)
}

// expected lists what the header must show of a message's body, by what Go makes of it;
// false if it has no structure for it.
func (f *fields) expected(name string, m message) bool {
	switch v := m.want.(type) {
	case wire.Hello:
		f.number("magic is", 1)
		f.number("min_version", uint64(v.Min))
		f.number("max_version", uint64(v.Max))
		f.number("lock", uint64(v.Lock))
		f.number("features", v.Features)
	case wire.Welcome:
		f.number("magic is", 1)
		f.number("version", uint64(v.Version))
		f.number("features", v.Features)
		f.bytes("uuid", v.UUID[:])
	case *wire.Session:
		f.session(v)
	case wire.Progress:
		f.bytes("uuid", v.UUID[:])
		f.number("epoch", v.Epoch)
		f.number("generation", uint64(v.Generation))
		f.position(v.Position)
		f.number("flags", bit(v.Failed, 1))
	case wire.Failure:
		f.bytes("uuid", v.UUID[:])
		f.number("epoch", v.Epoch)
		f.number("generation", uint64(v.Generation))
		f.position(v.Position)
		f.number("flags", bit(v.Failed, 1))
		f.bytes("reason", []byte(v.Reason))
		f.runs(v.Slots)
	case []layout.SlotRun:
		f.runs(v)
	case wire.Batch:
		f.position(v.Position)
		f.number("head", uint64(v.Head))
		f.number("flags", bit(v.HasHead, 1))
		f.batch(v.Generation, v.Copies)
	case layout.Position:
		f.position(v)
	case []block.Chunk:
		const first, end = 64, 194 // of the example
		f.number("number", end-first)
		var words [(end - first + 63) / 64]uint64
		for _, c := range v {
			words[(c-first)/64] |= 1 << ((c - first) % 64)
		}
		for _, w := range words {
			f.number("word", w)
		}
	case []wire.Mapping:
		for _, p := range v {
			f.number("chunk", uint64(p.Chunk))
			f.number("chunks", p.Len)
			f.number("slot", uint64(p.Slot))
			f.number("kind", uint64(p.Kind))
			f.number("owned", bit(p.Owned, 1))
		}
	case *wire.SnapshotSession:
		f.number("handle", uint64(v.Handle))
		f.snapshotState(v.State)
		f.bytes("snapshot", m.body[32:])
	case wire.State:
		f.state(v)
	case wire.SnapshotState:
		f.snapshotState(v)
	case wire.Fault:
		f.number("code", uint64(v.Code))
		f.bytes("text", []byte(v.Text))
	case uint64:
		f.number("size", v)
	case [3]uint64:
		f.number("handle", v[0])
		f.number("first", v[1])
		f.number("end", v[2])
	default:
		return f.named(name)
	}
	return true
}

func (f *fields) session(s *wire.Session) {
	f.bytes("uuid", s.UUID[:])
	f.number("placement", uint64(s.Placement))
	f.number("chunk_shift", uint64(s.Geometry.ChunkShift()))
	f.number("size", uint64(s.Geometry.Size()))
	f.number("data_offset", uint64(s.DataOffset))
	f.number("slots", s.Slots)
	f.number("journal_start", uint64(s.Journal.Start))
	f.number("journal_size", uint64(s.Journal.Size))
	f.number("epoch", s.Epoch)
	f.position(s.Position)
	f.state(s.State)
	f.runs(s.Leases)
}

// named lists those whose type in Go is of the table of examples.
func (f *fields) named(name string) bool {
	switch name {
	case "open":
		f.number("tag", 0)
		f.number("flags", 3)
		f.bytes("name", []byte("täglich"))
	case "written":
		f.number("handle", 3)
		f.batch(9, copies)
	default:
		return false
	}
	return true
}

// ofNoKernel are the examples of messages that the kernel neither sends nor takes.
var ofNoKernel = map[string]bool{"restored": true}

// The header of the kernel sees in the examples what this package sees.
func TestKernelHeaderReadsTheExamples(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("there is no gcc to compile the header with")
	}
	_, err = os.ReadFile("../../kernel/include/ddsnap_wire.h") // so that go test knows what the outcome depends on
	require.NoError(t, err)
	_, err = os.ReadFile("testdata/fields.c")
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "fields")
	out, err := exec.CommandContext(t.Context(), gcc, "-Wall", "-Werror", "-I", "../../kernel/include", "-o", program, "testdata/fields.c").CombinedOutput()
	require.NoError(t, err, string(out))
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
			require.NoError(t, err)
			golden := parse(t, text)
			var want fields
			want.number("length", uint64(binary.LittleEndian.Uint32(golden)))
			want.number("type", uint64(m.t))
			want.number("flags", uint64(m.flags))
			want.number("id", m.id)
			known := want.expected(name, m)
			require.Equal(t, !ofNoKernel[name], known)
			if !known {
				return
			}
			cmd := exec.CommandContext(t.Context(), program, name)
			cmd.Stdin = bytes.NewReader(golden)
			got, err := cmd.CombinedOutput()
			require.NoError(t, err, string(got))
			require.Equal(t, want.String(), string(got))
		})
	}
}
