// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// NewFile has write write a file that is not there yet. It appears, complete and durable,
// when write and NewFile succeed; else there is none. The error wraps os.ErrExist if
// there is one.
func NewFile(path string, write func(io.Writer) error) error {
	return MakeFile(path, func(f *os.File) error { return write(f) })
}

// MakeFile is [NewFile] for who does not write from begin to end.
func MakeFile(path string, make func(*os.File) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w: name a new file", path, os.ErrExist)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = make(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Unlike a rename, this never replaces what somebody else has made meanwhile.
	if err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("naming %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ApplyToFile makes the file at output, which is not there yet, what the delta makes of
// the one at base, which is left as it is; base is empty for a delta of all of a volume.
// Where the file system can, they share what is the same. Output appears, complete and
// durable, only when ApplyToFile succeeds. If from can be read twice, the whole delta is
// verified against the base before anything is made.
func ApplyToFile(ctx context.Context, from io.Reader, base, output string, o ApplyOptions) (sum Summary, err error) {
	old, err := openBase(base)
	if err != nil {
		return sum, err
	}
	if old != nil {
		defer old.close()
	}
	if err := checkTwice(ctx, from, old); err != nil {
		return sum, err
	}
	r, err := NewReader(from)
	if err != nil {
		return sum, err
	}
	if err := fits(r.Header(), old.content()); err != nil {
		return sum, err
	}
	o.Resume = false
	err = MakeFile(output, func(f *os.File) error {
		to := &file{f: f, size: r.Header().To.Size}
		if err := to.begin(old, &r.header); err != nil {
			return err
		}
		sum, err = Apply(ctx, r, old.content(), to, o)
		return err
	})
	return sum, err
}

// checkTwice verifies all of a delta before it is read again, if it can be.
func checkTwice(ctx context.Context, from io.Reader, base *file) error {
	s, ok := from.(io.Seeker)
	if !ok {
		return nil
	}
	start, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil // a pipe
	}
	r, err := NewReader(from)
	if err != nil {
		return err
	}
	if err := CheckBase(ctx, r, base.content()); err != nil {
		return err
	}
	_, err = s.Seek(start, io.SeekStart)
	return err
}

// file is a plain file, or a block device, as content.
type file struct {
	f       *os.File
	size    int64
	started Extent // written behind what the kernel was told to put on the device
}

// OnFile is a plain file of size bytes as a receiver. What is written begins to go to the
// device at once, so that Flush has little left to wait for.
func OnFile(f *os.File, size int64) Receiver { return &file{f: f, size: size} }

// startBytes is how many bytes in a row are put on the device at a time.
const startBytes = 4 << 20

func openBase(path string) (*file, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f: f, size: size}, nil
}

func (f *file) close() { _ = f.f.Close() } // it was only read

// content returns the file as content, and nil for none.
func (f *file) content() Content {
	if f == nil {
		return nil
	}
	return f
}

// begin gives a new file the content of the base, shared if possible.
func (f *file) begin(base *file, h *Header) error {
	if h.From != nil {
		if err := unix.IoctlFileClone(int(f.f.Fd()), int(base.f.Fd())); err != nil {
			if _, err := io.Copy(f.f, io.NewSectionReader(base.f, 0, base.size)); err != nil {
				return fmt.Errorf("copying the base: %w", err)
			}
		}
	}
	return f.f.Truncate(h.To.Size)
}

// Size implements Content.
func (f *file) Size() int64 { return f.size }

// ReadAt implements Content.
func (f *file) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// WriteAt implements Receiver.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	f.start(Extent{off, int64(n)})
	return n, err
}

// start has the kernel begin to put on the device what was written: once there is enough
// in a row. An error is no matter, since Flush puts all of it there.
func (f *file) start(x Extent) {
	run := &f.started
	if run.Offset+run.Length == x.Offset {
		run.Length += x.Length
	} else {
		*run = x
	}
	if run.Length < startBytes {
		return
	}
	_ = unix.SyncFileRange(int(f.f.Fd()), run.Offset, run.Length, unix.SYNC_FILE_RANGE_WRITE)
	*run = Extent{Offset: run.Offset + run.Length}
}

// Flush implements Receiver.
func (f *file) Flush() error { return f.f.Sync() }

// Zero implements Receiver: as a hole, where the file system has such.
func (f *file) Zero(off, n int64) error {
	err := unix.Fallocate(int(f.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if err == nil {
		return nil
	}
	zeroes := make([]byte, min(n, 1<<20))
	for n > 0 {
		p := zeroes[:min(n, int64(len(zeroes)))]
		if _, err := f.f.WriteAt(p, off); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}
