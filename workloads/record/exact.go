// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/workloads"
)

// provenBlock is the unit in which content is compared, in bytes.
const provenBlock = 4096

// blockHashes holds the hash of each block that is not in a hole of the image.
type blockHashes struct {
	hashes map[int64]uint64
	seed   maphash.Seed
}

// hashBlocks hashes the image's data. Only hashes of one seed compare.
func hashBlocks(path string, seed maphash.Seed) (blockHashes, error) {
	h := blockHashes{hashes: make(map[int64]uint64), seed: seed}
	f, err := os.Open(path)
	if err != nil {
		return h, err
	}
	defer f.Close()
	fd := int(f.Fd())
	for end := int64(0); ; {
		start, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return h, nil
		}
		if err != nil {
			return h, fmt.Errorf("finding data of %s: %w", path, err)
		}
		if end, err = unix.Seek(fd, start, unix.SEEK_HOLE); err != nil {
			return h, fmt.Errorf("finding holes of %s: %w", path, err)
		}
		if err := h.add(f, start, end); err != nil {
			return h, err
		}
	}
}

// add hashes the blocks that the bytes from start to end touch. Blocks of zeroes
// are left out, as those in holes are.
func (h blockHashes) add(f io.ReaderAt, start, end int64) error {
	buf := make([]byte, 256*provenBlock)
	zero := maphash.Bytes(h.seed, make([]byte, provenBlock))
	for off := start / provenBlock * provenBlock; off < end; off += int64(len(buf)) {
		n, err := f.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			return err
		}
		for i := 0; i+provenBlock <= n; i += provenBlock {
			if sum := maphash.Bytes(h.seed, buf[i:i+provenBlock]); sum != zero {
				h.hashes[(off+int64(i))/provenBlock] = sum
			}
		}
	}
	return nil
}

// coverage checks that every block that differs between before and after was
// touched by an op that changes content.
func coverage(ops []workloads.Op, before, after blockHashes) (changed, written int64, err error) {
	touched := make(map[int64]bool)
	for _, op := range ops {
		if op.Mutates() {
			for b := op.Off / provenBlock; b < (op.End()+provenBlock-1)/provenBlock; b++ {
				touched[b] = true
			}
		}
	}
	missed, example := 0, int64(0)
	check := func(b int64) {
		changed++
		if !touched[b] {
			missed, example = missed+1, b
		}
	}
	for b, sum := range after.hashes {
		if old, ok := before.hashes[b]; !ok || old != sum {
			check(b)
		}
	}
	for b := range before.hashes {
		if _, ok := after.hashes[b]; !ok {
			check(b)
		}
	}
	if missed > 0 {
		return changed, int64(len(touched)), fmt.Errorf("%w: %d of %d changed blocks were not written according to it, among them the one at %d",
			ErrInexact, missed, changed, example*provenBlock)
	}
	return changed, int64(len(touched)), nil
}
