// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
)

// TestBytesAgreeWithTheEngine has a volume on a loop device copy out chunks, and
// compares the bytes that the block layer saw with what the engine says that it did.
func TestBytesAgreeWithTheEngine(t *testing.T) {
	const origin, chunk, chunks, page = 64 << 20, 64 << 10, 512, 4096
	name := loop(t, 224<<20)
	dev := mustFind(t, name)
	bed, err := stack.Open(stack.Options{Device: name}, stack.Size{Origin: origin, Stores: 128 << 20})
	require.NoError(t, err)
	defer func() { require.NoError(t, bed.Close()) }()
	st, err := bed.Build(stack.Config{Variant: "inline", ChunkSize: chunk, Origin: origin, Share: stack.Share{Of: 1}, StoreSize: 128 << 20})
	require.NoError(t, err)
	defer func() { require.NoError(t, st.Close()) }()
	require.NoError(t, st.Snapshot(1))
	require.NoError(t, st.Checkpoint())

	s := attach(t, Options{Block: true, Devices: []Device{dev}, Process: os.Getpid()})
	before, err := s.Read()
	require.NoError(t, err)
	was := st.Status()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			p := device.Buffer(chunk)
			for i := w; i < chunks; i += 8 {
				if _, err := st.Device().WriteAt(p, int64(i)*chunk); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, st.Checkpoint())
	is := st.Status()
	r, err := s.Read()
	require.NoError(t, err)
	r = r.Since(before)
	require.Zero(t, r.Lost)

	copies, batches := is.Copies-was.Copies, is.Batches-was.Batches
	require.GreaterOrEqual(t, copies, uint64(chunks), "and some ahead of the writers")
	if len(s.Notices) > 0 {
		t.Skip(s.Notices)
	}
	require.Equal(t, copies, r.Find("stage", "", "commit", "chunks").Sum, "the marks tell the same")
	require.Equal(t, batches, r.Find("stage", "", "commit", "latency").Count)

	bytes := func(kinds ...string) (n uint64) {
		for _, kind := range kinds {
			h := r.Find("block", dev.String(), kind, "size")
			n += h.Sum
		}
		return n
	}
	// Each copy is read once, written once with a descriptor a batch; then the write itself.
	require.InEpsilon(t, copies*chunk, bytes("read"), 0.01)
	pages := r.Find("stage", "", "checkpoint", "pages")
	require.InEpsilon(t, copies*chunk+batches*page+pages.Sum*page+chunks*chunk, bytes("write", "fua"), 0.01)
}
