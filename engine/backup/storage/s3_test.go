// SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/backup/storage/s3test"
	"zumastor.org/zumastor/engine/backup/storage/storagetest"
)

func openS3(t *testing.T, address, prefix string) *storage.S3 {
	return openImpatient(t, address, prefix, 0)
}

func openImpatient(t *testing.T, address, prefix string, stall time.Duration) *storage.S3 {
	s, err := storage.OpenS3(storage.S3Place{
		Endpoint: address, Insecure: true, Region: s3test.Region, Bucket: s3test.Bucket, Prefix: prefix, Stall: stall,
	})
	require.NoError(t, err)
	return s
}

func TestS3(t *testing.T) {
	server := s3test.Start(t)
	n := 0
	storagetest.Run(t, func(t *testing.T) storage.Storage {
		n++
		return openS3(t, server.Address, fmt.Sprintf("test/%d/", n))
	})
	t.Run("wrong", func(t *testing.T) {
		missing, err := storage.OpenS3(storage.S3Place{Endpoint: server.Address, Insecure: true, Region: s3test.Region, Bucket: "none"})
		require.NoError(t, err)
		none := &storage.Retry{Storage: missing, Tries: 20, Wait: time.Millisecond} // the server may hang up before it was told all
		require.ErrorIs(t, none.Put(t.Context(), "x", nil), storage.ErrNoBucket)
		_, err = none.List(t.Context(), "")
		require.ErrorIs(t, err, storage.ErrNoBucket)
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		denied := &storage.Retry{Storage: openS3(t, server.Address, ""), Tries: 20, Wait: time.Millisecond}
		require.ErrorIs(t, denied.Put(t.Context(), "x", nil), storage.ErrDenied)
		_, err = denied.List(t.Context(), "")
		require.ErrorIs(t, err, storage.ErrDenied)
		_, err = denied.ReadAt(t.Context(), "x", make([]byte, 1), 0)
		require.ErrorIs(t, err, storage.ErrDenied)
	})
	t.Run("faults", func(t *testing.T) { s3Faults(t, server) })
}

// s3Faults: every fault of every request is an error, or does no harm; with tries, none
// of them is seen. A listing that is cut is never taken for a short one.
func s3Faults(t *testing.T, server *s3test.Server) {
	var next atomic.Int64 // the fault of the next request
	proxy := server.Proxy(t, func(*http.Request) s3test.Fault { return s3test.Fault(next.Swap(int64(s3test.None))) })
	s, impatient := openS3(t, proxy.Address, "faults/"), openImpatient(t, proxy.Address, "faults/", 200*time.Millisecond)
	content := bytes.Repeat([]byte("0123456789abcdef"), 10000)
	for i := range 20 {
		require.NoError(t, s.Put(t.Context(), fmt.Sprintf("data/%02d", i), content))
	}
	all, err := s.List(t.Context(), "data/")
	require.NoError(t, err)
	p := make([]byte, len(content))
	for f := s3test.Refuse; int(f) < s3test.Faults; f++ {
		next.Store(int64(f))
		n, err := impatient.ReadAt(t.Context(), "data/00", p, 0)
		require.True(t, f == s3test.Lose && n == len(p) || n == 0, "%d: %v", f, err) // what is lost so, net/http asks again
		require.True(t, (n == 0) == (err != nil), "%d: %v", f, err)
		require.NotErrorIs(t, err, io.EOF)
		next.Store(int64(f))
		list, err := impatient.List(t.Context(), "data/")
		require.True(t, err != nil || len(list) == len(all), "%d", f)
		require.True(t, err != nil || f == s3test.Lose, "%d", f)
		next.Store(int64(f))
		if err := impatient.Put(t.Context(), "points/x", content); err == nil {
			require.Equal(t, s3test.CutAnswer, f)
		}
		n, err = s.ReadAt(t.Context(), "points/x", make([]byte, len(content)+1), 0)
		require.ErrorContains(t, err, "", "%d", f)
		require.Contains(t, []int{0, len(content)}, n, "it is whole or not there")
		require.NoError(t, s.Delete(t.Context(), "points/x"))
	}
	next.Store(int64(s3test.None))
	rng := rand.New(rand.NewPCG(1, 1))
	random := server.Proxy(t, func(*http.Request) s3test.Fault {
		if rng.IntN(3) > 0 {
			return s3test.None
		}
		if f := s3test.Fault(rng.IntN(s3test.Faults)); f != s3test.Hang { // it would take long
			return f
		}
		return s3test.Fail
	})
	r := &storage.Retry{Storage: openS3(t, random.Address, "faults/"), Tries: 30, Wait: time.Microsecond}
	for i := range 8 {
		name := fmt.Sprintf("data/%02d", i)
		require.NoError(t, r.Put(t.Context(), name, content))
		n, err := r.ReadAt(t.Context(), name, p, 0)
		require.True(t, err == nil || err == io.EOF)
		require.True(t, bytes.Equal(content, p[:n]))
		list, err := r.List(t.Context(), "data/")
		require.NoError(t, err)
		require.Equal(t, all, list)
	}
	require.Positive(t, random.Failed(s3test.CutAnswer))
}
