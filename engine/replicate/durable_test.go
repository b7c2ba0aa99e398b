// SPDX-License-Identifier: Apache-2.0

package replicate_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/replicate"
)

// standingOf returns how far a copy says to be on the way to a state.
func standingOf(t testing.TB, rec *replicate.Receiver, i int) replica.Standing {
	v, done, err := rec.Open(t.Context())
	require.NoError(t, err)
	st, err := v.Standing(t.Context(), admin.Source{Store: copyOf(i).Store, Generation: copyOf(i).Generation})
	require.NoError(t, errors.Join(err, done()))
	return st
}

// writes tells of what was written to the origin.
type writes struct {
	delta.Receiver
	wrote func(end int64)
}

func (w writes) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.Receiver.WriteAt(p, off)
	w.wrote(off + int64(n))
	return n, err
}

// TestPowerCutsBetweenNotes cuts the receiver's power at every flush, and at some writes.
// What the store says of how far the copy is holds then, however the cut left it; the next
// session begins there, and carries no more than one record again; and what is given up is
// not said any more.
func TestPowerCutsBetweenNotes(t *testing.T) {
	r, list := copyRig(t), states(2)
	rec := receiverOf(r)
	_, _, err, gotErr := session(t, rec, offer(list, 0), nil)
	require.NoError(t, errors.Join(err, gotErr))

	ends := []int64{0, 0} // of records that the copy has whole
	open := rec.Open
	rec.FlushEvery = 1
	rec.Open = func(ctx context.Context) (replica.Volume, func() error, error) {
		v, done, err := open(ctx)
		v.Origin = writes{v.Origin, func(end int64) { ends = append(ends, end) }}
		return v, done, err
	}
	rng := rand.New(rand.NewPCG(7, 9))
	cuts, noted := 0, map[int64]bool{}
	r.Machine.SetHook(func(e memdev.Event) {
		if e.Kind == memdev.Wrote && rng.IntN(32) > 0 {
			return
		}
		cuts++
		left := r.Crash(rng, memdev.RandomFate(rng))
		defer left.Abandon()
		require.NoError(t, left.Open())
		rec := receiverOf(left)
		st := standingOf(t, rec, 1)
		noted[st.Applied] = true
		origin, err := left.ReadOrigin()
		require.NoError(t, err)
		require.True(t, bytes.Equal(list[1][:st.Applied], origin[:st.Applied]), "%d bytes are said to be there", st.Applied)
		if !st.There {
			require.GreaterOrEqual(t, st.Applied, ends[len(ends)-2], "no more than one record is lost")
		}
		if cuts%3 > 0 {
			return // the rest takes long
		}
		if cuts%2 == 0 && st.Applying != "" && !st.There {
			_, err := replica.Abandon(t.Context(), admin.Local{Store: left.Server})
			require.NoError(t, err)
			require.NoError(t, left.Volume.Restore(t.Context()))
			require.Zero(t, standingOf(t, rec, 1).Applied)
		}
		sent, _, err, gotErr := session(t, rec, offer(list, 1), nil)
		require.NoError(t, errors.Join(err, gotErr))
		require.True(t, sent.There || sent.Start >= standingOf(t, rec, 1).Applied)
		same(t, left, list, 1)
	})
	_, _, err, gotErr = session(t, rec, offer(list, 1), nil)
	require.NoError(t, errors.Join(err, gotErr))
	r.Machine.SetHook(nil)
	require.Greater(t, cuts, 30)
	for _, end := range ends {
		require.True(t, noted[end], "it was cut after the note of the record that ends at %d", end)
	}
	same(t, r, list, 1)
}

// Of a volume of several pieces.
const large = 6 << 20

// largeOffer offers one of two states, which differ everywhere.
func largeOffer(list []content, i int) replicate.Offer {
	return replicate.Offer{To: copyOf(i), Size: large, Open: func(_ context.Context, base *replicate.Copy) (*replicate.Delta, error) {
		to, from := endOf(i), endOf(0)
		to.Size, from.Size = large, large
		d := &replicate.Delta{
			Source: delta.Source{Target: list[i], Extents: []delta.Extent{{Length: large}}},
			Options: delta.EncodeOptions{
				Header: delta.Header{ChunkSize: chunk, Extent: 64 << 10, Codecs: []codec.ID{codec.Raw}, To: to}, Workers: 1,
				Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.Raw, codec.Options{}) },
			},
		}
		if base != nil {
			d.Options.From, d.Source.Base = &from, list[0]
		}
		return d, nil
	}}
}

// largeCopy returns a copy of the first of two states, and both.
func largeCopy(t *testing.T) (*rig.Rig, []content) {
	r, err := rig.New(rig.Options{
		OriginSize: large, StoreSize: 24 << 20, ChunkSize: chunk, Placement: layout.PlacementInline, CacheBytes: 1 << 20, AheadBytes: -1,
	}, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Abandon() })
	list := []content{make(content, large), make(content, large)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(list[0])
	_, _ = rand.NewChaCha8([32]byte{2}).Read(list[1])
	_, _, err, gotErr := session(t, receiverOf(r), largeOffer(list, 0), nil)
	require.NoError(t, errors.Join(err, gotErr))
	return r, list
}

