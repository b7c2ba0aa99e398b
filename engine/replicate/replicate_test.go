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
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

const size, chunk = 48 * 4096, 4096

var sender = [16]byte{0xaa}

// content is a state of the sender's volume.
type content []byte

func (c content) Size() int64                             { return int64(len(c)) }
func (c content) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(c).ReadAt(p, off) }

// states are states of the sender's volume, one after another.
func states(n int) (list []content) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := make(content, size)
	for range n {
		for range 20 {
			off := rng.IntN(size/512) * 512
			for i := range c[off : off+512] {
				c[off+i] = byte(rng.Uint32())
			}
		}
		list = append(list, bytes.Clone(c))
	}
	return list
}

func copyOf(i int) replicate.Copy {
	return replicate.Copy{Store: layout.UUID(sender).String(), Generation: block.Generation(10 + i), Tag: block.Tag(i)}
}

func endOf(i int) delta.End {
	return delta.End{Identity: delta.Identity{Store: sender, Generation: block.Generation(10 + i)}, Tag: block.Tag(i), Size: size}
}

// offer offers state i.
func offer(list []content, i int) replicate.Offer {
	return replicate.Offer{To: copyOf(i), Size: size, Open: func(_ context.Context, base *replicate.Copy) (*replicate.Delta, error) {
		d := &replicate.Delta{
			Source: delta.Source{Target: list[i], Extents: []delta.Extent{{Offset: 0, Length: size}}},
			Options: delta.EncodeOptions{
				Header:  delta.Header{ChunkSize: chunk, Extent: 8 << 10, Codecs: []codec.ID{codec.Raw}, To: endOf(i)},
				Workers: 1,
				Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.Raw, codec.Options{}) },
			},
		}
		if base == nil {
			return d, nil
		}
		for j := range list {
			if copyOf(j) == *base {
				from := endOf(j)
				d.Options.From, d.Source.Base = &from, list[j]
				return d, nil
			}
		}
		return nil, replicate.ErrBase
	}}
}

// copyRig is an empty volume that takes snapshots.
func copyRig(t testing.TB) *rig.Rig {
	r, err := rig.New(rig.Options{
		OriginSize: size, StoreSize: 16 << 20, ChunkSize: chunk, Placement: layout.PlacementInline, CacheBytes: 1 << 20, AheadBytes: -1,
	}, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Abandon() })
	return r
}

func receiverOf(r *rig.Rig) *replicate.Receiver {
	return &replicate.Receiver{Full: true, Open: func(context.Context) (replica.Volume, func() error, error) {
		return replica.Volume{
			Manager: admin.Local{Store: r.Server}, Origin: replica.OnDevice(r.Volume),
			Open: func(s admin.Snapshot) (delta.Content, io.Closer, error) {
				v, err := volume.OpenSnapshot(r.Source(), s.Tag)
				return v, v, err
			},
		}, func() error { return nil }, nil
	}}
}

// session connects a sender with a receiver. Cut, if not nil, wraps the sender's end.
func session(t testing.TB, r *replicate.Receiver, o replicate.Offer, cut func(net.Conn) net.Conn) (sent replicate.Sent, got replicate.Received, sendErr, gotErr error) {
	return sessionOf(t, r, o, cut, nil)
}

// sessionOf may wrap both ends.
func sessionOf(t testing.TB, r *replicate.Receiver, o replicate.Offer, cutSender, cutReceiver func(net.Conn) net.Conn) (sent replicate.Sent, got replicate.Received, sendErr, gotErr error) {
	a, b := net.Pipe()
	if cutSender != nil {
		a = cutSender(a)
	}
	if cutReceiver != nil {
		b = cutReceiver(b)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, gotErr = r.Serve(t.Context(), b)
	}()
	sent, sendErr = replicate.Send(t.Context(), a, o, replicate.SendOptions{})
	<-done
	return sent, got, sendErr, gotErr
}

func same(t testing.TB, r *rig.Rig, list []content, i int) {
	p, err := r.ReadOrigin()
	require.NoError(t, err)
	require.True(t, bytes.Equal(list[i], p))
	p, err = r.ReadSnapshot(block.Tag(i), 0, size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(list[i], p))
}

func TestChain(t *testing.T) {
	r, list := copyRig(t), states(3)
	rec := receiverOf(r)
	for i := range list {
		sent, got, err, gotErr := session(t, rec, offer(list, i), nil)
		require.NoError(t, errors.Join(err, gotErr))
		require.Equal(t, i == 0, sent.Base == nil)
		require.Equal(t, copyOf(i), got.Snapshot)
		same(t, r, list, i)
		sent, got, err, gotErr = session(t, rec, offer(list, i), nil)
		require.NoError(t, errors.Join(err, gotErr))
		require.True(t, sent.There && got.There, "once more is nothing more")
	}
}

// cutter fails after so many bytes were written.
type cutter struct {
	net.Conn
	left *int
}

func (c cutter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(len(p), *c.left)])
	*c.left -= n
	if err == nil && n < len(p) {
		_ = c.Close()
		return n, io.ErrClosedPipe
	}
	return n, err
}

