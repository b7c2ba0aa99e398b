// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"zumastor.org/zumastor/engine/delta"
)

// Target is what a state is restored to.
type Target interface {
	io.WriterAt
	// Zero makes a range read as zeroes.
	Zero(off, n int64) error
	// Flush makes durable what was written.
	Flush() error
}

// Restore writes all of an image to a target, which is that state, durably, when Restore
// returns nil, and anything before. Progress is told, by one goroutine at a time, how many
// bytes are done of how many; it may be nil.
func Restore(ctx context.Context, m *Image, to Target, progress func(done, total int64)) error {
	windows := (m.Size() + m.window - 1) / m.window
	zeroes := make([]byte, m.window)
	var mu sync.Mutex
	var done int64
	err := parallel(ctx, min(maxReads, runtime.GOMAXPROCS(0)*2), int(windows), func(i int) error {
		off := int64(i) * m.window
		p, err := m.at(off)
		if err != nil {
			return err
		}
		if bytes.Equal(p, zeroes[:len(p)]) {
			err = to.Zero(off, int64(len(p)))
		} else {
			_, err = to.WriteAt(p, off)
		}
		if err != nil {
			return fmt.Errorf("writing %d bytes at offset %d: %w", len(p), off, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if done += int64(len(p)); progress != nil {
			progress(done, m.Size())
		}
		return nil
	})
	if err != nil {
		return err
	}
	return to.Flush()
}

// RestoreToFile makes a new file of an image. It appears, complete and durable, only when
// RestoreToFile succeeds; zeroes are holes. The error wraps os.ErrExist if it is there.
func RestoreToFile(ctx context.Context, m *Image, path string, progress func(done, total int64)) error {
	return delta.MakeFile(path, func(f *os.File) error {
		if err := f.Truncate(m.Size()); err != nil {
			return err
		}
		return Restore(ctx, m, newFile{f}, progress)
	})
}

// newFile is a file that is all holes.
type newFile struct{ *os.File }

// Zero implements Target.
func (newFile) Zero(int64, int64) error { return nil }

// Flush implements Target: who makes the file syncs it.
func (newFile) Flush() error { return nil }
