// SPDX-License-Identifier: Apache-2.0

package vcdiff

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/corpus"
)

// TestTable holds corners of RFC 3284 section 5.6.
func TestTable(t *testing.T) {
	for code, want := range map[int][2]instruction{
		0:   {{run, 0, 0}},
		1:   {{add, 0, 0}},
		18:  {{add, 17, 0}},
		19:  {{copyFrom, 0, 0}},
		20:  {{copyFrom, 4, 0}},
		34:  {{copyFrom, 18, 0}},
		35:  {{copyFrom, 0, 1}},
		162: {{copyFrom, 18, 8}},
		163: {{add, 1, 0}, {copyFrom, 4, 0}},
		174: {{add, 4, 0}, {copyFrom, 6, 0}},
		234: {{add, 4, 0}, {copyFrom, 6, 5}},
		235: {{add, 1, 0}, {copyFrom, 4, 6}},
		246: {{add, 4, 0}, {copyFrom, 4, 8}},
		247: {{copyFrom, 4, 0}, {add, 1, 0}},
		255: {{copyFrom, 4, 8}, {add, 1, 0}},
	} {
		require.Equal(t, want, table[code], "code %d", code)
	}
}

// TestNumber is the example of RFC 3284 section 2.
func TestNumber(t *testing.T) {
	b := appendNumber(nil, 123456789)
	require.Equal(t, "baef9a15", hex.EncodeToString(b))
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1<<35 - 1} {
		b := appendNumber(nil, n)
		require.Len(t, b, numberLength(n))
		s := section{b: b}
		require.Equal(t, n, s.number())
		require.NoError(t, s.err)
	}
}

// samples are content with its source, and how many bytes the delta may have.
func samples() map[string]struct {
	content, source []byte
	most            int
} {
	text, random := corpus.Text(1, 1<<18), corpus.Random(1, 1<<18)
	type sample = struct {
		content, source []byte
		most            int
	}
	zeros := make([]byte, 1<<18)
	return map[string]sample{
		"byte":          {[]byte{1}, []byte{2}, 30},
		"same":          {random, random, 40},
		"no source":     {text, nil, 1 << 17},
		"edited":        {corpus.Edited(1, random), random, 6000},
		"shifted":       {random[1000 : 1<<17], random[:1<<17], 40},
		"zeros":         {zeros, random, 40},
		"zeros same":    {zeros, zeros, 40},
		"from zeros":    {text, zeros, 1 << 17},
		"unlike":        {random, text, 1<<18 + 60},
		"period":        {repeat("abcde", 1<<16), repeat("xyz", 1<<10), 60},
		"longer source": {text[:5000], text, 40},
		"moved":         {append(append([]byte{}, random[1<<17:]...), random[:1<<17]...), random, 60},
	}
}

func repeat(s string, n int) (b []byte) {
	for len(b) < n {
		b = append(b, s...)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	e := NewEncoder()
	for name, s := range samples() {
		delta := e.Encode([]byte("before"), s.content, s.source)[6:]
		require.LessOrEqual(t, len(delta), s.most, name)
		dst := make([]byte, len(s.content))
		require.NoError(t, Decode(dst, delta, s.source), name)
		require.Equal(t, s.content, dst, name)
		require.Zero(t, testing.AllocsPerRun(2, func() { _ = Decode(dst, delta, s.source) }), name)
		if len(s.source) > 10000 && name != "unlike" {
			require.ErrorIs(t, Decode(dst, delta, corpus.Edited(7, s.source[1:])), ErrCorrupt, name)
		}
	}
}

// xdelta3 runs the program, or skips the test where it is not installed.
func xdelta3(t *testing.T, args ...string) {
	path, err := exec.LookPath("xdelta3")
	if err != nil {
		t.Skipf("interoperability with xdelta3 is not tested: %v (make deps installs it)", err)
	}
	message, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(t, err, "xdelta3 %v: %s", args, message)
}

// TestXdelta3 shows that xdelta3 decodes what we write, and that we decode what it
// writes without secondary compression.
func TestXdelta3(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) {
		require.NoError(t, os.WriteFile(path(name), b, 0o600))
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(path(name))
		require.NoError(t, err)
		return b
	}
	e := NewEncoder()
	for name, s := range samples() {
		write("old", s.source)
		write("new", s.content)
		write("delta", e.Encode(nil, s.content, s.source))
		xdelta3(t, "-d", "-f", "-s", path("old"), path("delta"), path("out"))
		require.Equal(t, s.content, read("out"), "%s: ours", name)
		// With and without the application header; with windows of 16 KiB.
		for _, options := range [][]string{{"-9"}, {"-A", "-1"}, {"-W", "16384"}, {"-n"}} {
			args := append([]string{"-e", "-f", "-S", "none"}, options...)
			xdelta3(t, append(args, "-s", path("old"), path("new"), path("delta"))...)
			dst := make([]byte, len(s.content))
			require.NoError(t, Decode(dst, read("delta"), s.source), "%s %v", name, options)
			require.Equal(t, s.content, dst, "%s %v", name, options)
		}
	}
	s := samples()["edited"]
	write("old", s.source)
	write("new", corpus.Text(5, 1<<18))
	xdelta3(t, "-e", "-f", "-S", "djw", "-s", path("old"), path("new"), path("delta"))
	err := Decode(make([]byte, 1<<18), read("delta"), s.source)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "-S none")
}

