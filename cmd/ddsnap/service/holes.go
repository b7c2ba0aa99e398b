// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// maxExtents bounds the extents of one answer.
const maxExtents = 1 << 14

// holes tells where a regular file has data.
type holes struct{ file *os.File }

// openHoles returns nil for what is not a regular file: block devices cannot
// tell.
func openHoles(path string) (*holes, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &holes{f}, nil
}

// status is the nbd.StatusFunc of base:allocation. Where the file system cannot
// tell, all is data.
func (h *holes) status(off, n int64, one bool) ([]nbd.Extent, error) {
	var list []nbd.Extent
	for end := off + n; off < end && len(list) < maxExtents && !(one && len(list) > 0); {
		e := nbd.Extent{Length: h.next(off, end, unix.SEEK_DATA) - off, Flags: wire.StateHole | wire.StateZero}
		if e.Length == 0 {
			e = nbd.Extent{Length: h.next(off, end, unix.SEEK_HOLE) - off}
		}
		if e.Length == 0 { // it has changed in between
			e.Length = end - off
		}
		list = append(list, e)
		off += e.Length
	}
	return list, nil
}

// next returns the offset of the first data or hole from off on, or end. Concurrent
// calls may share the file: none uses its position.
func (h *holes) next(off, end int64, whence int) int64 {
	at, err := unix.Seek(int(h.file.Fd()), off, whence)
	switch {
	case errors.Is(err, unix.ENXIO): // no data up to the file's end
		return end
	case err != nil && whence == unix.SEEK_DATA:
		return off
	case err != nil:
		return end
	}
	return min(at, end)
}

// Close closes the file; h may be nil.
func (h *holes) Close() error {
	if h == nil {
		return nil
	}
	return h.file.Close()
}
