// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"fmt"
	"io"
)

// SignatureError says that a device holds something that formatting it would
// destroy.
type SignatureError struct {
	Path      string
	Signature string // such as "ext2/3/4 file system"
	Off       int64  // where it was found, in bytes
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("%s: found %s at byte %d: wipe it or insist", e.Path, e.Signature, e.Off)
}

// signature is a magic string at one place. A negative place counts from the
// end, and is rounded down to a multiple of unit if that is not zero.
type signature struct {
	name  string
	off   int64
	magic string
	unit  int64
}

// place returns the offset on a device of size bytes.
func (s signature) place(size int64) int64 {
	if s.off >= 0 {
		return s.off
	}
	return (size + s.off) / max(s.unit, 1) * max(s.unit, 1)
}

// signatures lists the magics of what commonly lies on disks, the more telling
// first. Where a format keeps copies, each place that a wipe of the first may
// have left is listed.
func signatures() []signature {
	return []signature{
		{"snapshot store", 0, "zmastor\x00", 0},
		{"snapshot store's data or journal", 0, "abl\x00", 0},
		{"ext2/3/4 file system", 0x438, "\x53\xef", 0},
		{"XFS file system", 0, "XFSB", 0},
		{"btrfs file system", 0x10040, "_BHRfS_M", 0},
		{"bcachefs file system", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", 0},
		{"bcache device", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", 0},
		{"F2FS file system", 0x400, "\x10\x20\xf5\xf2", 0},
		{"JFS file system", 0x8000, "JFS1", 0},
		{"NILFS2 file system", 0x406, "\x34\x34", 0},
		{"GFS2 file system", 0x10000, "\x01\x16\x19\x70", 0},
		{"ReiserFS file system", 0x10034, "ReIsEr", 0},
		{"HFS+ file system", 0x400, "H+", 0},
		{"NTFS file system", 3, "NTFS    ", 0},
		{"exFAT file system", 3, "EXFAT   ", 0},
		{"FAT file system", 54, "FAT1", 0},
		{"FAT file system", 82, "FAT32   ", 0},
		{"ISO 9660 file system", 0x8001, "CD001", 0},
		{"SquashFS file system", 0, "hsqs", 0},
		{"EROFS file system", 0x400, "\xe2\xe1\xf5\xe0", 0},
		{"swap area", 4086, "SWAPSPACE2", 0},
		{"swap area", 4086, "SWAP-SPACE", 0},
		{"LUKS volume", 0, "LUKS\xba\xbe", 0},
		{"LUKS volume", 0x4000, "SKUL\xba\xbe", 0},
		{"LVM physical volume", 0, "LABELONE", 0},
		{"LVM physical volume", 512, "LABELONE", 0},
		{"LVM physical volume", 1024, "LABELONE", 0},
		{"LVM physical volume", 1536, "LABELONE", 0},
		{"VDO volume", 0, "dmvdo001", 0},
		{"dm-integrity device", 0, "integrt\x00", 0},
		{"dm-snapshot store", 0, "SnAp", 0},
		{"dm-thin pool metadata", 32, "\x62\x54\x9c\x01", 0},
		{"Ceph BlueStore device", 0, "bluestore block device", 0},
		{"software RAID member", 0, "\xfc\x4e\x2b\xa9", 0},
		{"software RAID member", 4096, "\xfc\x4e\x2b\xa9", 0},
		{"software RAID member", -8192, "\xfc\x4e\x2b\xa9", 4096},
		{"software RAID member", -65536, "\xfc\x4e\x2b\xa9", 65536},
		{"qcow2 image", 0, "QFI\xfb", 0},
		{"VMDK image", 0, "KDMV", 0},
		{"GPT partition table", 512, "EFI PART", 0},
		{"GPT partition table", 4096, "EFI PART", 0},
		{"GPT partition table (backup)", -512, "EFI PART", 0},
		{"GPT partition table (backup)", -4096, "EFI PART", 0},
		{"DOS partition table or boot sector", 510, "\x55\xaa", 0},
	}
}

const (
	probeSize = 256 << 10 // what of either end holds the signatures
	zfsFirst  = 128 << 10 // uberblocks of the first ZFS label, 1 KiB each
	zfsMagic  = "\x0c\xb1\xba\x00\x00\x00\x00\x00"
)

// probe returns a *SignatureError for the first known signature on a device of
// size bytes.
func probe(r io.ReaderAt, path string, size int64) error {
	headLen := min(size, probeSize)
	head, tail := make([]byte, headLen), make([]byte, headLen)
	if _, err := r.ReadAt(head, 0); err != nil {
		return fmt.Errorf("looking for signatures: %w", err)
	}
	if _, err := r.ReadAt(tail, size-headLen); err != nil && err != io.EOF {
		return fmt.Errorf("looking for signatures: %w", err)
	}
	for _, s := range signatures() {
		off := s.place(size)
		from, at := head, off
		if s.off < 0 {
			from, at = tail, off-(size-headLen)
		}
		if at >= 0 && at < headLen && bytes.HasPrefix(from[at:], []byte(s.magic)) {
			return &SignatureError{Path: path, Signature: s.name, Off: off}
		}
	}
	for at := int64(zfsFirst); at+8 <= headLen; at += 1024 {
		if bytes.HasPrefix(head[at:], []byte(zfsMagic)) {
			return &SignatureError{Path: path, Signature: "ZFS pool member", Off: at}
		}
	}
	return nil
}
