// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// Retry tries again what failed, unless it would fail again.
type Retry struct {
	Storage
	Tries int           // in all; at least one
	Wait  time.Duration // before the second try; it doubles from try to try
	// Sleep waits, or returns when ctx ends; nil for the clock's.
	Sleep func(ctx context.Context, d time.Duration)
}

// Default tries for storages behind a network: two minutes in all.
const (
	DefaultTries = 9
	DefaultWait  = 500 * time.Millisecond
)

// Put implements Storage.
func (r *Retry) Put(ctx context.Context, name string, content []byte) error {
	return r.try(ctx, "putting "+name, func() error { return r.Storage.Put(ctx, name, content) })
}

// ReadAt implements Storage.
func (r *Retry) ReadAt(ctx context.Context, name string, p []byte, off int64) (n int, err error) {
	err = r.try(ctx, "reading "+name, func() error {
		n, err = r.Storage.ReadAt(ctx, name, p, off)
		return err
	})
	return n, err
}

// List implements Storage.
func (r *Retry) List(ctx context.Context, prefix string) (list []Object, err error) {
	err = r.try(ctx, "listing "+prefix, func() error {
		list, err = r.Storage.List(ctx, prefix)
		return err
	})
	return list, err
}

// Delete implements Storage.
func (r *Retry) Delete(ctx context.Context, name string) error {
	return r.try(ctx, "deleting "+name, func() error { return r.Storage.Delete(ctx, name) })
}

func (r *Retry) try(ctx context.Context, doing string, do func() error) error {
	wait := r.Wait
	for try := 1; ; try++ {
		err := do()
		switch {
		case err == nil || final(err):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case try >= r.Tries:
			return fmt.Errorf("%s, %d times: %w", doing, try, err)
		}
		r.sleep(ctx, wait)
		wait *= 2
	}
}

// final reports whether an error would come again.
func final(err error) bool {
	for _, e := range []error{io.EOF, fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, ErrDenied, ErrNoBucket, unix.EROFS, unix.ENOSPC, unix.EDQUOT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (r *Retry) sleep(ctx context.Context, d time.Duration) {
	if r.Sleep != nil {
		r.Sleep(ctx, d)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