// asked counts the bytes that a sender asks the sums of.
type asked struct {
	net.Conn
	bytes *int64
}

func (a asked) Write(p []byte) (int, error) {
	const probe, header, each = 4, 12, 28
	if p[0] == probe {
		for b := p[header:]; len(b) > 0; b = b[each:] {
			*a.bytes += int64(binary.LittleEndian.Uint32(b[8:]))
		}
	}
	return a.Conn.Write(p)
}

// lateKill has a first session cut near its end, and returns where that was.
func lateKill(t *testing.T, rec *replicate.Receiver, list []content) int64 {
	left := 5 << 20
	_, got, err, gotErr := session(t, rec, largeOffer(list, 1), func(c net.Conn) net.Conn { return cutter{c, &left} })
	require.ErrorIs(t, err, replicate.ErrConnection)
	require.ErrorIs(t, gotErr, replicate.ErrConnection)
	require.Greater(t, got.Applied, int64(4<<20))
	return got.Applied
}

// TestKilledReceiverKnows: a receiver without memory goes on where its store says, and
// both sides read next to nothing to make sure of it. What the store says wrongly, or does
// not say, costs sums, and no content.
func TestKilledReceiverKnows(t *testing.T) {
	for name, c := range map[string]struct {
		note func(applied int64) int64 // zero: none
		few  bool                      // sums suffice
	}{
		"the store knows":            {func(n int64) int64 { return n }, true},
		"it says less than there is": {func(n int64) int64 { return n - 256<<10 }, true},
		"it knows nothing":           {func(int64) int64 { return 0 }, false},
		"it is wrong":                {func(int64) int64 { return 11 << 19 }, false},
		"it says all":                {func(int64) int64 { return large }, false},
		"it is no multiple":          {func(n int64) int64 { return n - 77 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, list := largeCopy(t)
			applied := lateKill(t, receiverOf(r), list)
			st := standingOf(t, receiverOf(r), 1)
			require.Equal(t, applied, st.Applied)
			note(t, r, st, c.note(applied))

			var sums int64
			sent, _, err, gotErr := session(t, receiverOf(r), largeOffer(list, 1), func(c net.Conn) net.Conn { return asked{c, &sums} })
			require.NoError(t, errors.Join(err, gotErr))
			require.GreaterOrEqual(t, sent.Start, applied)
			require.Equal(t, c.few, sums <= 3<<20, "%d bytes were read", sums)
			origin, err := r.ReadOrigin()
			require.NoError(t, err)
			require.True(t, bytes.Equal(list[1], origin))
			require.Zero(t, standingOf(t, receiverOf(r), 1).Applied)
		})
	}
}

// note has the store say that the copy is up to an offset on its way.
func note(t *testing.T, r *rig.Rig, st replica.Standing, applied int64) {
	change := func(c *admin.Change) error {
		_, err := admin.Local{Store: r.Server}.Do(t.Context(), admin.Request{Verb: admin.VerbChange, Snapshot: &admin.Ref{Tag: block.Tag(0)}, Change: c})
		return err
	}
	require.NoError(t, change(&admin.Change{Applying: &st.Applying, Applied: applied}))
	other := layout.UUID{1}.String()
	for _, c := range []*admin.Change{{Applied: 1}, {Applying: &other, Applied: 1}, {Applying: &st.Applying, Applied: large + 1}, {Applying: &st.Applying, Applied: -1}} {
		require.ErrorIs(t, change(c), admin.ErrRequest)
	}
}

// deaf is the manager of a server that is older than notes of how far a copy is.
type deaf struct{ admin.Manager }

func (d deaf) Do(ctx context.Context, r admin.Request) (admin.Response, error) {
	if r.Change != nil && r.Change.Applied != 0 {
		return admin.Response{}, admin.ErrRequest
	}
	return d.Manager.Do(ctx, r)
}

// TestOlderServerKeepsNoNote: then the receiver remembers, as long as it runs.
func TestOlderServerKeepsNoNote(t *testing.T) {
	r, list := largeCopy(t)
	rec := receiverOf(r)
	open := rec.Open
	rec.Open = func(ctx context.Context) (replica.Volume, func() error, error) {
		v, done, err := open(ctx)
		v.Manager = deaf{v.Manager}
		return v, done, err
	}
	applied := lateKill(t, rec, list)
	require.Zero(t, standingOf(t, rec, 1).Applied)
	var sums int64
	sent, _, err, gotErr := session(t, rec, largeOffer(list, 1), func(c net.Conn) net.Conn { return asked{c, &sums} })
	require.NoError(t, errors.Join(err, gotErr))
	require.GreaterOrEqual(t, sent.Start, applied)
	require.LessOrEqual(t, sums, int64(3<<20))
}
