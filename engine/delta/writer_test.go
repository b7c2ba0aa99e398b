// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
)

// TestPayloadsApart shows that payloads that are written apart make the same bytes, and
// the same digest, as those that are copied behind the fixed part.
func TestPayloadsApart(t *testing.T) {
	for _, id := range []codec.ID{codec.Raw, codec.Zstd} {
		for _, n := range []int{apart - 1, apart, apart + 1} {
			size := int64(128 << 10)
			h := Header{ChunkSize: 4096, Extent: int(size), Codecs: []codec.ID{codec.Raw, codec.Zstd}, To: End{Identity: Identity{Generation: 1}, Size: size}}
			rec := Record{Kind: KindExtent, Codec: id, Length: size, Sum: Sum{1}, Payload: corpus.Random(1, n)}
			if id == codec.Raw {
				rec.Sum = SumOf(rec.Payload)
			}
			var out bytes.Buffer
			w, err := NewWriter(&out, h)
			require.NoError(t, err)
			from := out.Len()
			require.NoError(t, w.Write(&rec))
			require.Equal(t, rec.append(nil, 0), out.Bytes()[from:], "%v, %d bytes", id, n)
			_, err = w.Close()
			require.NoError(t, err)
			r, err := NewReader(&out)
			require.NoError(t, err)
			got, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, rec.Payload, got.Payload)
			_, err = r.Next()
			require.True(t, errors.Is(err, io.EOF), "%v", err)
		}
	}
}
