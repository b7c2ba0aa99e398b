// SPDX-License-Identifier: Apache-2.0

package sum

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

func random(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// spelled is the sum as FORMAT.md spells it out.
func spelled(chunk []byte) uint32 {
	turned := append(append([]byte{}, chunk[2:]...), chunk[:2]...)
	var dealt [4][]byte
	for i := 0; i < len(turned); i += 8 {
		dealt[i/8%4] = append(dealt[i/8%4], turned[i:i+8]...)
	}
	var b []byte
	for _, lane := range dealt {
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(lane, castagnoli))
	}
	return uint32(xxhash.Sum64(b))
}

func TestOf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{64, 128, 192, 4096, 4160, 65536, 1 << 20} {
		p := random(r, n)
		require.Equal(t, spelled(p), Of(p), n)
		require.Equal(t, spelled(p), generic(p), n)
		p[r.IntN(n)] ^= 1 << r.IntN(8)
		require.NotEqual(t, spelled(p), spelled(random(r, n)))
		require.Equal(t, spelled(p), Of(p), n)
	}
	require.Equal(t, uint32(0x4f74a84d), Of(make([]byte, 4096)))
}

// generic is Of without the processor's instruction.
func generic(chunk []byte) uint32 {
	var crc [lanes]uint32
	turned := append(append([]byte{}, chunk[first:]...), chunk[:first]...)
	updateGeneric(&crc, turned)
	var b []byte
	for _, c := range crc {
		b = binary.LittleEndian.AppendUint32(b, c)
	}
	return uint32(xxhash.Sum64(b))
}

// Records of any size that end in a CRC32C of what is before it in them, as files and file systems are
// full of: exchanging one for another is seen, wherever in the chunk, at each alignment.
func TestOfRecordsWithChecksums(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{8, 12, 16, 24, 32, 64, 128, 256, 512, 4096} {
		seal := func(p []byte) { binary.LittleEndian.PutUint32(p[size-4:], crc32.Checksum(p[:size-4], castagnoli)) }
		for at := 0; at+size <= 4096; at += max(4, size/4) {
			chunk := random(r, 4096)
			seal(chunk[at:])
			sum, crc := Of(chunk), crc32.Checksum(chunk, castagnoli)
			copy(chunk[at:], random(r, size-4))
			seal(chunk[at:])
			require.Equal(t, crc, crc32.Checksum(chunk, castagnoli), "the test's records are not what it is about")
			require.NotEqual(t, sum, Of(chunk), "a record of %d bytes at %d", size, at)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add(random(rand.New(rand.NewPCG(5, 6)), 4096))
	f.Fuzz(func(t *testing.T, p []byte) {
		if p = p[:len(p)/block*block]; len(p) == 0 {
			return
		}
		require.Equal(t, spelled(p), Of(p))
		require.Equal(t, spelled(p), generic(p))
	})
}

func BenchmarkOf(b *testing.B) {
	p := random(rand.New(rand.NewPCG(7, 8)), 8<<20)
	b.SetBytes(65536)
	for i := 0; b.Loop(); i++ {
		Of(p[i%128<<16:][:65536])
	}
}

func BenchmarkXXH64(b *testing.B) {
	p := random(rand.New(rand.NewPCG(7, 8)), 8<<20)
	b.SetBytes(65536)
	for i := 0; b.Loop(); i++ {
		xxhash.Sum64(p[i%128<<16:][:65536])
	}
}
