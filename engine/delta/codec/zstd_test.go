// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
)

// tool skips the test where the program is not installed.
func tool(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("interoperability with %s is not tested: %v (make deps installs it)", name, err)
	}
	return path
}

// file writes bytes to a file of the test.
func file(t *testing.T, name string, b []byte) string {
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// run runs a program and returns what it wrote to the file that out names.
func run(t *testing.T, out string, name string, args ...string) []byte {
	message, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, message)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	return b
}

// TestZstdPatchInterop shows that the zstd program reads our payloads with
// --patch-from, and we its.
func TestZstdPatchInterop(t *testing.T) {
	zstd := tool(t, "zstd")
	for _, n := range []int{4096, 1 << 20} {
		old := corpus.Text(1, n)
		content := corpus.Edited(1, old)
		oldFile, newFile := file(t, "old", old), file(t, "new", content)
		out := filepath.Join(t.TempDir(), "out")
		for _, level := range []int{1, 3, 7, 11} {
			e, err := codec.NewEncoder(codec.ZstdPatch, codec.Options{Level: level})
			require.NoError(t, err)
			coded, err := e.Encode(nil, content, 0, corpus.Memory(old))
			require.NoError(t, err)
			got := run(t, out, zstd, "-qdf", "--patch-from="+oldFile, file(t, "coded", coded), "-o", out)
			require.Equal(t, content, got, "%d bytes at level %d", n, level)
		}
		theirs := run(t, out, zstd, "-qf", "--patch-from="+oldFile, newFile, "-o", out)
		d, err := codec.NewDecoder(codec.ZstdPatch, codec.Limits{})
		require.NoError(t, err)
		dst := make([]byte, n)
		require.NoError(t, d.Decode(dst, theirs, 0, corpus.Memory(old)))
		require.Equal(t, content, dst)
	}
}

// TestWholeDictionaryCounts shows that the window holds the whole base with the
// content: what moved from the base's begin to the extent's end is found.
func TestWholeDictionaryCounts(t *testing.T) {
	old := append(corpus.Random(1, 4096), corpus.Text(1, 1<<20-4096)...)
	content := append(corpus.Text(2, 1<<20-4096), old[:4096]...)
	e, err := codec.NewEncoder(codec.ZstdPatch, codec.Options{})
	require.NoError(t, err)
	with, err := e.Encode(nil, content, 0, corpus.Memory(old))
	require.NoError(t, err)
	without, err := e.Encode(nil, content[:len(content)-4096], 0, corpus.Memory(old))
	require.NoError(t, err)
	require.Less(t, len(with), len(without)+1000)
}

// TestWrongBase shows that another base is found out.
func TestWrongBase(t *testing.T) {
	old := corpus.Text(1, 1<<16)
	e, err := codec.NewEncoder(codec.ZstdPatch, codec.Options{})
	require.NoError(t, err)
	coded, err := e.Encode(nil, corpus.Edited(1, old), 0, corpus.Memory(old))
	require.NoError(t, err)
	d, err := codec.NewDecoder(codec.ZstdPatch, codec.Limits{})
	require.NoError(t, err)
	for _, base := range []codec.Base{nil, corpus.Memory(nil), corpus.Memory(corpus.Edited(2, old)), corpus.Memory(old[:1<<15])} {
		require.ErrorIs(t, d.Decode(make([]byte, 1<<16), coded, 0, base), codec.ErrCorrupt)
	}
}
