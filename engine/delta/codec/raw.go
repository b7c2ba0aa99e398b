// SPDX-License-Identifier: Apache-2.0

package codec

// rawCoder stores content as it is.
type rawCoder struct{}

func (rawCoder) Encode(dst, content []byte, _ int64, _ Base) ([]byte, error) {
	return append(dst, content...), nil
}

func (rawCoder) Decode(dst, coded []byte, _ int64, _ Base) error {
	if len(coded) != len(dst) {
		return corrupt("raw: %d bytes for an extent of %d", len(coded), len(dst))
	}
	copy(dst, coded)
	return nil
}
