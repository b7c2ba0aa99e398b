// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"zumastor.org/zumastor/engine/backup/storage"
)

// Open opens the place where trials are collected: a directory that exists, or a bucket
// as [storage.ParseS3] reads it, with the credentials of the environment.
func Open(place string) (storage.Storage, error) {
	if !storage.IsS3(place) {
		d, err := storage.OpenDir(place)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: make it before trials are collected there: a shared directory that is not mounted would look the same", err)
		}
		return d, err
	}
	where, err := storage.ParseS3(place)
	if err != nil {
		return nil, err
	}
	s, err := storage.OpenS3(where)
	if err != nil {
		return nil, err
	}
	return &storage.Retry{Storage: s, Tries: storage.DefaultTries, Wait: storage.DefaultWait}, nil
}

// FullPlace returns the place with the endpoint that the environment names for it, so that
// it means the same on other machines.
func FullPlace(place string) (string, error) {
	if !storage.IsS3(place) {
		return place, nil
	}
	p, err := storage.ParseS3(place)
	if err != nil {
		return "", err
	}
	scheme := "https"
	if p.Insecure {
		scheme = "http"
	}
	return strings.TrimSuffix(fmt.Sprintf("s3:%s://%s/%s/%s", scheme, p.Endpoint, p.Bucket, p.Prefix), "/"), nil
}

// readAll returns a whole object; an error wraps fs.ErrNotExist if there is none.
func readAll(ctx context.Context, s storage.Storage, name string) ([]byte, error) {
	const step = 1 << 20
	var all []byte
	for len(all) <= maxObject {
		p := make([]byte, step)
		n, err := s.ReadAt(ctx, name, p, int64(len(all)))
		all = append(all, p[:n]...)
		if errors.Is(err, io.EOF) || err == nil && n < step {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w: it is larger than %d bytes", name, ErrCorrupt, maxObject)
}
