// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"zumastor.org/zumastor/engine/delta/zstddict"
)

// zstdCoder is of Zstd or ZstdPatch: the payload is a frame, made with the base
// at the same place as its dictionary where the codec is ZstdPatch.
type zstdCoder struct {
	id      ID
	encoder *zstddict.Encoder
	decoder *zstddict.Decoder
	dict    []byte
}

func newZstdEncoder(id ID, o Options) (Encoder, error) {
	window := o.Extent
	if id == ZstdPatch {
		window *= 2
	}
	e, err := zstddict.NewEncoder(o.Level, window)
	return &zstdCoder{id: id, encoder: e}, err
}

func newZstdDecoder(id ID) (Decoder, error) {
	d, err := zstddict.NewDecoder()
	return &zstdCoder{id: id, decoder: d}, err
}

// dictionary returns the dictionary for the extent.
func (z *zstdCoder) dictionary(offset int64, n int, base Base) ([]byte, error) {
	if z.id == Zstd {
		return nil, nil
	}
	var err error
	z.dict, err = samePlace(z.dict, offset, n, base)
	return z.dict, err
}

func (z *zstdCoder) Encode(dst, content []byte, offset int64, base Base) ([]byte, error) {
	dict, err := z.dictionary(offset, len(content), base)
	if err != nil {
		return dst, err
	}
	if z.id == ZstdPatch && len(dict) == 0 {
		return dst, unsuitable("%s: no base at the same place", z.id)
	}
	return z.encoder.Encode(dst, content, dict)
}

func (z *zstdCoder) Decode(dst, coded []byte, offset int64, base Base) error {
	dict, err := z.dictionary(offset, len(dst), base)
	if err != nil {
		return err
	}
	if err := z.decoder.Decode(dst, coded, dict); err != nil {
		return corrupt("%w", err)
	}
	return nil
}
