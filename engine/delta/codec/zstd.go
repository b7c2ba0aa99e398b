// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// zstdEncoder holds 1 to 50 MiB by level, and 2 extents.
type zstdEncoder struct{ writer *zstd.Encoder }

func zstdLevel(level int) zstd.EncoderLevel {
	if level == 0 {
		return zstd.SpeedDefault
	}
	return zstd.EncoderLevelFromZstd(level)
}

// windowFor returns the smallest window that holds n bytes.
func windowFor(n int) int {
	return max(zstd.MinWindowSize, 1<<bits.Len(uint(n-1)))
}

func newZstdEncoder(o Options) (Encoder, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true),
		zstd.WithEncoderLevel(zstdLevel(o.Level)), zstd.WithWindowSize(windowFor(o.Extent)))
	if err != nil {
		return nil, fmt.Errorf("new zstd encoder: %w", err)
	}
	return &zstdEncoder{w}, nil
}

func (e *zstdEncoder) Encode(dst, content []byte, _ int64, _ Base) ([]byte, error) {
	return e.writer.EncodeAll(content, dst), nil
}

// zstdDecoder decodes into the caller's memory; its own is some 1 MiB.
type zstdDecoder struct{ reader *zstd.Decoder }

// zstdOptions are the bounds of every decoder of zstd frames. The window costs
// nothing: all of it is in the caller's memory or in the dictionary.
func zstdOptions(l Limits) []zstd.DOption {
	return []zstd.DOption{
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(uint64(l.Extent)), zstd.WithDecoderMaxWindow(256 << 20),
	}
}

func newZstdDecoder(l Limits) (*zstdDecoder, error) {
	r, err := zstd.NewReader(nil, zstdOptions(l)...)
	if err != nil {
		return nil, fmt.Errorf("new zstd decoder: %w", err)
	}
	return &zstdDecoder{r}, nil
}

func (d *zstdDecoder) Decode(dst, coded []byte, _ int64, _ Base) error {
	return decodeFrame(d.reader, dst, coded)
}

// decodeFrame fills dst with what the frame holds.
func decodeFrame(r *zstd.Decoder, dst, frame []byte) error {
	out, err := r.DecodeAll(frame, dst[:0:len(dst)])
	if err != nil {
		return corrupt("zstd: %w", err)
	}
	if len(out) != len(dst) {
		return corrupt("zstd: %d bytes for an extent of %d", len(out), len(dst))
	}
	if &out[0] != &dst[0] {
		copy(dst, out)
	}
	return nil
}
