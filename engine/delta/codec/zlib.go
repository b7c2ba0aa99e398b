// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
)

// zlibEncoder holds some 1 MiB.
type zlibEncoder struct {
	writer *zlib.Writer
	out    appender
}

// appender is a slice that can be written to.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func newZlibEncoder(o Options) (Encoder, error) {
	level := zlib.DefaultCompression
	if o.Level != 0 {
		level = o.Level
	}
	e := &zlibEncoder{}
	var err error
	if e.writer, err = zlib.NewWriterLevel(&e.out, level); err != nil {
		return nil, fmt.Errorf("new zlib encoder: %w", err)
	}
	return e, nil
}

func (e *zlibEncoder) Encode(dst, content []byte, _ int64, _ Base) ([]byte, error) {
	e.out.b = dst
	defer func() { e.out.b = nil }()
	e.writer.Reset(&e.out)
	if _, err := e.writer.Write(content); err != nil {
		return dst, fmt.Errorf("zlib: %w", err)
	}
	if err := e.writer.Close(); err != nil {
		return dst, fmt.Errorf("zlib: %w", err)
	}
	return e.out.b, nil
}

// zlibDecoder decodes into the caller's memory; its own is some 50 KiB.
type zlibDecoder struct {
	reader io.ReadCloser // nil before the first extent
	in     bytes.Reader
}

func (d *zlibDecoder) Decode(dst, coded []byte, _ int64, _ Base) error {
	d.in.Reset(coded)
	if err := d.reset(); err != nil {
		return corrupt("zlib: %w", err)
	}
	if _, err := io.ReadFull(d.reader, dst); err != nil {
		return corrupt("zlib: %w", err)
	}
	var more [1]byte // the end of the stream holds its checksum
	if n, err := io.ReadFull(d.reader, more[:]); n > 0 {
		return corrupt("zlib: more than %d bytes", len(dst))
	} else if err != io.EOF {
		return corrupt("zlib: %w", err)
	}
	if d.in.Len() > 0 {
		return corrupt("zlib: %d bytes after the stream", d.in.Len())
	}
	return nil
}

func (d *zlibDecoder) reset() error {
	if d.reader != nil {
		return d.reader.(zlib.Resetter).Reset(&d.in, nil)
	}
	r, err := zlib.NewReader(&d.in)
	if err == nil {
		d.reader = r
	}
	return err
}
