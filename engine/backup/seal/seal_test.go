// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func random(n int) []byte {
	p := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// sizes lie around the borders of segments.
var sizes = []int{0, 1, 100, SegmentSize - 1, SegmentSize, SegmentSize + 1, 2 * SegmentSize, 3*SegmentSize + 17}

func both() map[string]Seals {
	return map[string]Seals{"checksums": Checksums(), "key": WithKey(Key{1, 2, 3})}
}

func TestOpenIsWhatWasSealed(t *testing.T) {
	for name, s := range both() {
		for _, n := range sizes {
			content := random(n)
			sealed, err := s.Seal("a/b", content)
			require.NoError(t, err)
			require.EqualValues(t, SealedSize(int64(n)), len(sealed))
			got, err := s.Open("a/b", sealed)
			require.NoError(t, err, "%s, %d bytes", name, n)
			require.True(t, bytes.Equal(content, got))
			_, err = s.Open("a/c", sealed)
			require.ErrorIs(t, err, ErrDamaged, "another name")
			if name == "key" && n > 50 {
				require.False(t, bytes.Contains(sealed, content[:50]))
			}
		}
	}
}

// TestRanges: any range opens by itself, and is what was there.
func TestRanges(t *testing.T) {
	content := random(3*SegmentSize + 17)
	size := int64(len(content))
	rng := rand.New(rand.NewPCG(7, 7))
	for _, s := range both() {
		sealed, err := s.Seal("x", content)
		require.NoError(t, err)
		o, err := s.Opener("x", sealed[:HeaderSize])
		require.NoError(t, err)
		for range 200 {
			off := rng.Int64N(size)
			n := 1 + rng.Int64N(size-off)
			from, to, first := Range(off, n, size)
			got, err := o.Open(nil, sealed[from:to], first, size)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content[off:off+n], got[off-first:off-first+n]))
			require.LessOrEqual(t, to-from, n+2*(SegmentSize+TagSize))
		}
	}
}

// TestDamage: no byte can be changed, no end cut off, no segment swapped.
func TestDamage(t *testing.T) {
	content := random(2*SegmentSize + 100)
	for name, s := range both() {
		sealed, err := s.Seal("x", content)
		require.NoError(t, err)
		for at := 0; at < len(sealed); at += 1 + at/3 {
			bad := bytes.Clone(sealed)
			bad[at] ^= 4
			got, err := s.Open("x", bad)
			require.Error(t, err, "%s: byte %d", name, at)
			require.Nil(t, got)
		}
		for _, n := range []int{0, 5, HeaderSize, HeaderSize + TagSize, HeaderSize + SegmentSize + TagSize, len(sealed) - 1} {
			_, err := s.Open("x", sealed[:n])
			require.ErrorIs(t, err, ErrDamaged, "%s: %d bytes", name, n)
		}
		_, err = s.Open("x", append(bytes.Clone(sealed), 0))
		require.ErrorIs(t, err, ErrDamaged)
		swapped := bytes.Clone(sealed)
		const segment = SegmentSize + TagSize
		copy(swapped[HeaderSize:], sealed[HeaderSize+segment:HeaderSize+2*segment])
		copy(swapped[HeaderSize+segment:], sealed[HeaderSize:HeaderSize+segment])
		_, err = s.Open("x", swapped)
		require.ErrorIs(t, err, ErrDamaged)
	}
}

func TestOtherKey(t *testing.T) {
	sealed, err := WithKey(Key{1}).Seal("x", []byte("secret"))
	require.NoError(t, err)
	for _, s := range []Seals{WithKey(Key{2}), Checksums()} {
		_, err = s.Open("x", sealed)
		require.ErrorIs(t, err, ErrDamaged)
	}
	again, err := WithKey(Key{1}).Seal("x", []byte("secret"))
	require.NoError(t, err)
	require.NotEqual(t, sealed, again, "no two objects have the same key")
	sealed[8]++
	_, err = WithKey(Key{1}).Open("x", sealed)
	require.ErrorIs(t, err, ErrVersion)
}

// TestGolden: what was sealed by the first version opens for ever.
func TestGolden(t *testing.T) {
	for file, s := range map[string]Seals{"checksums.hex": Checksums(), "key.hex": WithKey(Key{1, 2, 3})} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		require.NoError(t, err)
		sealed, err := hex.DecodeString(string(bytes.TrimSpace(text)))
		require.NoError(t, err)
		got, err := s.Open("points/golden", sealed)
		require.NoError(t, err)
		require.Equal(t, "what the first version wrote", string(got))
	}
}

func TestKeyText(t *testing.T) {
	k, err := NewKey()
	require.NoError(t, err)
	got, err := ParseKey(k.Text())
	require.NoError(t, err)
	require.Equal(t, k, got)
	for _, text := range []string{"", "ddsnap-backup-key-1:", k.Text()[:30], "x" + k.Text(), k.Text() + "x"} {
		_, err := ParseKey(text)
		require.ErrorIs(t, err, ErrNoKey)
	}
	a, err := k.ID("one")
	require.NoError(t, err)
	b, err := k.ID("two")
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	_, err = ReadKey(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzOpen(f *testing.F) {
	for _, s := range both() {
		sealed, _ := s.Seal("x", []byte("something"))
		f.Add(sealed)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, s := range both() {
			got, err := s.Open("x", p)
			require.True(t, err != nil || len(got) <= len(p))
		}
	})
}
