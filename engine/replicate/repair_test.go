// SPDX-License-Identifier: Apache-2.0

package replicate_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/replicate"
)

// damaged is a volume that has copy 0 of the older content, and a copy 1 that is not what it
// is to be.
func damaged(t *testing.T, older, bad content) *rig.Rig {
	r := copied(t, older) // as snapshot 77
	m := admin.Local{Store: r.Server}
	is := copyOf(0)
	_, err := m.Do(t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: 5, Source: &admin.Source{Store: is.Store, Generation: is.Generation}}})
	require.NoError(t, err)
	_, err = m.Do(t.Context(), admin.Request{Verb: admin.VerbDelete, Snapshot: &admin.Ref{Tag: 77}})
	require.NoError(t, err)
	for off := 0; off < len(bad); off += chunk {
		if end := min(off+chunk, len(bad)); !bytes.Equal(older[off:end], bad[off:end]) {
			_, err := r.Volume.WriteAt(bad[off:end], int64(off))
			require.NoError(t, err)
		}
	}
	is = copyOf(1)
	_, err = m.Do(t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: 1, Name: "copy", Source: &admin.Source{Store: is.Store, Generation: is.Generation}}})
	require.NoError(t, err)
	return r
}

// repaired has a session. The sender's end is wrapped if cut is not nil.
func repaired(t *testing.T, r *rig.Rig, o replicate.Original, list []delta.Extent, cut func(net.Conn) net.Conn) (v replicate.Verified, got replicate.Received, err error) {
	a, b := net.Pipe()
	if cut != nil {
		a = cut(a)
	}
	served := make(chan error, 1)
	go func() {
		var err error
		got, err = receiverOf(r).Serve(t.Context(), b)
		served <- err
	}()
	v, err = replicate.Repair(t.Context(), a, o, list, replicate.VerifyOptions{})
	if gotErr := <-served; err == nil {
		require.NoError(t, gotErr)
	}
	return v, got, err
}

// holds has the volume hold exactly these copies.
func holds(t *testing.T, r *rig.Rig, older, newest content, tag block.Tag) {
	require.ElementsMatch(t, []block.Tag{5, tag}, r.Live())
	for tag, want := range map[block.Tag]content{5: older, tag: newest} {
		p, err := r.ReadSnapshot(tag, 0, want.Size())
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, p), "snapshot %d", tag)
	}
}

// changed is content of which n random chunks are others.
func changed(rng *rand.Rand, c content, n int) content {
	other := bytes.Clone(c)
	for range n {
		other[rng.IntN(len(c))] ^= byte(1 + rng.IntN(255))
	}
	return other
}

// TestRepair: the newest snapshot becomes what it is to be, under its tag, others stay, and
// bytes are sent in proportion to what differed.
func TestRepair(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, withDigest := range []bool{true, false} {
		for _, n := range []int{1, 40} {
			older := changed(rng, make(content, verifySize), 3000)
			right := changed(rng, older, 100)
			r := damaged(t, older, changed(rng, right, n))
			o := original(t, right)
			if !withDigest {
				o.Tree, o.Digest = nil, digest.Sum{}
			}
			found, differs, err := verified(t, r, o)
			require.NoError(t, err)
			require.NotEmpty(t, differs)

			v, got, err := repaired(t, r, o, differs, nil)
			require.NoError(t, err)
			require.Equal(t, found.Differing, v.Differing)
			require.Equal(t, found.Differing, got.Repaired)
			require.LessOrEqual(t, v.Exchanged, found.Differing+int64(len(differs))*200)
			holds(t, r, older, right, 1)
			origin, err := r.ReadOrigin()
			require.NoError(t, err)
			require.True(t, bytes.Equal(right, origin))
			snap := list(t, r)[1]
			require.Equal(t, "", snap.Name, "the sender's")
			require.Empty(t, snap.Applying)

			_, differs, err = verified(t, r, original(t, right))
			require.NoError(t, err)
			require.Empty(t, differs)
			_, _, err = repaired(t, r, original(t, right), nil, nil)
			require.NoError(t, err)
			holds(t, r, older, right, 1)
		}
	}
}

