// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"zumastor.org/zumastor/engine/delta/vcdiff"
)

// vcdiffCoder takes the base at the same place as the source. An encoder holds 14
// times the largest extent, and 1 MiB.
type vcdiffCoder struct {
	encoder *vcdiff.Encoder
	source  []byte
}

func (v *vcdiffCoder) Encode(dst, content []byte, offset int64, base Base) ([]byte, error) {
	var err error
	if v.source, err = samePlace(v.source, offset, len(content), base); err != nil {
		return dst, err
	}
	if len(v.source) == 0 {
		return dst, unsuitable("vcdiff: no base at the same place")
	}
	return v.encoder.Encode(dst, content, v.source), nil
}

func (v *vcdiffCoder) Decode(dst, coded []byte, offset int64, base Base) error {
	var err error
	if v.source, err = samePlace(v.source, offset, len(dst), base); err != nil {
		return err
	}
	if err := vcdiff.Decode(dst, coded, v.source); err != nil {
		return corrupt("%w", err)
	}
	return nil
}
