// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"encoding/binary"

	"zumastor.org/zumastor/engine/delta/zstddict"
)

// Encoder codes extents. It holds 4 MiB of pages of the base, what package
// zstddict says for its level, and some 6 times the largest extent.
type Encoder struct {
	index        *Index
	matcher      matcher
	rest         *zstddict.Encoder
	instructions *zstddict.Encoder

	same, dict, raw, ops []byte
	head                 []byte // of the last payload: all before the rest, which raw holds
}

// defaultLevel is of the zstd program: the rest is little, and hard.
const defaultLevel = 7

// NewEncoder returns an encoder for extents of at most extent bytes. Index may be
// nil: then copies are from the same place and from where those lead. Level is of
// zstddict, 0 for the default.
func NewEncoder(level, extent int, index *Index) (*Encoder, error) {
	if level == 0 {
		level = defaultLevel
	}
	rest, err := NewRest(level, extent)
	if err != nil {
		return nil, err
	}
	// More effort finds nothing in so few bytes, and would hold 35 MiB.
	instructions, err := zstddict.NewEncoder(min(level, defaultLevel), 1<<20)
	if err != nil {
		return nil, err
	}
	return &Encoder{index: index, rest: rest, instructions: instructions}, nil
}

// NewRest returns what codes the rest of extents of at most extent bytes, for Recode.
func NewRest(level, extent int) (*zstddict.Encoder, error) {
	return zstddict.NewEncoder(level, extent+maxDictionary(extent))
}

// Encode appends the payload of content, newer content at offset of the volume.
// It reports whether there is anything of use in the base; nothing is appended
// where not, or on an error, which is base's.
func (e *Encoder) Encode(dst, content []byte, offset int64, base Base) ([]byte, bool, error) {
	before := len(dst)
	e.head, e.raw = e.head[:0], e.raw[:0]
	n := int(max(0, min(int64(len(content)), base.Size()-offset)))
	if cap(e.same) < n {
		e.same = make([]byte, n)
	}
	e.same = e.same[:n]
	if err := readBase(e.same, offset, base); err != nil {
		return dst, false, err
	}
	copies, err := e.matcher.match(content, offset, e.same, base, e.index)
	if err != nil {
		return dst, false, err
	}
	spans := dictionary(copies, len(content), offset, base.Size())
	if len(copies) == 0 && len(spans) == 0 {
		return dst, false, nil
	}
	if e.dict, err = readDictionary(e.dict, spans, base); err != nil {
		return dst, false, err
	}
	dst = append(dst, 0)
	if dst, err = e.appendInstructions(dst, copies, offset); err != nil {
		return dst[:before], false, err
	}
	e.takeRest(content, copies)
	e.head = append(e.head, dst[before:]...)
	if dst, err = e.appendRest(dst, before, e.rest); err != nil {
		return dst[:before], false, err
	}
	return dst, true, nil
}

// Recode appends the payload of the extent that Encode was given last, with its rest coded
// by another encoder, which NewRest made for extents as large. Nothing is searched or read
// again. It reports false, and appends nothing, where there is no rest, or no dictionary
// for it: so little is left between copies then that no encoder gains.
func (e *Encoder) Recode(dst []byte, rest *zstddict.Encoder) ([]byte, bool, error) {
	if len(e.head) == 0 || len(e.raw) == 0 || len(e.dict) == 0 {
		return dst, false, nil
	}
	before := len(dst)
	dst, err := e.appendRest(append(dst, e.head...), before, rest)
	if err != nil {
		return dst[:before], false, err
	}
	return dst, true, nil
}

// appendInstructions appends all from the number of copies to the instructions,
// and sets their flag in the byte before.
func (e *Encoder) appendInstructions(dst []byte, copies []copyOp, offset int64) ([]byte, error) {
	flags := len(dst) - 1
	dst = binary.AppendUvarint(dst, uint64(len(copies)))
	raw := appendColumns(e.raw[:0], copies, offset)
	e.raw = raw
	var err error
	if len(raw) > 32 && len(raw) <= 1<<20 {
		if e.ops, err = e.instructions.Encode(e.ops[:0], raw, nil); err != nil {
			return dst, err
		}
		if len(e.ops)+3 < len(raw) {
			dst[flags] |= flagPackedInstructions
			dst = binary.AppendUvarint(dst, uint64(len(e.ops)))
			dst = binary.AppendUvarint(dst, uint64(len(raw)))
			return append(dst, e.ops...), nil
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(raw)))
	return append(dst, raw...), nil
}

// takeRest leaves in raw what no copy holds.
func (e *Encoder) takeRest(content []byte, copies []copyOp) {
	rest := e.raw[:0]
	at := 0
	for _, c := range copies {
		rest = append(rest, content[at:c.at]...)
		at = c.end()
	}
	e.raw = append(rest, content[at:]...)
}

// appendRest appends the rest, and sets its flag in the byte at flags.
func (e *Encoder) appendRest(dst []byte, flags int, rest *zstddict.Encoder) ([]byte, error) {
	if len(e.raw) == 0 {
		return dst, nil
	}
	start := len(dst)
	dst, err := rest.Encode(dst, e.raw, e.dict)
	if err != nil {
		return dst, err
	}
	if len(dst)-start < len(e.raw) {
		dst[flags] |= flagPackedRest
		return dst, nil
	}
	return append(dst[:start], e.raw...), nil
}

// appendColumns appends the instructions.
func appendColumns(dst []byte, copies []copyOp, offset int64) []byte {
	at := 0
	for _, c := range copies {
		dst = binary.AppendUvarint(dst, uint64(c.at-at))
		at = c.end()
	}
	for _, c := range copies {
		dst = binary.AppendUvarint(dst, uint64(c.n-minCopy))
	}
	distance := offset // from the content to the base
	for _, c := range copies {
		to := c.from - int64(c.at)
		switch {
		case to == distance:
			dst = append(dst, 0)
		case to == offset:
			dst = append(dst, 1)
		default:
			d := to - distance
			dst = binary.AppendUvarint(dst, uint64(d<<1^d>>63)+2)
		}
		distance = to
	}
	return dst
}
