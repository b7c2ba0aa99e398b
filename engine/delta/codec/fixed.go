// SPDX-License-Identifier: Apache-2.0

package codec

import "errors"

// Chooser picks a codec for each extent. Not safe for concurrent use.
type Chooser interface {
	// Encode appends the coded form of content as Encoder.Encode does, and says
	// which codec it is of. The coded form is smaller than the content, but for Raw:
	// then nothing is appended, and content itself is the coded form.
	Encode(dst, content []byte, offset int64, base Base) (ID, []byte, error)
}

type fixed struct {
	id      ID
	encoder Encoder
}

// NewFixed returns a chooser that takes the same codec always, and raw where
// that one is unsuitable or gains nothing.
func NewFixed(id ID, o Options) (Chooser, error) {
	e, err := NewEncoder(id, o)
	if err != nil {
		return nil, err
	}
	return &fixed{id, e}, nil
}

func (f *fixed) Encode(dst, content []byte, offset int64, base Base) (ID, []byte, error) {
	if f.id == Raw {
		return Raw, dst, nil
	}
	out, err := f.encoder.Encode(dst, content, offset, base)
	switch {
	case err == nil && len(out)-len(dst) < len(content):
		return f.id, out, nil
	case err != nil && !errors.Is(err, ErrUnsuitable):
		return 0, dst, err
	}
	return Raw, dst, nil
}
