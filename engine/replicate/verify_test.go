// SPDX-License-Identifier: Apache-2.0

package replicate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replicate"
)

// verifySize is of some leaves of a digest, the last of them not whole.
const verifySize = 9<<20 + 3*chunk

// sums is a digest's tree in memory.
type sums map[digest.Node]digest.Sum

// Children implements digest.Base.
func (s sums) Children(n digest.Node, to *[digest.Fanout]digest.Sum) error {
	for i := range to {
		child, ok := s[n.Child(i)]
		if !ok {
			child = digest.Zero(n.Level - 1)
		}
		to[i] = child
	}
	return nil
}

// original is a snapshot of that content.
func original(t *testing.T, c content) replicate.Original {
	tree := sums{}
	u := digest.NewUpdate(digest.Nothing{}, func(n digest.Node, s digest.Sum) error {
		tree[n] = s
		return nil
	})
	for off := 0; off < len(c); off += digest.LeafSize {
		require.NoError(t, u.Leaf(uint64(off/digest.LeafSize), digest.OfLeaf(c[off:min(off+digest.LeafSize, len(c))])))
	}
	top, err := u.Top()
	require.NoError(t, err)
	return replicate.Original{To: copyOf(1), Size: c.Size(), Chunk: chunk, Content: c, Digest: digest.Of(c.Size(), top), Tree: digest.TreeOf(tree)}
}

// copied is a volume that has that content as its copy 1.
func copied(t *testing.T, c content) *rig.Rig {
	r, err := rig.New(rig.Options{
		OriginSize: c.Size(), StoreSize: 16 << 20, ChunkSize: chunk, Placement: layout.PlacementInline, CacheBytes: 1 << 20, AheadBytes: -1,
	}, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Abandon() })
	_, err = r.Volume.WriteAt(c, 0)
	require.NoError(t, err)
	is := copyOf(1)
	_, err = admin.Local{Store: r.Server}.Do(t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{
		Tag: 77, Source: &admin.Source{Store: is.Store, Generation: is.Generation},
	}})
	require.NoError(t, err)
	return r
}

// verified compares, and returns what differs.
func verified(t *testing.T, r *rig.Rig, o replicate.Original) (v replicate.Verified, differs []delta.Extent, err error) {
	a, b := net.Pipe()
	served := make(chan error, 1)
	go func() {
		_, err := receiverOf(r).Serve(t.Context(), b)
		served <- err
	}()
	v, err = replicate.Verify(t.Context(), a, o, replicate.VerifyOptions{Differs: func(x delta.Extent) error {
		differs = append(differs, x)
		return nil
	}})
	if gotErr := <-served; err == nil {
		require.NoError(t, gotErr)
	}
	return v, differs, err
}

// differences are the chunks that differ, neighbours joined.
func differences(a, b content) (list []delta.Extent, bytesOf int64) {
	for off := int64(0); off < a.Size(); off += chunk {
		end := min(off+chunk, a.Size())
		if bytes.Equal(a[off:end], b[off:end]) {
			continue
		}
		bytesOf += end - off
		if n := len(list) - 1; n >= 0 && list[n].Offset+list[n].Length == off {
			list[n].Length += end - off
		} else {
			list = append(list, delta.Extent{Offset: off, Length: end - off})
		}
	}
	return list, bytesOf
}

// TestVerifyFindsWhatDiffers: by digests and by content, it finds the chunks that differ
// and no others, and by digests it exchanges bytes in proportion to them.
func TestVerifyFindsWhatDiffers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	there := make(content, verifySize)
	for i := range there[:6<<20] {
		there[i] = byte(rng.Uint32())
	}
	r := copied(t, there)
	for _, n := range []int{0, 1, 2, 30} {
		here := bytes.Clone(there)
		for range n {
			here[rng.IntN(verifySize)]++
		}
		if n == 2 { // across leaves, and at the end
			copy(here[2<<20-chunk:2<<20+chunk], bytes.Repeat([]byte{7}, 2*chunk))
			here[verifySize-1]++
		}
		want, bytesOf := differences(here, there)
		o := original(t, here)
		got, differs, err := verified(t, r, o)
		require.NoError(t, err)
		require.Equal(t, want, differs)
		require.Equal(t, bytesOf, got.Differing)
		require.Equal(t, n == 0, got.Digest == o.Digest)
		// The path of five nodes, and 28 bytes for each chunk of a leaf.
		require.LessOrEqual(t, got.Exchanged, int64(min(n, 1)*5*8300+(len(differs)+1)*7300))

		o.Tree, o.Digest = nil, digest.Sum{}
		got, differs, err = verified(t, r, o)
		require.NoError(t, err)
		require.Equal(t, want, differs)
		require.Equal(t, bytesOf, got.Differing)
		require.Zero(t, got.Digest)
	}
}

// TestVerifyRefuses: what cannot be compared is said.
func TestVerifyRefuses(t *testing.T) {
	there := bytes.Repeat([]byte{1}, 1<<20)
	r := copied(t, there)
	o := original(t, there)
	o.To = copyOf(2)
	_, _, err := verified(t, r, o)
	refused, ok := errors.AsType[*replicate.Refusal](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, replicate.CodeAbsent, refused.Code)

	o = original(t, there[:1<<19])
	_, _, err = verified(t, r, o)
	require.ErrorContains(t, err, "the copy has 1048576 bytes, and the snapshot 524288")

	o = original(t, bytes.Repeat([]byte{2}, 1<<20))
	o.Content = content(there) // and so its digest is not that of it
	_, _, err = verified(t, r, o)
	require.ErrorIs(t, err, replicate.ErrDigest)

	o = original(t, bytes.Repeat([]byte{2}, 1<<20))
	a, b := net.Pipe()
	go func() { _, _ = receiverOf(r).Serve(t.Context(), cutAfter{b, 150}) }()
	_, err = replicate.Verify(t.Context(), a, o, replicate.VerifyOptions{})
	require.ErrorIs(t, err, replicate.ErrConnection)

	ctx, cancel := context.WithCancel(t.Context())
	a, b = net.Pipe()
	t.Cleanup(func() { _ = b.Close() })
	cancel()
	_, err = replicate.Verify(ctx, a, o, replicate.VerifyOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// cutAfter is a connection that ends with a write of more than some bytes.
type cutAfter struct {
	net.Conn
	most int
}

// Write implements io.Writer.
func (c cutAfter) Write(p []byte) (int, error) {
	if c.most < len(p) {
		_ = c.Conn.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}
