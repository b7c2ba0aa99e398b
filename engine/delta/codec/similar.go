// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"

	"zumastor.org/zumastor/engine/delta/similar"
)

type similarEncoder struct{ encoder *similar.Encoder }

func newSimilarEncoder(o Options) (Encoder, error) {
	e, err := similar.NewEncoder(o.Level, o.Extent, o.Similar)
	return similarEncoder{e}, err
}

func (s similarEncoder) Encode(dst, content []byte, offset int64, base Base) ([]byte, error) {
	if base == nil {
		return dst, unsuitable("similar: no base")
	}
	out, ok, err := s.encoder.Encode(dst, content, offset, base)
	if err == nil && !ok {
		err = unsuitable("similar: nothing of the base resembles the extent")
	}
	return out, err
}

type similarDecoder struct{ decoder *similar.Decoder }

func newSimilarDecoder() (Decoder, error) {
	d, err := similar.NewDecoder()
	return similarDecoder{d}, err
}

func (s similarDecoder) Decode(dst, coded []byte, offset int64, base Base) error {
	if base == nil {
		return corrupt("similar: no base")
	}
	err := s.decoder.Decode(dst, coded, offset, base)
	if errors.Is(err, similar.ErrCorrupt) {
		return corrupt("%w", err)
	}
	return err
}
