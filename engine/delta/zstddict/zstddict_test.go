// SPDX-License-Identifier: Apache-2.0

package zstddict_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/corpus"
	"zumastor.org/zumastor/engine/delta/zstddict"
)

func TestRoundTrip(t *testing.T) {
	e, err := zstddict.NewEncoder(0, 1<<18)
	require.NoError(t, err)
	d, err := zstddict.NewDecoder()
	require.NoError(t, err)
	text := corpus.Text(1, 1<<17)
	edited := corpus.Edited(1, text)
	// With and without a dictionary in turns, and with ever different ones.
	for i, dict := range [][]byte{nil, edited, edited[:100], nil, edited[:1000], {}, edited[5000:]} {
		frame, err := e.Encode(nil, text, dict)
		require.NoError(t, err)
		dst := make([]byte, len(text))
		require.NoError(t, d.Decode(dst, frame, dict), i)
		require.Equal(t, text, dst, i)
		if len(dict) > 10000 {
			require.Error(t, d.Decode(dst, frame, corpus.Edited(9, dict)), "another dictionary")
			require.Error(t, d.Decode(dst, frame, nil), "no dictionary")
		}
	}
}

func TestWindow(t *testing.T) {
	e, err := zstddict.NewEncoder(0, 8192)
	require.NoError(t, err)
	_, err = e.Encode(nil, make([]byte, 5000), make([]byte, 5000))
	require.ErrorContains(t, err, "the window is of 8192")
	_, err = zstddict.NewEncoder(23, 8192)
	require.ErrorContains(t, err, "level 23")
}

// TestBombs decodes frames of far more bytes than there is room for, with and
// without their size in the header.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 64<<20)
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<20))
	require.NoError(t, err)
	sized := w.EncodeAll(zeros, nil)
	var b bytes.Buffer
	w.Reset(&b)
	for range 64 {
		_, err = w.Write(zeros[:1<<20])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	d, err := zstddict.NewDecoder()
	require.NoError(t, err)
	for _, bomb := range [][]byte{sized, b.Bytes(), bytes.Repeat(sized, 10)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.Error(t, d.Decode(make([]byte, 4096), bomb, nil))
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
	}
}

// FuzzDecode decodes any bytes.
func FuzzDecode(f *testing.F) {
	e, err := zstddict.NewEncoder(0, 8192)
	require.NoError(f, err)
	text := corpus.Text(1, 4096)
	frame, err := e.Encode(nil, corpus.Edited(1, text), text)
	require.NoError(f, err)
	f.Add(frame, text)
	d, err := zstddict.NewDecoder()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, frame, dict []byte) {
		_ = d.Decode(make([]byte, 4096), frame, dict)
	})
}