// TestCuts cuts the connection after every so many bytes, until the copy is complete.
func TestCuts(t *testing.T) {
	list := states(2)
	for _, n := range []int{10000, 13000, 17000} {
		r := copyRig(t)
		rec := receiverOf(r)
		for i := range list {
			var start int64
			for sessions := 0; ; sessions++ {
				left := n
				sent, got, err, gotErr := session(t, rec, offer(list, i), func(c net.Conn) net.Conn { return cutter{c, &left} })
				require.GreaterOrEqual(t, sent.Start, start, "what the receiver had it is not sent again")
				if err == nil {
					require.NoError(t, gotErr)
					break
				}
				require.ErrorIs(t, err, replicate.ErrConnection)
				require.ErrorIs(t, gotErr, replicate.ErrConnection)
				start = max(start, got.Applied)
				require.Less(t, sessions, 100)
			}
			same(t, r, list, i)
		}
	}
}

func TestRefusals(t *testing.T) {
	r, list := copyRig(t), states(3)
	rec := receiverOf(r)
	refused := func(rec *replicate.Receiver, o replicate.Offer, code string, is error) {
		_, _, err, gotErr := session(t, rec, o, nil)
		var why *replicate.Refusal
		require.ErrorAs(t, err, &why)
		require.Equal(t, code, why.Code)
		require.ErrorIs(t, gotErr, is)
	}
	rec.Full = false
	refused(rec, offer(list, 0), replicate.CodeFull, replicate.ErrFull)
	rec.Full = true
	_, _, err, _ := session(t, rec, offer(list, 1), nil)
	require.NoError(t, err)
	_, err = r.Volume.WriteAt(bytes.Repeat([]byte{7}, 512), 512)
	require.NoError(t, err)
	refused(rec, offer(list, 2), replicate.CodeError, replica.ErrChanged)

	stranger := offer(list, 2)
	stranger.Open = func(context.Context, *replicate.Copy) (*replicate.Delta, error) { return nil, replicate.ErrBase }
	_, _, err, gotErr := session(t, rec, stranger, nil)
	require.ErrorIs(t, err, replicate.ErrBase)
	var why *replicate.Refusal
	require.ErrorAs(t, gotErr, &why)

	larger := offer(list, 2)
	larger.Size += chunk
	_, _, err, _ = session(t, rec, larger, nil)
	require.ErrorIs(t, err, store.ErrSize)

	liar := offer(list, 2)
	liar.To.Generation = 77
	refused(rec, liar, replicate.CodeError, replicate.ErrProtocol)
}

// TestBusy: a copy receives from one at a time.
func TestBusy(t *testing.T) {
	r, list := copyRig(t), states(1)
	rec := receiverOf(r)
	slow := offer(list, 0)
	open := slow.Open
	slow.Open = func(ctx context.Context, base *replicate.Copy) (*replicate.Delta, error) {
		_, _, err, gotErr := session(t, rec, offer(list, 0), nil)
		var why *replicate.Refusal
		require.ErrorAs(t, err, &why)
		require.Equal(t, replicate.CodeBusy, why.Code)
		require.ErrorIs(t, gotErr, replicate.ErrBusy)
		return open(ctx, base)
	}
	_, _, err, gotErr := session(t, rec, slow, nil)
	require.NoError(t, errors.Join(err, gotErr))
	same(t, r, list, 0)
}

// framed fails with its n-th write, of which half may be written before.
type framed struct {
	net.Conn
	left *int
	half bool
}

func (f framed) Write(p []byte) (int, error) {
	if *f.left--; *f.left >= 0 {
		return f.Conn.Write(p)
	}
	n := 0
	if f.half {
		n, _ = f.Conn.Write(p[:len(p)/2])
	}
	_ = f.Conn.Close()
	return n, io.ErrClosedPipe
}

// TestCutAtEveryFrame cuts a session once, at or within each frame of either side; the
// next one ends it, and carries nothing again that had arrived.
func TestCutAtEveryFrame(t *testing.T) {
	list := states(2)
	for side := range 4 {
		for frame, over := 0, false; !over; frame++ {
			r := copyRig(t)
			rec := receiverOf(r)
			_, _, err, gotErr := session(t, rec, offer(list, 0), nil)
			require.NoError(t, errors.Join(err, gotErr))
			left := frame
			wrap := func(c net.Conn) net.Conn { return framed{c, &left, side%2 == 1} }
			var got replicate.Received
			if side < 2 {
				_, got, err, gotErr = session(t, rec, offer(list, 1), wrap)
			} else {
				_, got, err, gotErr = sessionOf(t, rec, offer(list, 1), nil, wrap)
			}
			over = left >= 0
			if over {
				require.NoError(t, errors.Join(err, gotErr))
			}
			sent, _, err, gotErr := session(t, rec, offer(list, 1), nil)
			require.NoError(t, errors.Join(err, gotErr))
			require.True(t, sent.There || sent.Start >= got.Applied, "frame %d: %d again of %d", frame, sent.Start, got.Applied)
			same(t, r, list, 1)
			r.Abandon()
		}
	}
}
