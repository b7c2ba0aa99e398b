// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/backup/storage/storagetest"
)

func TestMemory(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Storage { return storage.NewMemory() })
}

func TestDir(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage { return openDir(t, t.TempDir()) })
}

func TestRetryPasses(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Storage { return &storage.Retry{Storage: storage.NewMemory(), Tries: 3} })
}

func openDir(t *testing.T, root string) *storage.Dir {
	d, err := storage.OpenDir(root)
	require.NoError(t, err)
	return d
}

// TestDirLeftovers: what a kill left of an object that was being put is listed and can be
// removed; it is no object.
func TestDirLeftovers(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	require.NoError(t, d.Put(t.Context(), "points/1", nil))
	require.NoError(t, os.WriteFile(filepath.Join(root, "tmp", "put-123"), []byte("half"), 0o600))
	list, err := d.List(t.Context(), storage.TempPrefix)
	require.NoError(t, err)
	require.Equal(t, []storage.Object{{Name: "tmp/put-123", Size: 4}}, list)
	require.NoError(t, d.Delete(t.Context(), "tmp/put-123"))
	list, err = d.List(t.Context(), storage.TempPrefix)
	require.NoError(t, err)
	require.Empty(t, list)
	require.Error(t, d.Delete(t.Context(), "../x"))
}

func TestOpenDirWrong(t *testing.T) {
	_, err := storage.OpenDir(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = storage.OpenDir(file)
	require.ErrorIs(t, err, fs.ErrInvalid)
	root := t.TempDir()
	d := openDir(t, root)
	require.NoError(t, os.RemoveAll(root))
	_, err = d.List(t.Context(), "points/")
	require.ErrorIs(t, err, fs.ErrNotExist, "it is not without objects: it is gone")
	require.ErrorIs(t, d.Put(t.Context(), "x", nil), fs.ErrNotExist)
}

// failing fails the first operations.
type failing struct {
	storage.Storage
	left int
	err  error
}

func (f *failing) List(ctx context.Context, prefix string) ([]storage.Object, error) {
	if f.left--; f.left >= 0 {
		return nil, f.err
	}
	return f.Storage.List(ctx, prefix)
}

func TestRetry(t *testing.T) {
	var slept []time.Duration
	try := func(ctx context.Context, failures int, err error) error {
		slept = nil
		r := &storage.Retry{Storage: &failing{storage.NewMemory(), failures, err}, Tries: 4, Wait: time.Second,
			Sleep: func(_ context.Context, d time.Duration) { slept = append(slept, d) }}
		_, err = r.List(ctx, "")
		return err
	}
	broken := errors.New("broken")
	require.NoError(t, try(t.Context(), 3, broken))
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, slept)
	require.ErrorIs(t, try(t.Context(), 4, broken), broken)
	require.ErrorIs(t, try(t.Context(), 1, storage.ErrDenied), storage.ErrDenied)
	require.Empty(t, slept, "it would be denied again")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, try(ctx, 2, broken), context.Canceled)
	require.Empty(t, slept)
}

func TestParseS3(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "")
	t.Setenv("AWS_REGION", "")
	for text, want := range map[string]storage.S3Place{
		"s3://bucket":                       {Endpoint: "s3.amazonaws.com", Bucket: "bucket"},
		"s3://bucket/a/b/":                  {Endpoint: "s3.amazonaws.com", Bucket: "bucket", Prefix: "a/b/"},
		"s3:https://host:9000/bucket":       {Endpoint: "host:9000", Bucket: "bucket"},
		"s3:http://127.0.0.1:1/bucket/some": {Endpoint: "127.0.0.1:1", Insecure: true, Bucket: "bucket", Prefix: "some/"},
	} {
		got, err := storage.ParseS3(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		require.True(t, storage.IsS3(text))
	}
	for _, text := range []string{"s3:", "s3://", "s3:bucket", "s3:https://host", "s3:ftp://host/b", "s3:https://u:p@host/b", "s3://b/../c", "s3://b/a?x=1"} {
		_, err := storage.ParseS3(text)
		require.Error(t, err, text)
	}
	t.Setenv("AWS_ENDPOINT_URL", "http://localhost:7070/")
	got, err := storage.ParseS3("s3://bucket/x")
	require.NoError(t, err)
	require.Equal(t, storage.S3Place{Endpoint: "localhost:7070", Insecure: true, Bucket: "bucket", Prefix: "x/"}, got)
	require.False(t, storage.IsS3("/srv/backup"))
}
