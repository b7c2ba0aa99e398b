// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf8"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta/codec"
)

// Errors that callers decide on.
var (
	// ErrCorrupt is wrapped by the error of bytes that are no delta.
	ErrCorrupt = errors.New("delta is damaged")
	// ErrCut is wrapped when a delta ends before its trailer does.
	ErrCut = errors.New("delta ends early")
	// ErrVersion is wrapped when a delta has something that only a later version knows.
	ErrVersion = errors.New("delta needs a later version of this program")
)

// Magic and Version open every delta. Part of the format, must not change.
const (
	Magic   = "zmdelta\x00"
	Version = 1
)

// Bounds of a header. Part of the format, must not change.
const (
	preambleSize = 16
	maxHeader    = 4096
	maxName      = 64
	// MinExtent is the least bound of extents, in bytes.
	MinExtent = 4096
)

// Identity names a state of a volume for good, wherever it is copied to: the store in
// which the snapshot was made, and the generation that it has there.
type Identity struct {
	Store      [16]byte
	Generation block.Generation
}

// The digests of a whole state. Part of the format, must not change.
const (
	DigestNone = 0 // it is not known
	DigestTree = 1 // that of package digest
)

// End is a state that a delta leads from, or to.
type End struct {
	Identity
	Tag       block.Tag
	Name      string
	Created   int64 // nanoseconds since 1970 UTC
	Size      int64 // bytes
	Algorithm uint8 // of Digest; DigestNone: there is none
	Digest    [32]byte
}

// Header says what a delta is between. A delta without From has all of To.
type Header struct {
	ChunkSize int // of the volume, bytes: records begin at multiples of it
	Extent    int // bound of a record's content, bytes
	From      *End
	To        End
	Codecs    []codec.ID // that records may have, ascending
}

// ID names what a delta is between: two deltas that say the same have the same,
// however they are coded.
func (h *Header) ID() [16]byte {
	var from Identity
	if h.From != nil {
		from = h.From.Identity
	}
	p := append([]byte("delta"), from.Store[:]...)
	p = binary.LittleEndian.AppendUint64(p, uint64(from.Generation))
	p = append(p, h.To.Store[:]...)
	p = binary.LittleEndian.AppendUint64(p, uint64(h.To.Generation))
	sum := sha256.Sum256(p)
	return [16]byte(sum[:16])
}

// baseSize returns the size of the state that the delta leads from.
func (h *Header) baseSize() int64 {
	if h.From == nil {
		return 0
	}
	return h.From.Size
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// append codes the header, its preamble and checksum included.
func (h *Header) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, Magic...)
	dst = binary.LittleEndian.AppendUint16(dst, Version)
	dst = append(dst, make([]byte, 6)...) // reserved, and the length
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.ChunkSize))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Extent))
	dst = append(dst, boolByte(h.From != nil), uint8(len(h.Codecs)), 0, 0)
	for _, id := range h.Codecs {
		dst = append(dst, byte(id))
	}
	if h.From != nil {
		dst = h.From.append(dst)
	}
	dst = h.To.append(dst)
	binary.LittleEndian.PutUint32(dst[start+12:], uint32(len(dst)-start-preambleSize))
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func (e *End) append(dst []byte) []byte {
	dst = append(dst, e.Store[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Generation))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Created))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Size))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(e.Tag))
	dst = append(dst, e.Algorithm, uint8(len(e.Name)), 0, 0)
	dst = append(dst, e.Digest[:]...)
	return append(dst, e.Name...)
}

