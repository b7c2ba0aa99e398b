// SPDX-License-Identifier: Apache-2.0

package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/klauspost/compress/zstd"
)

// Bounds on what is read back, so that a damaged or hostile file costs little.
const (
	maxHistogramsFile = 256 << 20 // decompressed
	maxHistogram      = 1 << 20   // one, encoded
)

// histogramKey names the histogram of a sample. Rounds keep histograms of their
// own: writing one again after an interruption then replaces, never doubles.
func histogramKey(s Sample) string { return fmt.Sprintf("%s %s %d", s.Kind, s.Name(), s.Round) }

// encodeHistograms returns the latency histograms of the samples: a JSON object,
// compressed with zstd, from key to HdrHistogram V2 compressed base64.
func encodeHistograms(samples []Sample) ([]byte, error) {
	m := map[string]string{}
	for _, s := range samples {
		if s.Latency == nil {
			continue
		}
		text, err := s.Latency.EncodeV2()
		if err != nil {
			return nil, fmt.Errorf("encoding the histogram of %s: %w", s.Name(), err)
		}
		m[histogramKey(s)] = string(text)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decodeHistograms reads what encodeHistograms wrote. Errors wrap [ErrCorrupt].
func decodeHistograms(data []byte) (map[string]*hdrhistogram.Histogram, error) {
	z, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxHistogramsFile))
	if err != nil {
		return nil, fmt.Errorf("%w: histograms: %w", ErrCorrupt, err)
	}
	defer z.Close()
	text, err := io.ReadAll(io.LimitReader(z, maxHistogramsFile))
	if err != nil {
		return nil, fmt.Errorf("%w: histograms: %w", ErrCorrupt, err)
	}
	var encoded map[string]string
	if err := json.Unmarshal(text, &encoded); err != nil {
		return nil, fmt.Errorf("%w: histograms: %w", ErrCorrupt, err)
	}
	out := make(map[string]*hdrhistogram.Histogram, len(encoded))
	for key, e := range encoded {
		h, err := decodeHistogram(e)
		if err != nil {
			return nil, fmt.Errorf("histogram of %s: %w", key, err)
		}
		out[key] = h
	}
	return out, nil
}

// decodeHistogram reads one histogram. The sparse form is read first, for it
// takes memory by content; the dense form takes it by the range that the header
// claims.
func decodeHistogram(text string) (*hdrhistogram.Histogram, error) {
	if len(text) > maxHistogram {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrCorrupt, len(text), maxHistogram)
	}
	sparse, err := hdrhistogram.DecodePacked([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if sparse.SignificantFigures() > 3 || sparse.HighestTrackableValue() > maxLatency {
		return nil, fmt.Errorf("%w: %d digits up to %d ns are beyond what samples use",
			ErrCorrupt, sparse.SignificantFigures(), sparse.HighestTrackableValue())
	}
	h, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return h, nil
}
