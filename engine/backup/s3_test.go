// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/backup/storage/s3test"
)

// TestS3History: in a bucket of a real server, over a line on which every eighth request
// fails in one way or another, a history is added, read, pruned and checked as anywhere.
func TestS3History(t *testing.T) {
	server := s3test.Start(t)
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	proxy := server.Proxy(t, func(*http.Request) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		f := s3test.Fault(rng.IntN(s3test.Faults))
		if rng.IntN(8) > 0 || f == s3test.Hang || f == s3test.CutBody { // which take their time
			return s3test.None
		}
		return f
	})
	s3, err := storage.OpenS3(storage.S3Place{Endpoint: proxy.Address, Insecure: true, Region: s3test.Region, Bucket: s3test.Bucket, Prefix: "some/"})
	require.NoError(t, err)
	s := &storage.Retry{Storage: s3, Tries: 30, Wait: time.Microsecond}
	h := newHistory(t, newRepository(t, s, &seal.Key{5}), 6)
	h.grow(5)
	require.Len(t, h.verify(), 5)
	res, err := h.r.Prune(t.Context(), pruneOptions(Retention{Last: 2}, RewriteAll))
	require.NoError(t, err)
	require.Len(t, res.Points, 5)
	require.Equal(t, h.order[3:], h.verify())
	require.Zero(t, h.check().Garbage)
	require.Positive(t, proxy.Failed(s3test.Refuse)+proxy.Failed(s3test.Fail)+proxy.Failed(s3test.Lose))
}