const endSize = 80 // of a coded End without its name

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// readHeader reads a header.
func readHeader(r io.Reader) (*Header, []byte, error) {
	p := make([]byte, preambleSize, 512)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, nil, cut("its header", err)
	}
	n := binary.LittleEndian.Uint32(p[12:])
	switch version := binary.LittleEndian.Uint16(p[8:]); {
	case string(p[:8]) != Magic:
		return nil, nil, fmt.Errorf("%w: it does not begin as a delta does", ErrCorrupt)
	case version != Version:
		return nil, nil, fmt.Errorf("%w: format %d, this program knows %d", ErrVersion, version, Version)
	case n > maxHeader:
		return nil, nil, fmt.Errorf("%w: header of %d bytes", ErrCorrupt, n)
	}
	p = append(p, make([]byte, n+4)...)
	if _, err := io.ReadFull(r, p[preambleSize:]); err != nil {
		return nil, nil, cut("its header", err)
	}
	body := p[:len(p)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(p[len(body):]) {
		return nil, nil, fmt.Errorf("%w: checksum of the header", ErrCorrupt)
	}
	h, err := decodeHeader(body[preambleSize:])
	if err != nil {
		return nil, nil, err
	}
	if !slices.Equal(h.append(nil), p) {
		return nil, nil, fmt.Errorf("%w: the header has reserved bytes that are not zero", ErrVersion)
	}
	return h, p, nil
}

// decodeHeader reads what follows the preamble. Its caller compares what it codes to.
func decodeHeader(p []byte) (*Header, error) {
	short := fmt.Errorf("%w: header of %d bytes is too short", ErrCorrupt, len(p))
	if len(p) < 12 {
		return nil, short
	}
	h := &Header{ChunkSize: int(binary.LittleEndian.Uint32(p)), Extent: int(binary.LittleEndian.Uint32(p[4:]))}
	from, codecs := p[8] != 0, int(p[9])
	if p = p[12:]; len(p) < codecs {
		return nil, short
	}
	for _, id := range p[:codecs] {
		h.Codecs = append(h.Codecs, codec.ID(id))
	}
	p = p[codecs:]
	var err error
	if from {
		h.From = &End{}
		if p, err = h.From.decode(p); err != nil {
			return nil, err
		}
	}
	if p, err = h.To.decode(p); err != nil {
		return nil, err
	}
	if len(p) != 0 {
		return nil, fmt.Errorf("%w: %d bytes at the end of the header", ErrVersion, len(p))
	}
	return h, h.check()
}

func (e *End) decode(p []byte) ([]byte, error) {
	if len(p) < endSize || len(p) < endSize+int(p[45]) {
		return nil, fmt.Errorf("%w: the header is too short", ErrCorrupt)
	}
	copy(e.Store[:], p)
	e.Generation = block.Generation(binary.LittleEndian.Uint64(p[16:]))
	e.Created = int64(binary.LittleEndian.Uint64(p[24:]))
	e.Size = int64(binary.LittleEndian.Uint64(p[32:]))
	e.Tag = block.Tag(binary.LittleEndian.Uint32(p[40:]))
	e.Algorithm = p[44]
	copy(e.Digest[:], p[48:])
	e.Name = string(p[endSize : endSize+int(p[45])])
	return p[endSize+int(p[45]):], nil
}

// check returns an error unless the header makes sense.
func (h *Header) check() error {
	if _, err := block.NewGeometry(h.To.Size, h.ChunkSize); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if h.From != nil {
		if _, err := block.NewGeometry(h.From.Size, h.ChunkSize); err != nil {
			return fmt.Errorf("%w: base: %w", ErrCorrupt, err)
		}
	}
	if h.Extent < max(MinExtent, h.ChunkSize) || h.Extent > codec.MaxExtent || h.Extent&(h.Extent-1) != 0 {
		return fmt.Errorf("%w: extents of up to %d bytes with chunks of %d", ErrCorrupt, h.Extent, h.ChunkSize)
	}
	for i, id := range h.Codecs {
		if id == 0 || i > 0 && id <= h.Codecs[i-1] {
			return fmt.Errorf("%w: list of codecs", ErrCorrupt)
		}
	}
	for _, e := range []*End{h.From, &h.To} {
		if e != nil && (len(e.Name) > maxName || !utf8.ValidString(e.Name) || e.Generation == 0) {
			return fmt.Errorf("%w: snapshot %q of generation %d", ErrCorrupt, e.Name, e.Generation)
		}
	}
	return nil
}

// cut is the error of a read that ended early.
func cut(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: in %s", ErrCut, what)
	}
	return fmt.Errorf("reading %s of the delta: %w", what, err)
}
