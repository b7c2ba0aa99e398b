// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta/codec"
)

// numbered is a full delta of n raw extents, each filled with its number from 1 on.
func numbered(t *testing.T, n int) (p, content []byte) {
	const extent = 64 << 10
	for i := range n {
		content = append(content, bytes.Repeat([]byte{byte(i + 1)}, extent)...)
	}
	h := Header{ChunkSize: 4096, Extent: extent, Codecs: []codec.ID{codec.Raw}, To: End{Identity: Identity{Generation: block.Generation(1)}, Size: int64(len(content))}}
	var records []Record
	for i := range n {
		q := content[i*extent : (i+1)*extent]
		records = append(records, Record{Kind: KindExtent, Codec: codec.Raw, Offset: int64(i * extent), Length: extent, Sum: SumOf(q), Payload: q})
	}
	p, _ = encode(t, h, records)
	return p, content
}

// full is a receiver whose writes fail at and after an offset.
type full struct {
	memory
	at int64
}

var errFull = errors.New("no space left")

func (f *full) WriteAt(p []byte, off int64) (int, error) {
	if off >= f.at {
		return 0, errFull
	}
	return f.memory.WriteAt(p, off)
}

// TestApplyFailsInOrder: whatever is done at the same time, what was before the first
// record that could not be written is there, and nothing after.
func TestApplyFailsInOrder(t *testing.T) {
	const n, good, extent = 50, 17, 64 << 10
	p, content := numbered(t, n)
	to := &full{memory{p: make([]byte, len(content))}, good * extent}
	var told []int64
	r, err := NewReader(bytes.NewReader(p))
	require.NoError(t, err)
	_, err = Apply(t.Context(), r, nil, to, ApplyOptions{Wrote: func(done int64) error {
		told = append(told, done)
		return nil
	}})
	require.ErrorIs(t, err, errFull)
	require.Equal(t, content[:good*extent], to.p[:good*extent])
	require.True(t, isZero(to.p[good*extent:]))
	require.Len(t, told, good)
	require.True(t, slices.IsSorted(told))
}

// TestWrongBareContent: content that is coded as it is has its sum only, which whoever
// reads it verifies, and Apply before it is written.
func TestWrongBareContent(t *testing.T) {
	const bad, extent = 3, 64 << 10
	p, content := numbered(t, 8)
	head, _, err := readHeader(bytes.NewReader(p))
	require.NoError(t, err)
	rec := p[len(head.append(nil))+bad*(recordSize+extent):][:recordSize+extent]
	rec[recordSize+100] ^= 1
	binary.LittleEndian.PutUint32(rec[recordSize-4:], partsCRC(rec[:recordSize], rec[recordSize:]))

	_, records, _, err := readAll(bytes.NewReader(p))
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "the content at offset 196608")
	require.Len(t, records, bad)
	to := &memory{p: make([]byte, len(content))}
	r, err := NewReader(bytes.NewReader(p))
	require.NoError(t, err)
	_, err = Apply(t.Context(), r, nil, to, ApplyOptions{})
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "the content at offset 196608")
	require.Equal(t, content[:bad*extent], to.p[:bad*extent])
	require.True(t, isZero(to.p[bad*extent:]))
}

// TestApplyOfCut: of a delta that ends early, what was read is written, and the end said.
func TestApplyOfCut(t *testing.T) {
	const whole, extent = 5, 64 << 10
	p, content := numbered(t, 8)
	head, _, err := readHeader(bytes.NewReader(p))
	require.NoError(t, err)
	to := &memory{p: make([]byte, len(content))}
	r, err := NewReader(bytes.NewReader(p[:len(head.append(nil))+whole*(recordSize+extent)+recordSize+1]))
	require.NoError(t, err)
	_, err = Apply(t.Context(), r, nil, to, ApplyOptions{})
	require.ErrorIs(t, err, ErrCut)
	require.Equal(t, content[:whole*extent], to.p[:whole*extent])
	require.True(t, isZero(to.p[whole*extent:]))
}
