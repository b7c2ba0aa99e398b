// SPDX-License-Identifier: Apache-2.0

package gen_test

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads/gen"
)

func TestFillAndVerify(t *testing.T) {
	p := make([]byte, 8*512)
	gen.Fill(p, 11, 1<<40, 5)
	require.NoError(t, gen.Verify(p, 11, 1<<40, 5))
	require.NoError(t, gen.Verify(p[512:1024], 11, 1<<40+512, 5), "each sector stands alone")
	stamp, ok := gen.Identify(p[512:1024])
	require.True(t, ok)
	require.Equal(t, gen.Stamp{Seed: 11, Offset: 1<<40 + 512, Version: 5}, stamp)
	require.Equal(t, uint32(0x98eb3b66), crc32.ChecksumIEEE(p), "the pattern is pinned")
}

func TestVerifyNamesWhatItFound(t *testing.T) {
	p := make([]byte, 2*512)
	gen.Fill(p, 1, 4096, 2)
	err := gen.Verify(p, 1, 4096, 3)
	require.ErrorIs(t, err, gen.ErrContent)
	require.ErrorContains(t, err, "sector at 4096 holds {Seed:1 Offset:4096 Version:2} instead of {Seed:1 Offset:4096 Version:3}")

	p[700] ^= 1
	require.ErrorContains(t, gen.Verify(p, 1, 4096, 2), "sector at 4608 is damaged or foreign")
	clear(p[512:])
	require.ErrorContains(t, gen.Verify(p, 1, 4096, 2), "sector at 4608 is zero")
}

func TestEveryBitCounts(t *testing.T) {
	p := make([]byte, 512)
	for bit := range 512 * 8 {
		gen.Fill(p, 1, 0, 1)
		p[bit/8] ^= 1 << (bit % 8)
		require.Error(t, gen.Verify(p, 1, 0, 1))
		_, ok := gen.Identify(p)
		require.False(t, ok, "bit %d", bit)
	}
}

func TestVerifyPlaced(t *testing.T) {
	p := make([]byte, 3*512)
	gen.Fill(p[:512], 1, 0, 4)
	gen.Fill(p[1024:], 1, 1024, 2)
	require.NoError(t, gen.VerifyPlaced(p, 1, 0, 4), "zeroes and older versions may stand")
	require.Error(t, gen.VerifyPlaced(p, 1, 0, 3), "a version of the future")
	require.Error(t, gen.VerifyPlaced(p, 2, 0, 4), "another seed")
	require.Error(t, gen.VerifyPlaced(p, 1, 512, 4), "another place")
	p[100]++
	require.Error(t, gen.VerifyPlaced(p, 1, 0, 4), "damage")
}

func BenchmarkFill(b *testing.B) {
	p := make([]byte, 4096)
	b.SetBytes(int64(len(p)))
	for i := range uint64(b.N) {
		gen.Fill(p, 1, 0, i)
	}
}

func BenchmarkVerify(b *testing.B) {
	p := make([]byte, 4096)
	gen.Fill(p, 1, 0, 0)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if err := gen.Verify(p, 1, 0, 0); err != nil {
			b.Fatal(err)
		}
	}
}
