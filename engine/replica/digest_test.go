// SPDX-License-Identifier: Apache-2.0

package replica_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/replica"
)

// namedDelta leads from state 0 to 1, changes nothing but the first chunk, and names a
// digest of its base, if there is one.
func namedDelta(t *testing.T, list []content, base *digest.Sum) []byte {
	from := endOf(0, list[0])
	if base != nil {
		from.Algorithm, from.Digest = delta.DigestTree, *base
	}
	newer := bytes.Clone(list[0])
	newer[0] ^= 1
	o := delta.EncodeOptions{
		Header:  delta.Header{ChunkSize: chunk, Extent: 64 << 10, Codecs: []codec.ID{codec.Raw}, From: &from, To: endOf(1, newer)},
		Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.Raw, codec.Options{}) },
	}
	var b bytes.Buffer
	_, err := delta.Encode(t.Context(), &b, delta.Source{Target: content(newer), Base: list[0], Extents: []delta.Extent{{Length: chunk}}}, o)
	require.NoError(t, err)
	return b.Bytes()
}

// TestDigestOfTheBase: what is not the base is refused before the first byte is written, even
// if it is the same where something changes.
func TestDigestOfTheBase(t *testing.T) {
	r, list := receiver(t), states()
	_, err := apply(t, r, deltaTo(t, list, 0))
	require.NoError(t, err)
	other := digest.Sum{1}
	before := originOf(t, r)

	res, err := compute.Run(t.Context(), admin.Local{Store: r.Server}, admin.Ref{Tag: 0}, list[0], compute.Options{})
	require.NoError(t, err)
	for _, how := range []struct {
		name string
		p    []byte
	}{{"whole", namedDelta(t, list, &other)}, {"cut", namedDelta(t, list, &other)[:300]}} {
		_, err = pipe(t, r, how.p)
		require.ErrorIs(t, err, delta.ErrBase, how.name)
		require.ErrorContains(t, err, res.Sum.String())
	}
	require.True(t, bytes.Equal(before, originOf(t, r)))
	_, err = replica.Abandon(t.Context(), admin.Local{Store: r.Server})
	require.ErrorIs(t, err, replica.ErrNothing, "nothing was begun")

	_, err = pipe(t, r, namedDelta(t, list, &res.Sum))
	require.NoError(t, err)
	require.Equal(t, list[0][0]^1, originOf(t, r)[0])
}

// TestDigestIsNotKnown: without a digest on either side, the records' sums decide.
func TestDigestIsNotKnown(t *testing.T) {
	other := digest.Sum{1}
	for _, known := range []bool{false, true} {
		r, list := receiver(t), states()
		_, err := apply(t, r, deltaTo(t, list, 0))
		require.NoError(t, err)
		named := &other
		if known {
			named = nil
			_, err = compute.Run(t.Context(), admin.Local{Store: r.Server}, admin.Ref{Tag: 0}, list[0], compute.Options{})
			require.NoError(t, err)
		}
		_, err = apply(t, r, namedDelta(t, list, named))
		require.NoError(t, err)
	}
}
