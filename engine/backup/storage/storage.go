// SPDX-License-Identifier: Apache-2.0

// Package storage keeps objects, which are bytes under a name, in a directory, in a
// bucket of an S3-compatible object store, or in memory.
//
// It owns how an object becomes durable, whole or not at all, and which failures are
// worth another try. It does not own what objects hold: package backup calls it. Its
// conformance suite is package storagetest. Storages are safe for concurrent use. An
// error of Put or Delete says that it is not known whether the object is there; both
// may be done again.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Object is what a listing says of an object.
type Object struct {
	Name string
	Size int64 // bytes
}

// Storage keeps objects. Names are parts of lower-case letters, digits, dots, dashes and
// underscores with slashes between, and no part begins with a dot.
type Storage interface {
	// Put makes the object, or replaces it, in one step: others, and who comes after a
	// crash, find all of content or what was there before. It is durable when Put
	// returns. Content is at most [MaxObject] bytes.
	Put(ctx context.Context, name string, content []byte) error
	// ReadAt reads as io.ReaderAt does. The error wraps fs.ErrNotExist if there is no
	// such object.
	ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error)
	// List returns the objects whose names begin with prefix, which is empty or ends with
	// a slash, by name. What was put before List began is in it.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes an object. One that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// MaxObject bounds the size of an object in bytes.
const MaxObject = 1 << 30

// Errors that would come again.
var (
	// ErrDenied is wrapped when the storage refuses.
	ErrDenied = errors.New("access is denied")
	// ErrNoBucket is wrapped when there is no such bucket.
	ErrNoBucket = errors.New("there is no such bucket")
)

// checkName returns an error unless name can be that of an object.
func checkName(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.ContainsFunc(part, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-_", r)
		}) {
			return fmt.Errorf("%q is no name of an object", name)
		}
	}
	return nil
}

func absent(name string) error { return fmt.Errorf("%s: %w", name, fs.ErrNotExist) }
