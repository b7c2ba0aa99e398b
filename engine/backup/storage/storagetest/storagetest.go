// SPDX-License-Identifier: Apache-2.0

// Package storagetest is the conformance suite of storages.
//
// It owns what every storage.Storage must do; it does not own how a storage is made or
// made to fail. Tests of storages call [Run], with a storage of their own.
package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
)

// Run tests a storage, which begins empty. New returns one whenever it is called.
func Run(t *testing.T, open func(t *testing.T) storage.Storage) {
	for name, test := range map[string]func(*testing.T, storage.Storage){
		"put and read": putAndRead, "absent": absent, "list": list, "replace": replace, "names": names,
		"concurrent": concurrent, "ended": ended,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func putAndRead(t *testing.T, s storage.Storage) {
	for _, n := range []int{0, 1, 5000, 3 << 20} {
		name, content := fmt.Sprintf("data/some/%d", n), bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
		require.NoError(t, s.Put(t.Context(), name, content))
		p := make([]byte, n+10)
		got, err := s.ReadAt(t.Context(), name, p, 0)
		require.ErrorIs(t, err, io.EOF)
		require.True(t, bytes.Equal(content, p[:got]), "%d bytes", n)
		if n < 100 {
			continue
		}
		got, err = s.ReadAt(t.Context(), name, p[:100], int64(n)-100)
		require.True(t, err == nil || err == io.EOF)
		require.Equal(t, content[n-100:], p[:got])
		got, err = s.ReadAt(t.Context(), name, p[:100], int64(n)-50)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, content[n-50:], p[:got])
		got, err = s.ReadAt(t.Context(), name, p[:100], int64(n))
		require.ErrorIs(t, err, io.EOF)
		require.Zero(t, got)
	}
}

func absent(t *testing.T, s storage.Storage) {
	_, err := s.ReadAt(t.Context(), "data/none", make([]byte, 10), 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, io.EOF)
	require.NoError(t, s.Delete(t.Context(), "data/none"))
	require.NoError(t, s.Put(t.Context(), "data/x", []byte("x")))
	require.NoError(t, s.Delete(t.Context(), "data/x"))
	_, err = s.ReadAt(t.Context(), "data/x", make([]byte, 10), 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, s.Put(t.Context(), "data/x", []byte("y")), "its directory may have gone")
}

func list(t *testing.T, s storage.Storage) {
	all, err := s.List(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, all)
	for i, name := range []string{"config", "data/b/1", "data/b/0", "data/a/0", "data-other/x", "points/1"} {
		require.NoError(t, s.Put(t.Context(), name, make([]byte, i)))
	}
	all, err = s.List(t.Context(), "data/")
	require.NoError(t, err)
	require.Equal(t, []storage.Object{{Name: "data/a/0", Size: 3}, {Name: "data/b/0", Size: 2}, {Name: "data/b/1", Size: 1}}, all)
	all, err = s.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, all, 6)
	all, err = s.List(t.Context(), "nothing/")
	require.NoError(t, err)
	require.Empty(t, all)
}

func replace(t *testing.T, s storage.Storage) {
	require.NoError(t, s.Put(t.Context(), "points/1", []byte("the first, longer one")))
	require.NoError(t, s.Put(t.Context(), "points/1", []byte("the second")))
	p := make([]byte, 100)
	n, err := s.ReadAt(t.Context(), "points/1", p, 0)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "the second", string(p[:n]))
}

func names(t *testing.T, s storage.Storage) {
	for _, name := range []string{"", "/", "/x", "x/", "a//b", "..", "a/../b", "a/.hidden", "Upper", "a b", "ü"} {
		require.Error(t, s.Put(t.Context(), name, nil), "%q", name)
		_, err := s.List(t.Context(), "")
		require.NoError(t, err)
	}
}

// concurrent: who reads while others put finds one of what was put, and all of it.
func concurrent(t *testing.T, s storage.Storage) {
	const size = 20000
	put := func(b byte) error { return s.Put(t.Context(), "points/1", bytes.Repeat([]byte{b}, size)) }
	require.NoError(t, put(1))
	var all sync.WaitGroup
	errs := make(chan error, 100)
	for w := range byte(3) {
		all.Go(func() {
			for i := range byte(10) {
				errs <- put(w*10 + i + 2)
			}
		})
	}
	for range 20 {
		p := make([]byte, size+1)
		n, err := s.ReadAt(t.Context(), "points/1", p, 0)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, bytes.Repeat(p[:1], size), p[:n])
	}
	all.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	all2, err := s.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, all2, 1, "nothing is left of the others")
}

func ended(t *testing.T, s storage.Storage) {
	enough := fmt.Errorf("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	require.ErrorIs(t, s.Put(ctx, "x", nil), enough)
	_, err := s.ReadAt(ctx, "x", make([]byte, 1), 0)
	require.ErrorIs(t, err, enough)
	_, err = s.List(ctx, "")
	require.ErrorIs(t, err, enough)
	require.ErrorIs(t, s.Delete(ctx, "x"), enough)
}
