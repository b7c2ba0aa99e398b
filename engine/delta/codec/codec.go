// SPDX-License-Identifier: Apache-2.0

// Package codec turns the extents of a delta into fewer bytes and back: an
// extent is a run of changed chunks, its base is the older content that both
// sides have.
//
// It owns the codecs, the numbers by which a delta names them, and the choosers,
// which pick one for an extent. It does not own the format of a delta, its
// digests, or where content comes from; package delta is its caller. Coders are
// for one goroutine each and keep their memory from extent to extent. A decoder
// takes any bytes: what is not a payload of its codec is ErrCorrupt, and never
// costs more memory than Limits says. No codec proves that the base is the right
// one: the caller compares digests.
package codec

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"zumastor.org/zumastor/engine/delta/similar"
	"zumastor.org/zumastor/engine/delta/vcdiff"
	"zumastor.org/zumastor/engine/delta/zstddict"
)

// ErrUnsuitable says that a codec does not do this extent: it is too large, has
// no base, or would gain nothing. Nothing was appended.
var ErrUnsuitable = errors.New("codec does not suit the extent")

// ErrCorrupt says that a payload is not one of its codec, or not one for this
// extent and base.
var ErrCorrupt = errors.New("corrupt payload")

// ID is the number of a codec in a delta.
type ID uint8

// The codecs. The numbers are part of the format, must not change.
const (
	Raw       ID = 1 + iota // the content itself
	Zlib                    // RFC 1950
	Zstd                    // one frame of RFC 8878
	Bsdiff                  // BSDIFF40 against the base at the same place, with runs of one byte shortened
	VCDIFF                  // RFC 3284 against the base at the same place
	ZstdPatch               // zstd with the base at the same place as its dictionary
	Similar                 // copies of blocks of the base, and zstd with similar ones as its dictionary
)

var names = []string{Raw: "raw", Zlib: "zlib", Zstd: "zstd", Bsdiff: "bsdiff", VCDIFF: "vcdiff", ZstdPatch: "zstd-patch", Similar: "similar"}

// String returns the codec's name on the command line, or its number where this
// version does not know it.
func (id ID) String() string {
	if id == 0 || int(id) >= len(names) {
		return fmt.Sprintf("codec %d", uint8(id))
	}
	return names[id]
}

// NeedsBase reports whether the codec's payloads mean nothing without the base.
func (id ID) NeedsBase() bool { return id >= Bsdiff && id <= Similar }

// Parse returns the codec of that name.
func Parse(name string) (ID, error) {
	if i := slices.Index(names, name); i > 0 {
		return ID(i), nil
	}
	return 0, fmt.Errorf("codec %q is not known: it is one of %s", name, strings.Join(names[1:], ", "))
}

// Base is the older content that both sides have.
type Base interface {
	io.ReaderAt
	Size() int64 // bytes
}

// Encoder codes extents. Not safe for concurrent use: one a worker.
type Encoder interface {
	// Encode appends to dst the coded form of content, the newer content at
	// offset, in bytes, of the volume. Content is not empty and not larger than
	// Options.Extent; base is nil where there is none. On an error nothing was
	// appended; it is ErrUnsuitable where another codec may do, else base's own.
	Encode(dst, content []byte, offset int64, base Base) ([]byte, error)
}

// Decoder is the counterpart of an Encoder. Not safe for concurrent use.
type Decoder interface {
	// Decode fills dst, whose length is the extent's, exactly. An error wraps
	// ErrCorrupt, or is base's own; dst is then undefined.
	Decode(dst, coded []byte, offset int64, base Base) error
}

// Sizes of extents in bytes.
const (
	DefaultExtent = 1 << 20
	MaxExtent     = 16 << 20 // no decoder takes more
)

// Options of an encoder; the zero value is good.
type Options struct {
	// Level is how hard the codec tries, 0 for its default: zlib 1 to 9, zstd,
	// zstd-patch and similar 1 to 22 (in four steps: 1, 3, 7, 11 and above).
	// The others have none.
	Level int
	// Extent is the largest content in bytes: DefaultExtent where it is 0.
	Extent int
	// Similar finds content anywhere in the base for the codec of this name. It
	// may be shared by encoders. Nil: the base is searched at the same place only.
	Similar *similar.Index
}

