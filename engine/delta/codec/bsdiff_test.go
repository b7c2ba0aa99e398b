// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/corpus"
)

func TestShorten(t *testing.T) {
	zeros := func(n int) []byte { return make([]byte, n) }
	for _, c := range []struct {
		b    []byte
		kept int
		runs []run
	}{
		{nil, 0, nil},
		{[]byte("abc"), 3, nil},
		{zeros(63), 63, nil},
		{zeros(64), 32, []run{{32, 32}}},
		{append([]byte("abc"), zeros(100)...), 35, []run{{35, 68}}},
		{append(append(zeros(64), bytes.Repeat([]byte{7}, 70)...), 1), 65, []run{{32, 32}, {32, 38}}},
	} {
		short, runs := shorten(c.b)
		require.Len(t, short, c.kept)
		require.Equal(t, c.runs, runs)
	}
}

// TestBsdiffExplosions gives the encoder what makes binarydist take minutes: runs
// are shortened, other repeats refused.
func TestBsdiffExplosions(t *testing.T) {
	if _, err := exec.LookPath("bzip2"); err != nil {
		t.Skipf("bsdiff is not tested: %v (make deps installs it)", err)
	}
	const n = 1 << 20
	sparse := make([]byte, n)
	for i := 0; i < n; i += 3000 {
		copy(sparse[i:], corpus.Random(uint64(i), 10+i%37))
	}
	e, err := newBsdiffEncoder()
	require.NoError(t, err)
	out, err := e.Encode(nil, sparse, 0, corpus.Memory(make([]byte, n)))
	require.NoError(t, err)
	require.Less(t, len(out), 30000)
	for _, period := range []int{2, 3, 100, 512, 4096} {
		old := bytes.Repeat(corpus.Random(1, period), n/period)
		content := append(corpus.Random(2, 1000), old[:len(old)-1000]...)
		_, err = e.Encode(nil, content, 0, corpus.Memory(old))
		require.ErrorIs(t, err, ErrUnsuitable, period)
		require.ErrorContains(t, err, "repeats itself")
	}
}

func TestBsdiffRefuses(t *testing.T) {
	e, err := newBsdiffEncoder()
	require.NoError(t, err)
	e.(*bsdiffEncoder).bzip2 = nil
	_, err = e.Encode(nil, make([]byte, bsdiffMost+1), 0, corpus.Memory(make([]byte, 10)))
	require.ErrorIs(t, err, ErrUnsuitable)
	require.ErrorContains(t, err, "at most 1048576")
	t.Setenv("PATH", "")
	e, err = newBsdiffEncoder()
	require.NoError(t, err)
	_, err = e.Encode(nil, make([]byte, 10), 0, corpus.Memory(make([]byte, 10)))
	require.ErrorIs(t, err, ErrUnsuitable)
	require.ErrorContains(t, err, "needs the program bzip2")
}

// emptyBlock is nothing as bzip2 compresses it.
const emptyBlock = "BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"

// TestHostilePatch gives the decoder patches that make binarydist panic or ask
// for any memory.
func TestHostilePatch(t *testing.T) {
	patch := func(control, difference, size uint64, blocks string) []byte {
		b := []byte("\x00BSDIFF40")
		for _, v := range []uint64{control, difference, size} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return append(b, blocks...)
	}
	const minus = 1 << 63
	for name, coded := range map[string][]byte{
		"empty":              nil,
		"no header":          []byte("\x00BSDIFF4"),
		"huge size":          patch(14, 14, 1<<60, emptyBlock+emptyBlock+emptyBlock),
		"huge control":       patch(1<<60, 14, 4096, emptyBlock),
		"huge difference":    patch(14, 1<<60, 4096, emptyBlock),
		"negative control":   patch(minus|1, 14, 4096, emptyBlock),
		"negative size":      patch(14, 14, minus|4096, emptyBlock),
		"empty control":      patch(14, 14, 4096, emptyBlock+emptyBlock+emptyBlock),
		"many runs":          {0xff, 0xff, 0xff, 0x0f},
		"run of everything":  {1, 1, 0xff, 0xff, 0xff, 0x0f},
		"run without a byte": {1, 0, 50},
		"run cut":            {1, 0x80},
	} {
		d := &bsdiffDecoder{}
		require.ErrorIs(t, d.Decode(make([]byte, 4096), coded, 0, corpus.Memory(make([]byte, 4096))), ErrCorrupt, name)
	}
}

// TestHostileControl gives hostile triples, which only bzip2 would hide.
func TestHostileControl(t *testing.T) {
	const minus = 1 << 63
	for name, triples := range map[string][]uint64{
		"negative add":  {minus | 1, 1, 0},
		"negative take": {1, minus | 1, 0},
		"long add":      {4097, 0, 0},
		"long take":     {4096, 1, 0},
		"overflow":      {1<<63 - 1, 1<<63 - 1, 0},
		"far seek":      {1, 0, 1<<63 - 1},
		"seek back":     {1, 0, minus | 1<<62},
	} {
		var control []byte
		for _, v := range triples {
			control = binary.LittleEndian.AppendUint64(control, v)
		}
		zeros := bytes.NewReader(make([]byte, 8192))
		require.Error(t, patchBlocks(make([]byte, 4096), make([]byte, 10), bytes.NewReader(control), zeros, zeros), name)
	}
	idle := bytes.NewReader(make([]byte, 24*5000))
	require.ErrorContains(t, patchBlocks(make([]byte, 4096), nil, idle, idle, idle), "does nothing")
}
