// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"errors"
	"io"
)

// Bounds of a line, its end included.
const (
	maxRequest  = 4 << 10
	maxResponse = 256 << 20 // the sharing table of a million snapshots
)

// errTooLong is returned for a line that exceeds its bound.
var errTooLong = errors.New("line is too long")

// readLine reads a line of at most max bytes. It returns io.EOF when there is
// none, and io.ErrUnexpectedEOF when its end is missing.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max {
			return line, errTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}
