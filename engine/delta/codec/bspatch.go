// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"cmp"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// bspatch fills dst by a BSDIFF40 patch against old:
//
//	0   8  "BSDIFF40"
//	8   8  bytes of the control block
//	16  8  bytes of the difference block
//	24  8  bytes of the new content
//	32     control, difference and extra block, each compressed by bzip2
//
// Numbers have the sign in their highest bit. Control is triples: add so many
// bytes of the difference to the old ones, take so many of the extra, seek in the
// old by so many.
func bspatch(dst, old, patch []byte) error {
	if len(patch) < 32 || string(patch[:8]) != "BSDIFF40" {
		return errors.New("no header")
	}
	control, difference, size := signed(patch[8:]), signed(patch[16:]), signed(patch[24:])
	patch = patch[32:]
	if control < 0 || control > int64(len(patch)) || difference < 0 || difference > int64(len(patch))-control {
		return fmt.Errorf("blocks of %d and %d bytes in %d", control, difference, len(patch))
	}
	if size != int64(len(dst)) {
		return fmt.Errorf("content of %d bytes for %d", size, len(dst))
	}
	return patchBlocks(dst, old,
		bzip2.NewReader(bytes.NewReader(patch[:control])),
		bzip2.NewReader(bytes.NewReader(patch[control:control+difference])),
		bzip2.NewReader(bytes.NewReader(patch[control+difference:])))
}

func patchBlocks(dst, old []byte, control, difference, extra io.Reader) error {
	var position int64
	idle := 0
	for at := 0; at < len(dst); {
		var triple [24]byte
		if _, err := io.ReadFull(control, triple[:]); err != nil {
			return fmt.Errorf("control: %w", err)
		}
		add, take, seek := signed(triple[:]), signed(triple[8:]), signed(triple[16:])
		left := int64(len(dst) - at)
		if add < 0 || add > left || take < 0 || take > left-add {
			return fmt.Errorf("control: %d and %d bytes, %d are left", add, take, left)
		}
		if add+take == 0 {
			if idle++; idle > len(dst) {
				return errors.New("control: does nothing")
			}
		}
		added := dst[at : at+int(add)]
		if _, err := io.ReadFull(difference, added); err != nil {
			return fmt.Errorf("difference: %w", err)
		}
		for i := range added {
			if p := position + int64(i); p >= 0 && p < int64(len(old)) {
				added[i] += old[p]
			}
		}
		at += int(add)
		if _, err := io.ReadFull(extra, dst[at:at+int(take)]); err != nil {
			return fmt.Errorf("extra: %w", err)
		}
		at += int(take)
		position += add
		if seek < -1<<40 || seek > 1<<40 || position < -1<<41 || position > 1<<41 {
			return fmt.Errorf("control: seek by %d", seek)
		}
		position += seek
	}
	for _, r := range []io.Reader{control, difference, extra} {
		var more [1]byte
		if _, err := io.ReadFull(r, more[:]); err != io.EOF {
			return fmt.Errorf("after the content: %w", cmp.Or(err, errors.New("more of it")))
		}
	}
	return nil
}

// signed reads a number with its sign in the highest bit.
func signed(b []byte) int64 {
	v := binary.LittleEndian.Uint64(b)
	n := int64(v &^ (1 << 63))
	if v>>63 != 0 {
		return -n
	}
	return n
}
