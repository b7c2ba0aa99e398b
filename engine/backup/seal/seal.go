// SPDX-License-Identifier: Apache-2.0

// Package seal makes of bytes an object that tells whether it is what was written,
// and, with a key, that nobody else can read or make. Any range of it can be opened
// by itself.
//
// It owns the form of objects, which FORMAT.md of package backup describes, and keys.
// It does not own where objects are kept: package backup calls it, with their names,
// which are part of what is sealed: an object under another's name does not open. Seals
// and openers are safe for concurrent use, builders are for one goroutine. Bytes that
// do not open are [ErrDamaged], and nothing of them is given out.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// The form of objects. Part of the format, must not change.
const (
	Magic       = "zmbackup"
	Version     = 1
	HeaderSize  = 48
	SegmentSize = 64 << 10 // of content, but for the last one
	TagSize     = 16
	saltAt      = 16
	nonceSize   = 12
)

// How segments are sealed. Part of the format, must not change.
const (
	checksums = 0
	aes256GCM = 1
)

// Errors that callers decide on.
var (
	// ErrDamaged is wrapped by the error of bytes that are not what was sealed under this
	// name, or not with this key.
	ErrDamaged = errors.New("object is damaged")
	// ErrVersion is wrapped by that of an object of a later version.
	ErrVersion = errors.New("object needs a later version of this program")
)

// Seals seals objects and opens them: with a key, or with checksums only.
type Seals struct {
	key *Key
}

// Checksums returns seals that tell damage, but hide nothing.
func Checksums() Seals { return Seals{} }

// WithKey returns seals that only who has the key can open or make.
func WithKey(k Key) Seals { return Seals{&k} }

// object is the cipher of one object.
type object struct {
	aead cipher.AEAD
	with []byte // what is sealed with each segment: header and name
}

func (s Seals) object(name string, header []byte) (object, error) {
	o := object{with: append(append([]byte(nil), header...), name...)}
	if s.key == nil {
		o.aead = summed{}
		return o, nil
	}
	k, err := hkdf.Key(sha256.New, s.key[:], header[saltAt:], "zumastor backup object", 32)
	if err != nil {
		return o, fmt.Errorf("deriving the key of %s: %w", name, err)
	}
	b, err := aes.NewCipher(k)
	if err == nil {
		o.aead, err = cipher.NewGCM(b)
	}
	return o, err
}

// nonce is that of a segment.
func nonce(number int64, last bool) []byte {
	p := make([]byte, nonceSize)
	if last {
		p[0] = 1
	}
	binary.BigEndian.PutUint64(p[4:], uint64(number))
	return p
}

// newHeader is the begin of an object that is being made.
func (s Seals) newHeader() ([]byte, error) {
	p := make([]byte, HeaderSize)
	copy(p, Magic)
	binary.LittleEndian.PutUint16(p[8:], Version)
	if s.key == nil {
		return p, nil
	}
	p[10] = aes256GCM
	if _, err := rand.Read(p[saltAt:]); err != nil {
		return nil, fmt.Errorf("random bytes: %w", err)
	}
	return p, nil
}

// checkHeader returns an error unless an object that begins so can be one of these seals.
func (s Seals) checkHeader(name string, p []byte) error {
	switch {
	case len(p) < HeaderSize || string(p[:8]) != Magic:
		return fmt.Errorf("%s: %w: it does not begin as one does", name, ErrDamaged)
	case binary.LittleEndian.Uint16(p[8:]) != Version || p[10] > aes256GCM || p[11] != 0 || p[12]|p[13]|p[14]|p[15] != 0:
		return fmt.Errorf("%s: %w: version %d, sealing %d", name, ErrVersion, binary.LittleEndian.Uint16(p[8:]), p[10])
	case (p[10] == checksums) != (s.key == nil):
		return fmt.Errorf("%s: %w: it is sealed in another way than the repository", name, ErrDamaged)
	}
	return nil
}

// SealedSize returns the size of the object that n bytes make.
func SealedSize(n int64) int64 {
	return HeaderSize + n + max(1, (n+SegmentSize-1)/SegmentSize)*TagSize
}

// summed seals with checksums.
type summed struct{}

// NonceSize implements cipher.AEAD.
func (summed) NonceSize() int { return nonceSize }

// Overhead implements cipher.AEAD.
func (summed) Overhead() int { return TagSize }

func (summed) tag(nonce, content, with []byte) []byte {
	h := sha256.New()
	h.Write(with)
	h.Write(nonce)
	h.Write(content)
	return h.Sum(nil)[:TagSize]
}

// Seal implements cipher.AEAD.
func (s summed) Seal(dst, nonce, content, with []byte) []byte {
	return append(append(dst, content...), s.tag(nonce, content, with)...)
}

// Open implements cipher.AEAD.
func (s summed) Open(dst, nonce, sealed, with []byte) ([]byte, error) {
	n := len(sealed) - TagSize
	if n < 0 || subtle.ConstantTimeCompare(s.tag(nonce, sealed[:n], with), sealed[n:]) == 0 {
		return nil, errors.New("wrong checksum")
	}
	return append(dst, sealed[:n]...), nil
}
