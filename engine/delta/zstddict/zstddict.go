// SPDX-License-Identifier: Apache-2.0

// Package zstddict makes zstd frames of content that resembles a dictionary, and
// takes them apart.
//
// It owns the settings that make a frame interchangeable: the dictionary is raw
// content with the number 0, as `zstd --patch-from` has it, and a checksum is
// always written, without which a wrong dictionary would give wrong content. It
// does not choose dictionaries; the codecs zstd, zstd-patch and similar do. Coders
// are for one goroutine each and keep their memory. Whatever a decoder is given,
// it fills exactly what it was asked to, or returns an error.
package zstddict

import (
	"fmt"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// MaxLevel is the highest level, as of the zstd program.
const MaxLevel = 22

// Encoder makes frames. With dictionaries it holds, at the levels 1, 3, 7 and 11,
// 1, 4, 10 and 80 MiB, and twice the largest content with its dictionary.
type Encoder struct {
	plain, dict *zstd.Encoder // nil until they are used
	options     []zstd.EOption
	out         appender
	window      int
}

// appender is a slice that can be written to.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// NewEncoder returns an encoder for content and dictionaries of at most window
// bytes together. Level is 1 to 22, of which 1, 3, 7 and 11 differ from those
// before; 0 is 3.
func NewEncoder(level, window int) (*Encoder, error) {
	if level < 0 || level > MaxLevel {
		return nil, fmt.Errorf("level %d: levels of zstd are 1 to %d", level, MaxLevel)
	}
	of := zstd.SpeedDefault
	if level > 0 {
		of = zstd.EncoderLevelFromZstd(level)
	}
	// A window that does not hold the dictionary with the content would lose a
	// part of the dictionary without saying so.
	window = max(zstd.MinWindowSize, 1<<bits.Len(uint(window-1)))
	e := &Encoder{window: window, options: []zstd.EOption{
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true),
		zstd.WithEncoderLevel(of), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true),
	}}
	return e, e.open(&e.plain, nil)
}

// open makes a writer unless it is there.
func (e *Encoder) open(w **zstd.Encoder, dict []byte) error {
	if *w != nil {
		return nil
	}
	options := e.options
	if dict != nil {
		options = append(options[:len(options):len(options)], zstd.WithEncoderDictRaw(0, dict))
	}
	var err error
	if *w, err = zstd.NewWriter(nil, options...); err != nil {
		return fmt.Errorf("new zstd encoder: %w", err)
	}
	return nil
}

// Encode appends to dst the frame of content, which is not empty. Dict, which may
// be empty, is not kept.
func (e *Encoder) Encode(dst, content, dict []byte) ([]byte, error) {
	if len(content)+len(dict) > e.window {
		return dst, fmt.Errorf("zstd: %d bytes with a dictionary of %d: the window is of %d", len(content), len(dict), e.window)
	}
	if len(dict) == 0 {
		return e.plain.EncodeAll(content, dst), nil
	}
	if err := e.open(&e.dict, dict); err != nil {
		return dst, err
	}
	// Note: EncodeAll would have another coder than ResetWithOptions prepares, and
	// build the dictionary's tables a second time.
	e.out.b = dst
	defer func() { e.out.b = nil }()
	if err := e.dict.ResetWithOptions(&e.out, zstd.WithEncoderDictRaw(0, dict)); err != nil {
		return dst, fmt.Errorf("zstd: %w", err)
	}
	if _, err := e.dict.Write(content); err != nil {
		return dst, fmt.Errorf("zstd: %w", err)
	}
	if err := e.dict.Close(); err != nil {
		return dst, fmt.Errorf("zstd: %w", err)
	}
	return e.out.b, nil
}

// Decoder takes frames apart. It decodes into the caller's memory; its own is
// some 1 MiB.
type Decoder struct{ reader *zstd.Decoder }

// maxWindow is the largest window that a frame may state, that of the zstd
// program by default. It costs nothing: the window is in the caller's memory and
// the dictionary.
const maxWindow = 128 << 20

// NewDecoder returns a decoder.
func NewDecoder() (*Decoder, error) {
	// The option of the memory would bound the window too, which covers more than
	// the content: what bounds the content is the capacity of its slice.
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("new zstd decoder: %w", err)
	}
	return &Decoder{r}, nil
}

// Decode fills dst, which is not empty, with what the frame holds, given the
// dictionary it was made with.
func (d *Decoder) Decode(dst, frame, dict []byte) error {
	option := zstd.WithDecoderDictDelete(0)
	if len(dict) > 0 {
		option = zstd.WithDecoderDictRaw(0, dict)
	}
	if err := d.reader.ResetWithOptions(nil, option); err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	out, err := d.reader.DecodeAll(frame, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	if len(out) != len(dst) {
		return fmt.Errorf("zstd: %d bytes for an extent of %d", len(out), len(dst))
	}
	if &out[0] != &dst[0] {
		copy(dst, out)
	}
	return nil
}
