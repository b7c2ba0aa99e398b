// SPDX-License-Identifier: Apache-2.0

// Package freeze stops the file systems on a block device for a moment, so that a
// snapshot of the device has them whole and clean.
//
// It owns finding them (on the device itself, its partitions and what is stacked
// on it, in any mount namespace), freezing and thawing (FIFREEZE, FITHAW), and the
// promise that they are thawed at the limit. It takes no snapshot. Commands that
// do call it. [Freeze] is safe for concurrent use; of two calls for one file
// system the second fails. It needs root.
//
// While a file system is frozen whoever writes to it waits, and so does this
// process: it must not write a log or a result there, and must serve requests of
// the block device if it is the one that serves it.
//
// The promise is kept by this process's timer and by a second process, the
// guard, that holds the file systems open and thaws them at the limit, and when
// this process dies, however it dies. Only if both are killed, or the kernel
// itself does not answer, does a file system stay frozen: then fsfreeze
// --unfreeze, or SysRq j, thaws it. The guard is this same program, started again
// under the name [GuardName]; package initialization makes it one, before main.
package freeze

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Errors that callers decide on.
var (
	// ErrThawed is wrapped by the thaw function's error when a file system was
	// thawed before, by the limit or by another process: a snapshot that was taken
	// since is consistent as after a crash only.
	ErrThawed = errors.New("was thawed before its time")
	// ErrFrozen is wrapped when another process holds a file system frozen.
	ErrFrozen = errors.New("is frozen already")
)

// Requests of include/uapi/linux/fs.h.
const (
	fiFreeze = 0xC0045877 // _IOWR('X', 119, int)
	fiThaw   = 0xC0045878 // _IOWR('X', 120, int)
)

// frozen is a set of file systems that are thawed together.
type frozen struct {
	mounts []mount
	files  []*os.File // of mounts, in their order
	guard  *guard

	mu     sync.Mutex
	iced   int  // how many of the files are frozen
	over   bool // no more are to be frozen
	thawed bool
	err    error
	timer  *time.Timer
}

// Freeze writes out and freezes all file systems on the block device dev. From
// when it returns until thaw is called, but at most for limit since it began,
// nothing changes on them. Where none is mounted it writes the device's page
// cache out.
//
// It waits no longer than ctx or limit allow, and then leaves nothing frozen: a
// freeze that the kernel is still at is undone as soon as it ends. Call thaw once;
// its error wraps [ErrThawed] if the file systems were not frozen all the time.
func Freeze(ctx context.Context, dev string, limit time.Duration) (thaw func() error, err error) {
	if limit <= 0 {
		return nil, fmt.Errorf("freezing %s: limit %v is not positive", dev, limit)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f, err := open(dev, limit)
	if err != nil {
		return nil, fmt.Errorf("freezing what is on %s: %w", dev, err)
	}
	done := make(chan error, 1)
	go func() { done <- f.freezeAll(dev) }()
	select {
	case err = <-done:
		if err == nil {
			end, _ := ctx.Deadline()
			f.expireAt(end)
			return f.thaw, nil
		}
		return nil, errors.Join(fmt.Errorf("freezing what is on %s: %w", dev, err), f.thaw())
	case <-ctx.Done():
		f.giveUp()
		go func() {
			<-done
			_ = f.thaw()
		}()
		return nil, fmt.Errorf("freezing what is on %s: %w", dev, ctx.Err())
	}
}

// open opens the file systems on dev and starts the guard.
func open(dev string, limit time.Duration) (*frozen, error) {
	mounts, err := mountsOf(dev, "/sys", "/proc")
	if err != nil {
		return nil, err
	}
	f := &frozen{mounts: mounts}
	for _, m := range mounts {
		file, err := os.OpenFile(m.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			f.closeFiles()
			return nil, err
		}
		f.files = append(f.files, file)
	}
	if len(f.files) > 0 {
		if f.guard, err = startGuard(f.files, limit); err != nil {
			f.closeFiles()
			return nil, err
		}
	}
	return f, nil
}

// freezeAll freezes one after another until one fails or it is given up.
func (f *frozen) freezeAll(dev string) error {
	if len(f.files) == 0 {
		return syncDevice(dev)
	}
	for i, file := range f.files {
		f.mu.Lock()
		over := f.over
		f.mu.Unlock()
		if over {
			return nil
		}
		// This may take as long as it takes to write everything out.
		err := unix.IoctlSetInt(int(file.Fd()), fiFreeze, 0)
		switch {
		case errors.Is(err, unix.EBUSY):
			return fmt.Errorf("%s %w", f.mounts[i].path, ErrFrozen)
		case errors.Is(err, unix.EOPNOTSUPP) && f.mounts[i].readOnly:
			// Nothing changes there anyway.
		case err != nil:
			return fmt.Errorf("%s: %w", f.mounts[i].path, err)
		}
		f.mu.Lock()
		f.iced = i + 1
		f.mu.Unlock()
	}
	return nil
}

// syncDevice writes out the page cache of a block device that nothing is mounted
// on.
func syncDevice(dev string) error {
	file, err := os.Open(dev)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// giveUp keeps freezeAll from freezing more.
func (f *frozen) giveUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
}

func (f *frozen) expireAt(end time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timer = time.AfterFunc(time.Until(end), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.thawLocked(fmt.Errorf("%w: the limit passed", ErrThawed))
	})
}

// thaw thaws what is frozen, lets the guard go, and tells whether all was frozen
// until now.
func (f *frozen) thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thawLocked(nil)
	return f.err
}

// thawLocked thaws once, the last frozen first; why is the error to remember.
func (f *frozen) thawLocked(why error) {
	if f.thawed {
		return
	}
	f.thawed, f.err = true, why
	if f.timer != nil {
		f.timer.Stop()
	}
	for i := f.iced - 1; i >= 0; i-- {
		m := f.mounts[i]
		err := thawFile(f.files[i])
		switch {
		case m.readOnly && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)):
		case errors.Is(err, unix.EINVAL):
			f.err = errors.Join(f.err, fmt.Errorf("%s %w", m.path, ErrThawed))
		case err != nil:
			f.err = errors.Join(f.err, fmt.Errorf("thawing %s: %w", m.path, err))
		}
	}
	if f.guard != nil {
		f.guard.dismiss()
	}
	f.closeFiles()
}

func thawFile(file *os.File) error { return unix.IoctlSetInt(int(file.Fd()), fiThaw, 0) }

func (f *frozen) closeFiles() {
	for _, file := range f.files {
		_ = file.Close()
	}
}
