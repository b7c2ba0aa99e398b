// SPDX-License-Identifier: Apache-2.0

// Package corpus makes content and bases for the tests of codecs and deltas.
//
// It owns what several packages' tests need; no code but tests calls it, and it
// imports no other package of the engine. All is a function of its seed. Safe for
// concurrent use.
package corpus

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
)

// Memory is a base in memory.
type Memory []byte

// Size returns its bytes.
func (m Memory) Size() int64 { return int64(len(m)) }

// ReadAt reads as [io.ReaderAt] says, and refuses what a base must never be
// asked for.
func (m Memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, fmt.Errorf("read of %d bytes at %d outside of a base of %d: %w", len(p), off, len(m), io.ErrUnexpectedEOF)
	}
	return copy(p, m[off:]), nil
}

// Random returns bytes without order, the same ones for the same seed.
func Random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// Text returns lines of words, the same ones for the same seed.
func Text(seed uint64, n int) []byte {
	words := []string{"snapshot", "origin", "chunk", "exception", "store", "of", "the", "a", "generation", "delta", "0x1f", "return", "=", "{", "}"}
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+64)
	for len(b) < n {
		b = append(append(b, words[r.IntN(len(words))]...), ' ')
		b = append(append(b, words[r.IntN(len(words))]...), ' ')
		b = append(strconv.AppendInt(b, int64(r.IntN(1<<r.IntN(20))), 10), '\n')
	}
	return b[:n:n]
}

// Edited returns a copy of b in which a byte of every some hundred is another,
// and some bytes came in or left out.
func Edited(seed uint64, b []byte) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	out := bytes.Clone(b)
	for range 1 + len(b)/700 {
		out[r.IntN(len(out))] ^= byte(1 + r.IntN(255))
	}
	at, n := r.IntN(len(b)), min(len(b), 1+r.IntN(100))
	out = append(out[:at:at], append(Random(seed, n), out[at:]...)...)
	return out[:len(b)]
}