// checked returns the options with the defaults filled in.
func (o Options) checked(id ID, maxLevel int) (Options, error) {
	if o.Extent == 0 {
		o.Extent = DefaultExtent
	}
	if o.Extent < 0 || o.Extent > MaxExtent {
		return o, fmt.Errorf("extent of %d bytes: it is 1 to %d", o.Extent, MaxExtent)
	}
	if o.Level < 0 || o.Level > maxLevel {
		if maxLevel == 0 {
			return o, fmt.Errorf("level %d: %s has no levels", o.Level, id)
		}
		return o, fmt.Errorf("level %d: levels of %s are 1 to %d", o.Level, id, maxLevel)
	}
	return o, nil
}

// maxLevels holds the highest level of the codecs that have levels.
var maxLevels = map[ID]int{Zlib: 9, Zstd: zstddict.MaxLevel, ZstdPatch: zstddict.MaxLevel, Similar: zstddict.MaxLevel}

// NewEncoder returns an encoder of the codec.
func NewEncoder(id ID, o Options) (Encoder, error) {
	o, err := o.checked(id, maxLevels[id])
	if err != nil {
		return nil, err
	}
	switch id {
	case Raw:
		return rawCoder{}, nil
	case Zlib:
		return newZlibEncoder(o)
	case Zstd, ZstdPatch:
		return newZstdEncoder(id, o)
	case Bsdiff:
		return newBsdiffEncoder()
	case VCDIFF:
		return &vcdiffCoder{encoder: vcdiff.NewEncoder()}, nil
	case Similar:
		return newSimilarEncoder(o)
	}
	return nil, fmt.Errorf("%s is not known to this version", id)
}

// Limits bound what a decoder takes; the zero value is good.
type Limits struct {
	// Extent is the largest content in bytes: MaxExtent where it is 0. A decoder
	// holds at most 6 times of it, and 16 MiB.
	Extent int
}

func (l Limits) checked() (Limits, error) {
	if l.Extent == 0 {
		l.Extent = MaxExtent
	}
	if l.Extent < 0 || l.Extent > MaxExtent {
		return l, fmt.Errorf("extent of %d bytes: it is 1 to %d", l.Extent, MaxExtent)
	}
	return l, nil
}

// NewDecoder returns a decoder of the codec.
func NewDecoder(id ID, l Limits) (Decoder, error) {
	l, err := l.checked()
	if err != nil {
		return nil, err
	}
	switch id {
	case Raw:
		return bounded{rawCoder{}, l}, nil
	case Zlib:
		return bounded{&zlibDecoder{}, l}, nil
	case Zstd, ZstdPatch:
		d, err := newZstdDecoder(id)
		return bounded{d, l}, err
	case Bsdiff:
		return bounded{&bsdiffDecoder{}, l}, nil
	case VCDIFF:
		return bounded{&vcdiffCoder{}, l}, nil
	case Similar:
		d, err := newSimilarDecoder()
		return bounded{d, l}, err
	}
	return nil, fmt.Errorf("%s is not known to this version", id)
}

// bounded refuses extents beyond the limit.
type bounded struct {
	decoder Decoder
	limits  Limits
}

func (b bounded) Decode(dst, coded []byte, offset int64, base Base) error {
	switch {
	case len(dst) == 0:
		return fmt.Errorf("%w: extent without bytes", ErrCorrupt)
	case len(dst) > b.limits.Extent:
		return fmt.Errorf("%w: extent of %d bytes, at most %d are taken", ErrCorrupt, len(dst), b.limits.Extent)
	case offset < 0:
		return fmt.Errorf("%w: extent at offset %d", ErrCorrupt, offset)
	}
	return b.decoder.Decode(dst, coded, offset, base)
}

// corrupt returns ErrCorrupt with what is wrong, which may be another error.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