func TestHostile(t *testing.T) {
	const head = "d6c3c400"
	for name, text := range map[string]string{
		"empty":                     "",
		"no header":                 "d6c3c500" + "00",
		"cut header":                "d6c3c4",
		"secondary":                 head + "0101",
		"code table":                head + "02",
		"unknown bits":              head + "80",
		"long application header":   head + "04" + "ff7f",
		"no window":                 head + "00",
		"unknown window":            head + "00" + "08",
		"source and target":         head + "00" + "03",
		"long source":               head + "00" + "01" + "8140" + "00" + "00",
		"source after the end":      head + "00" + "01" + "08" + "7f" + "00",
		"target before the first":   head + "00" + "02" + "01" + "00" + "00",
		"long window":               head + "00" + "00" + "05" + "8fffffff7f" + "00",
		"number of 36 bits":         head + "00" + "00" + "08" + "ffffffffffff7f00",
		"compressed sections":       head + "00" + "00" + "05" + "10" + "01" + "000000",
		"long sections":             head + "00" + "00" + "06" + "10" + "00" + "ff7f" + "0000",
		"long instruction":          head + "00" + "00" + "08" + "10" + "00" + "010200" + "aa" + "0011",
		"data cut":                  head + "00" + "00" + "06" + "10" + "00" + "000100" + "11",
		"address cut":               head + "00" + "00" + "07" + "10" + "00" + "000200" + "1310",
		"address here":              head + "00" + "00" + "08" + "10" + "00" + "000201" + "1310" + "00",
		"short of the window":       head + "00" + "00" + "07" + "10" + "00" + "010100" + "aa" + "02",
		"data left":                 head + "00" + "00" + "09" + "02" + "00" + "030100" + "aabbcc" + "03",
		"wrong sum":                 head + "00" + "04" + "0c" + "10" + "00" + "010200" + "00000000" + "aa" + "0010",
		"copy before anything else": head + "00" + "00" + "09" + "10" + "00" + "000202" + "2310" + "8000",
	} {
		delta, err := hex.DecodeString(text)
		require.NoError(t, err, name)
		require.ErrorIs(t, Decode(make([]byte, 16), delta, make([]byte, 64)), ErrCorrupt, name)
	}
	whole, err := hex.DecodeString(head + "00" + "00" + "08" + "10" + "00" + "010200" + "aa" + "0010")
	require.NoError(t, err)
	require.NoError(t, Decode(make([]byte, 16), whole, nil), "a whole one")
}

// TestTargetWindow reads a window that copies from what was decoded before, which
// xdelta3 never writes.
func TestTargetWindow(t *testing.T) {
	delta, err := hex.DecodeString("d6c3c400" + "00" + "00" + "0a" + "04" + "00" + "040100" + "61626364" + "05" +
		"02" + "03" + "01" + "07" + "04" + "00" + "000101" + "14" + "00")
	require.NoError(t, err)
	dst := make([]byte, 8)
	require.NoError(t, Decode(dst, delta, nil))
	require.Equal(t, "abcdbcdb", string(dst))
}

// FuzzDecode decodes any bytes.
func FuzzDecode(f *testing.F) {
	source := corpus.Text(1, 3000)
	f.Add(NewEncoder().Encode(nil, corpus.Edited(1, source), source))
	f.Add(NewEncoder().Encode(nil, source, nil))
	f.Fuzz(func(t *testing.T, delta []byte) {
		if err := Decode(make([]byte, len(source)), delta, source); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

// FuzzEncode codes any content with any source.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaaabcdefabcdef"), []byte("xabcdefgh"))
	e := NewEncoder()
	f.Fuzz(func(t *testing.T, content, source []byte) {
		dst := make([]byte, len(content))
		require.NoError(t, Decode(dst, e.Encode(nil, content, source), source))
		require.Equal(t, content, dst)
	})
}
