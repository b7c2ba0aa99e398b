// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"cmp"
	"encoding/binary"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// trust says where an exception was found, the most trusted first.
type trust uint32

const (
	fromLog     trust = iota // a record that recovery would have replayed
	fromTree                 // the tree that the superblock points at
	fromOrphan               // a leaf without a parent
	fromOldLog               // a record that may be older than the checkpoint
	fromChanges              // the change tree: it exists, but where is unknown
)

// find is an exception as it was found somewhere.
type find struct {
	layout.Exception
	trust trust
	age   uint64 // number of the checkpoint or record: of equal trust, the higher is newer
}

// findCodec codes finds in order of key, trust and age.
type findCodec struct{}

const findSize = 48

func (findCodec) size() int { return findSize }

func (findCodec) put(p []byte, f find) {
	le := binary.LittleEndian
	le.PutUint64(p, uint64(f.Branch))
	le.PutUint64(p[8:], uint64(f.Chunk))
	le.PutUint64(p[16:], uint64(f.Generation))
	le.PutUint64(p[24:], uint64(f.Slot))
	le.PutUint32(p[32:], f.Sum)
	le.PutUint32(p[36:], uint32(f.trust))
	le.PutUint64(p[40:], f.age)
}

func (findCodec) get(p []byte) find {
	le := binary.LittleEndian
	return find{
		Exception: layout.Exception{
			Branch: block.Branch(le.Uint64(p)), Chunk: block.Chunk(le.Uint64(p[8:])), Generation: block.Generation(le.Uint64(p[16:])),
			Slot: block.Slot(le.Uint64(p[24:])), Sum: le.Uint32(p[32:]),
		},
		trust: trust(le.Uint32(p[36:])), age: le.Uint64(p[40:]),
	}
}

func (findCodec) compare(a, b find) int {
	return cmp.Or(layout.ExceptionCodec{}.Compare(a.Exception, b.Exception), cmp.Compare(a.trust, b.trust), cmp.Compare(b.age, a.age))
}