func list(t *testing.T, r *rig.Rig) []admin.Snapshot {
	a, err := admin.Local{Store: r.Server}.Do(t.Context(), admin.Request{Verb: admin.VerbList})
	require.NoError(t, err)
	return a.List
}

// budget is a connection that is cut after some bytes were written to it.
type budget struct {
	net.Conn
	left *int
}

// Write implements io.Writer.
func (c budget) Write(p []byte) (int, error) {
	if *c.left -= len(p); *c.left < 0 {
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// TestRepairIsCut: wherever the connection is cut, and the power of the receiver after it, the copy is as it was
// or what it is to be, or says that it is being repaired; and the next try ends it.
func TestRepairIsCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	older := changed(rng, make(content, 2<<20), 300)
	right := changed(rng, older, 20)
	bad := changed(rng, right, 12)
	o := original(t, right)
	marked := 0
	for left := 100; ; left += 2500 + rng.IntN(500) {
		r := damaged(t, older, bad)
		_, differs, err := verified(t, r, o)
		require.NoError(t, err)
		rest := left
		_, _, err = repaired(t, r, o, differs, func(c net.Conn) net.Conn { return budget{c, &rest} })
		if rest >= 0 {
			require.NoError(t, err)
			holds(t, r, older, right, 1)
			break
		}
		require.Error(t, err)
		if rng.IntN(2) == 0 {
			r = r.Crash(rng, memdev.Fate{})
			require.NoError(t, r.Open())
		}
		snap := list(t, r)[1]
		if snap.Applying != "" {
			marked++
			_, err := admin.Local{Store: r.Server}.Do(t.Context(), admin.Request{Verb: admin.VerbDelete, Snapshot: &admin.Ref{Tag: 1}})
			require.Error(t, err, "it is being repaired")
		}
		holds(t, r, older, bad, 1)
		_, differs, err = verified(t, r, o)
		require.NoError(t, err)
		_, _, err = repaired(t, r, o, differs, nil)
		require.NoError(t, err)
		holds(t, r, older, right, 1)
	}
	require.Greater(t, marked, 3)
}

// TestRepairRefuses: what cannot be repaired stays as it is.
func TestRepairRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	older := changed(rng, make(content, 1<<20), 300)
	right := changed(rng, older, 20)
	bad := changed(rng, right, 5)
	r := damaged(t, older, bad)
	m := admin.Local{Store: r.Server}
	o := original(t, right)
	whole := []delta.Extent{{Length: o.Size}}

	wrong := o
	wrong.To = copyOf(0)
	_, _, err := repaired(t, r, wrong, whole, nil)
	require.ErrorContains(t, err, replica.ErrOlder.Error())

	held := true
	_, err = m.Do(t.Context(), admin.Request{Verb: admin.VerbChange, Snapshot: &admin.Ref{Tag: 1}, Change: &admin.Change{Held: &held}})
	require.NoError(t, err)
	_, _, err = repaired(t, r, o, whole, nil)
	require.ErrorContains(t, err, "held or counted as used")
	held = false
	_, err = m.Do(t.Context(), admin.Request{Verb: admin.VerbChange, Snapshot: &admin.Ref{Tag: 1}, Change: &admin.Change{Held: &held}})
	require.NoError(t, err)

	// Only a part of what differs is repaired: the digest says that it is not all.
	_, differs, err := verified(t, r, o)
	require.NoError(t, err)
	require.Greater(t, len(differs), 1)
	_, _, err = repaired(t, r, o, differs[:1], nil)
	require.ErrorContains(t, err, replica.ErrStill.Error())
	holds(t, r, older, bad, 1)
	require.NotEmpty(t, list(t, r)[1].Applying)
	_, err = replica.Abandon(t.Context(), m)
	require.NoError(t, err)

	// The origin was written to.
	r = damaged(t, older, bad)
	_, err = r.Volume.WriteAt(bytes.Repeat([]byte{9}, chunk), 0)
	require.NoError(t, err)
	_, _, err = repaired(t, r, o, differs, nil)
	require.ErrorContains(t, err, replica.ErrChanged.Error())
	holds(t, r, older, bad, 1)
	refused, ok := errors.AsType[*replicate.Refusal](err)
	require.True(t, ok)
	require.Equal(t, replicate.CodeError, refused.Code)
}
