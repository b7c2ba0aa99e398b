// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"io"
)

// samePlace reads the base at offset into buf's memory: n bytes, fewer where the
// base ends before, none where there is no base.
func samePlace(buf []byte, offset int64, n int, base Base) ([]byte, error) {
	if base == nil {
		return buf[:0], nil
	}
	n = int(max(0, min(int64(n), base.Size()-offset)))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if n == 0 {
		return buf, nil
	}
	if m, err := base.ReadAt(buf, offset); err != nil && !(err == io.EOF && m == n) {
		return buf[:0], fmt.Errorf("reading %d bytes of the base at %d: %w", n, offset, err)
	}
	return buf, nil
}

// unsuitable returns ErrUnsuitable with the reason.
func unsuitable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsuitable, fmt.Sprintf(format, args...))
}
