// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

const mappingSize = 32

// AppendMappings codes mappings:
//
//	0 number u32   4 zero u32   8 mappings: chunk u64, chunks u64, slot u64, kind u8, owned u8, zero 6
func AppendMappings(dst []byte, list []Mapping) []byte {
	dst = le.AppendUint32(dst, uint32(len(list)))
	dst = le.AppendUint32(dst, 0)
	for _, m := range list {
		dst = AppendNumbers(dst, uint64(m.Chunk), m.Len, uint64(m.Slot))
		dst = append(dst, byte(m.Kind), byte(flag(m.Owned, 1)), 0, 0, 0, 0, 0, 0)
	}
	return dst
}

// DecodeMappings appends the mappings of [first, end), which they must tile, to dst.
func DecodeMappings(p []byte, first, end block.Chunk, dst []Mapping) ([]Mapping, error) {
	d := decoder{p: p}
	for range d.count(MaxMappings, mappingSize) {
		m := Mapping{Chunk: block.Chunk(d.uint64()), Len: d.uint64(), Slot: block.Slot(d.uint64()), Kind: MappingKind(d.uint8())}
		owned := d.uint8()
		m.Owned = owned == 1
		d.zero(6)
		d.require(owned <= 1 && m.Kind <= Lost && (m.Kind == Stored || m.Slot == 0 && !m.Owned))
		d.require(m.Chunk == first && m.Len > 0 && m.Len <= uint64(end-first) && uint64(m.Slot) < 1<<63-m.Len)
		if d.bad {
			break
		}
		first += block.Chunk(m.Len)
		dst = append(dst, m)
	}
	d.require(first == end)
	return dst, d.end("mappings")
}

// AppendWritten codes the report of chunks written to a snapshot:
//
//	0 handle u64   8 the chunks, as the body of a batch's record, of branch 0
func AppendWritten(dst []byte, h Handle, g block.Generation, copies []layout.Copy) []byte {
	dst = le.AppendUint64(dst, uint64(h))
	return layout.AppendBatch(dst, &layout.Batch{Generation: g, Copies: copies})
}

// DecodeWritten is the reverse of [AppendWritten].
func DecodeWritten(p []byte) (h Handle, g block.Generation, copies []layout.Copy, err error) {
	d := decoder{p: p}
	h = Handle(d.uint64())
	b, err := layout.DecodeBatch(d.bytes(len(d.p)))
	if err != nil {
		return h, g, nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	d.require(b.Branch == 0)
	return h, b.Generation, b.Copies, d.end("chunks written")
}

// Code says what went wrong, for programs. Part of the protocol, must not change.
type Code uint32

// Fault is an error as it is sent:
//
//	0 code u32   4 zero u32   8 text in UTF-8
type Fault struct {
	Code Code
	Text string
}

// AppendFault codes f. A text beyond [MaxText] is cut.
func AppendFault(dst []byte, f Fault) []byte {
	dst = le.AppendUint32(dst, uint32(f.Code))
	dst = le.AppendUint32(dst, 0)
	return append(dst, f.Text[:min(len(f.Text), MaxText)]...)
}

// DecodeFault is the reverse of [AppendFault].
func DecodeFault(p []byte) (f Fault, err error) {
	d := decoder{p: p}
	f.Code = Code(d.uint32())
	d.zero(4)
	d.require(len(d.p) <= MaxText)
	f.Text = string(d.bytes(len(d.p)))
	return f, d.end("fault")
}
