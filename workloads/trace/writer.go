// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"zumastor.org/zumastor/workloads"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header says what a trace is of.
type Header struct {
	Name        string // one word
	Description string // how the trace was made: commands, versions, file system
	Size        int64  // bytes of the recorded device
	BlockSize   int    // its logical block size in bytes
}

func (h Header) check() error {
	switch {
	case h.Name == "" || len(h.Name) > maxName || !utf8.ValidString(h.Name):
		return fmt.Errorf("trace name %.40q is not 1 to %d bytes of UTF-8", h.Name, maxName)
	case len(h.Description) > maxDescription || !utf8.ValidString(h.Description):
		return fmt.Errorf("description of trace %s is not UTF-8 of at most %d bytes", h.Name, maxDescription)
	case h.Size <= 0 || h.Size%workloads.SectorSize != 0:
		return fmt.Errorf("device size %d of trace %s is not a positive multiple of %d", h.Size, h.Name, workloads.SectorSize)
	case h.BlockSize < workloads.SectorSize || h.BlockSize > 1<<20 || h.BlockSize&(h.BlockSize-1) != 0:
		return fmt.Errorf("block size %d of trace %s is not a power of two from %d to 1 MiB", h.BlockSize, h.Name, workloads.SectorSize)
	}
	return nil
}

func (h Header) encode() []byte {
	b := make([]byte, 0, headerFixed+len(h.Name)+len(h.Description)+sumSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Description)))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Size))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.BlockSize))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, h.Name...)
	b = append(b, h.Description...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// deltas is what the coding of an op refers back to.
type deltas struct {
	end  int64 // bytes: the end of the op before
	lens [workloads.Kinds]int64
}

func (d *deltas) advance(op workloads.Op) {
	if op.Kind != workloads.Flush {
		d.end = op.End()
		d.lens[op.Kind] = op.Len
	}
}

// Writer writes a trace. Nothing is a trace until Close has returned nil.
type Writer struct {
	w       io.Writer
	zstd    *zstd.Encoder
	size    int64
	frame   []byte // records of the frame under way
	inFrame uint32
	total   uint32
	marks   int
	deltas  deltas
	err     error // the first
}

// NewWriter writes the header to w. The caller closes w after the Writer.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("writing trace %s: %w", h.Name, err)
	}
	if _, err := w.Write(h.encode()); err != nil {
		return nil, fmt.Errorf("writing trace %s: %w", h.Name, err)
	}
	return &Writer{w: w, zstd: z, size: h.Size}, nil
}

// Op appends one op. Its gap is rounded to microseconds.
func (w *Writer) Op(op workloads.Op) error {
	if w.err != nil {
		return w.err
	}
	if w.err = op.Check(w.size); w.err != nil {
		return w.err
	}
	if int(w.total)-w.marks == MaxOps {
		return w.fail(fmt.Errorf("more than %d ops", MaxOps))
	}
	w.frame = w.deltas.append(w.frame, op)
	w.deltas.advance(op)
	return w.added()
}

func (d *deltas) append(b []byte, op workloads.Op) []byte {
	at := len(b)
	b = append(b, byte(op.Kind))
	if op.FUA {
		b[at] |= tagFUA
	}
	if op.Kind != workloads.Flush {
		if op.Off == d.end {
			b[at] |= tagFollows
		} else {
			b = binary.AppendVarint(b, (op.Off-d.end)/workloads.SectorSize)
		}
		if op.Len == d.lens[op.Kind] {
			b[at] |= tagSameLen
		} else {
			b = binary.AppendUvarint(b, uint64(op.Len/workloads.SectorSize))
		}
	}
	if us := op.Gap.Round(time.Microsecond).Microseconds(); us != 0 {
		b[at] |= tagGap
		b = binary.AppendUvarint(b, uint64(us))
	}
	return b
}

// Mark names the place between the ops before and those behind.
func (w *Writer) Mark(name string) error {
	if w.err != nil {
		return w.err
	}
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return w.fail(fmt.Errorf("mark %.40q is not 1 to %d bytes of UTF-8", name, maxName))
	}
	if w.marks == MaxMarks {
		return w.fail(fmt.Errorf("more than %d marks", MaxMarks))
	}
	w.marks++
	w.frame = append(w.frame, tagMark)
	w.frame = binary.AppendUvarint(w.frame, uint64(len(name)))
	w.frame = append(w.frame, name...)
	return w.added()
}

// maxRecord is above the length of any record.
const maxRecord = 512

func (w *Writer) added() error {
	w.inFrame++
	w.total++
	if len(w.frame) > maxFrame-maxRecord {
		return w.flush()
	}
	return nil
}

func (w *Writer) flush() error {
	payload := w.zstd.EncodeAll(w.frame, nil)
	if err := w.writeFrame(payload, len(w.frame), w.inFrame); err != nil {
		return err
	}
	w.frame, w.inFrame, w.deltas = w.frame[:0], 0, deltas{}
	return nil
}

func (w *Writer) writeFrame(payload []byte, raw int, records uint32) error {
	b := make([]byte, 0, frameFixed+len(payload)+sumSize)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, uint32(raw))
	b = binary.LittleEndian.AppendUint32(b, records)
	b = append(b, payload...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := w.w.Write(b); err != nil {
		return w.fail(err)
	}
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = fmt.Errorf("writing trace: %w", err)
	return w.err
}

// Close writes what is left and the end of the trace. It does not close the
// underlying writer. Further calls of any method fail.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.inFrame > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := w.writeFrame(nil, 0, w.total); err != nil {
		return err
	}
	w.err = errors.New("trace is closed")
	return w.zstd.Close()
}
