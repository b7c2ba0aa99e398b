// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"bytes"
	"errors"
	"testing"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
)

// FuzzDecode decodes any bytes with every codec: what is not a payload is
// ErrCorrupt, and never a panic.
func FuzzDecode(f *testing.F) {
	old := corpus.Text(1, 8192)
	content := corpus.Edited(1, old)[1000:5096]
	decoders := map[codec.ID]codec.Decoder{}
	for _, id := range all {
		e, err := codec.NewEncoder(id, codec.Options{})
		if err != nil {
			f.Fatal(err)
		}
		if coded, err := e.Encode(nil, content, 1000, corpus.Memory(old)); err == nil {
			f.Add(uint8(id), coded)
		}
		if decoders[id], err = codec.NewDecoder(id, codec.Limits{Extent: 1 << 16}); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, id uint8, coded []byte) {
		d, ok := decoders[codec.ID(id)]
		if !ok {
			return
		}
		dst := make([]byte, len(content))
		before := bytes.Clone(coded)
		if err := d.Decode(dst, coded, 1000, corpus.Memory(old)); err != nil && !errors.Is(err, codec.ErrCorrupt) {
			t.Fatal(err)
		}
		if !bytes.Equal(before, coded) {
			t.Fatal("the payload was changed")
		}
	})
}
