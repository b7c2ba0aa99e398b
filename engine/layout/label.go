// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/block"
)

// Role says what a labelled device is to its store. Part of the format, must not
// change.
type Role uint8

// The roles.
const (
	RoleData    Role = 1 + iota // the data area, where the metadata area is elsewhere
	RoleJournal                 // the journal of batches
)

// LabelSize is the size of a label, at the begin of its device, in bytes.
const LabelSize = block.PageSize

const (
	labelMagic   = 0x006c6261 // "abl\0"
	labelVersion = 1
	labelCRC     = 12
)

// EncodeLabel returns the label of a device that has no superblock:
//
//	0 magic u32   4 version u32   8 role u8, zero 3   12 CRC32C of the page, this field zero
//	16 uuid 16    32 zero up to 4096
func EncodeLabel(uuid UUID, role Role) []byte {
	p := make([]byte, LabelSize)
	binary.LittleEndian.PutUint32(p, labelMagic)
	binary.LittleEndian.PutUint32(p[4:], labelVersion)
	p[8] = byte(role)
	copy(p[16:], uuid[:])
	binary.LittleEndian.PutUint32(p[labelCRC:], ChecksumWithout(p, labelCRC))
	return p
}

// CheckLabel reports whether p is the label of store uuid's device of that role.
// The error wraps [ErrCorrupt] or [ErrVersion].
func CheckLabel(p []byte, uuid UUID, role Role) error {
	le := binary.LittleEndian
	switch {
	case len(p) != LabelSize || le.Uint32(p) != labelMagic:
		return fmt.Errorf("%w: no label of a store", ErrCorrupt)
	case le.Uint32(p[4:]) != labelVersion:
		return fmt.Errorf("%w: label of format %d", ErrVersion, le.Uint32(p[4:]))
	case le.Uint32(p[labelCRC:]) != ChecksumWithout(p, labelCRC):
		return fmt.Errorf("%w: label checksum", ErrCorrupt)
	case UUID(p[16:32]) != uuid:
		return fmt.Errorf("%w: device belongs to store %v, not %v", ErrCorrupt, UUID(p[16:32]), uuid)
	case Role(p[8]) != role:
		return fmt.Errorf("%w: device has role %d in the store, not %d", ErrCorrupt, p[8], role)
	case !bytes.Equal(p, EncodeLabel(uuid, role)):
		return fmt.Errorf("%w: label: reserved bytes are not zero", ErrCorrupt)
	}
	return nil
}
