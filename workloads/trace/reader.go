// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"zumastor.org/zumastor/workloads"
)

// Mark is a named place in a trace.
type Mark struct {
	Name string
	At   int // the index of the first op behind it
}

// Reader reads a trace as a [workloads.Stream]. Next returns false at the end or
// at the first error; only when Err then returns nil was the trace whole.
type Reader struct {
	r      io.Reader
	zstd   *zstd.Decoder
	header Header
	marks  []Mark
	ops    int

	payload []byte // of the frame under way, compressed
	frame   []byte // what is left of it, decompressed
	raw     []byte // memory of frame
	left    uint32 // records left in it
	total   uint32 // records up to and including it
	deltas  deltas
	err     error // io.EOF at a proper end
}

// NewReader reads the header. The caller closes r; the Reader holds nothing else
// open.
func NewReader(r io.Reader) (*Reader, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, fmt.Errorf("reading trace header: %w", err)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
	if err != nil {
		return nil, fmt.Errorf("reading trace %s: %w", h.Name, err)
	}
	return &Reader{r: r, zstd: z, header: h}, nil
}

func readHeader(r io.Reader) (Header, error) {
	fixed := make([]byte, headerFixed)
	if err := readFull(r, fixed); err != nil {
		return Header{}, err
	}
	if string(fixed[:8]) != magic {
		return Header{}, fmt.Errorf("%w: it does not begin with %q", ErrCorrupt, magic)
	}
	if v := binary.LittleEndian.Uint16(fixed[8:]); v != version {
		return Header{}, fmt.Errorf("%w: version is %d, this program reads %d", ErrCorrupt, v, version)
	}
	n, d := int(binary.LittleEndian.Uint16(fixed[10:])), int64(binary.LittleEndian.Uint32(fixed[12:]))
	if n > maxName || d > maxDescription {
		return Header{}, fmt.Errorf("%w: name of %d or description of %d bytes", ErrCorrupt, n, d)
	}
	rest := make([]byte, n+int(d)+sumSize)
	if err := readFull(r, rest); err != nil {
		return Header{}, err
	}
	text := rest[:len(rest)-sumSize]
	sum := crc32.Update(crc32.Checksum(fixed, castagnoli), castagnoli, text)
	if sum != binary.LittleEndian.Uint32(rest[len(text):]) {
		return Header{}, fmt.Errorf("%w: header checksum does not match", ErrCorrupt)
	}
	h := Header{
		Name:        string(text[:n]),
		Description: string(text[n:]),
		Size:        int64(binary.LittleEndian.Uint64(fixed[16:])),
		BlockSize:   int(binary.LittleEndian.Uint32(fixed[24:])),
	}
	if err := h.check(); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if binary.LittleEndian.Uint32(fixed[28:]) != 0 {
		return Header{}, fmt.Errorf("%w: reserved field is not zero", ErrCorrupt)
	}
	return h, nil
}

// readFull is io.ReadFull for bytes that a whole trace has.
func readFull(r io.Reader, p []byte) error {
	_, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", ErrCorrupt)
	}
	return err
}

// Header returns what the trace says about itself.
func (r *Reader) Header() Header { return r.header }

// Marks returns the marks passed so far.
func (r *Reader) Marks() []Mark { return r.marks }

// Err returns the error that ended the stream, nil at the proper end of the
// trace and before it.
func (r *Reader) Err() error {
	if r.err == nil || r.err == io.EOF {
		return nil
	}
	return fmt.Errorf("reading trace %s after op %d: %w", r.header.Name, r.ops, r.err)
}

// Next implements [workloads.Stream]. Marks are passed over, see [Reader.Marks].
func (r *Reader) Next() (workloads.Op, bool) {
	for r.err == nil {
		if r.left == 0 {
			r.err = r.nextFrame()
			continue
		}
		r.left--
		tag, err := r.byte()
		if err != nil {
			r.err = err
			break
		}
		if tag&tagKind == tagMark {
			r.err = r.mark(tag)
			continue
		}
		op, err := r.op(tag)
		if err != nil {
			r.err = err
			break
		}
		r.ops++
		return op, true
	}
	return workloads.Op{}, false
}

func (r *Reader) nextFrame() error {
	if len(r.frame) != 0 {
		return fmt.Errorf("%w: %d bytes follow a frame's records", ErrCorrupt, len(r.frame))
	}
	fixed := make([]byte, frameFixed)
	if err := readFull(r.r, fixed); err != nil {
		return err
	}
	c, raw := binary.LittleEndian.Uint32(fixed), binary.LittleEndian.Uint32(fixed[4:])
	records := binary.LittleEndian.Uint32(fixed[8:])
	if c > maxPayload || raw > maxFrame {
		return fmt.Errorf("%w: frame of %d bytes, %d decompressed", ErrCorrupt, c, raw)
	}
	if need := int(c) + sumSize; cap(r.payload) < need {
		r.payload = make([]byte, need)
	}
	payload := r.payload[:int(c)+sumSize]
	if err := readFull(r.r, payload); err != nil {
		return err
	}
	sum := crc32.Update(crc32.Checksum(fixed, castagnoli), castagnoli, payload[:c])
	if sum != binary.LittleEndian.Uint32(payload[c:]) {
		return fmt.Errorf("%w: frame checksum does not match", ErrCorrupt)
	}
	if c == 0 {
		return r.end(raw, records)
	}
	return r.open(payload[:c], raw, records)
}

// open decompresses a frame.
func (r *Reader) open(payload []byte, raw, records uint32) error {
	var err error
	if r.raw, err = r.zstd.DecodeAll(payload, r.raw[:0]); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if len(r.raw) != int(raw) || records == 0 || records > raw {
		return fmt.Errorf("%w: frame of %d bytes announces %d and %d records", ErrCorrupt, len(r.raw), raw, records)
	}
	r.frame, r.left, r.deltas = r.raw, records, deltas{}
	r.total += records
	return nil
}

// end judges the end frame.
func (r *Reader) end(raw, records uint32) error {
	if raw != 0 || records != r.total {
		return fmt.Errorf("%w: it ends after %d records, having announced %d", ErrCorrupt, r.total, records)
	}
	var extra [1]byte
	if _, err := io.ReadFull(r.r, extra[:]); err == nil {
		return fmt.Errorf("%w: bytes follow its end", ErrCorrupt)
	} else if err != io.EOF {
		return err
	}
	return io.EOF
}

var errRecord = fmt.Errorf("%w: a record is cut short or its numbers are too large", ErrCorrupt)

func (r *Reader) byte() (byte, error) {
	if len(r.frame) == 0 {
		return 0, errRecord
	}
	b := r.frame[0]
	r.frame = r.frame[1:]
	return b, nil
}

// uvarint reads a number up to limit.
func (r *Reader) uvarint(limit uint64) (uint64, error) {
	v, n := binary.Uvarint(r.frame)
	if n <= 0 || v > limit {
		return 0, errRecord
	}
	r.frame = r.frame[n:]
	return v, nil
}

func (r *Reader) mark(tag byte) error {
	if tag != tagMark {
		return fmt.Errorf("%w: mark has tag %#x", ErrCorrupt, tag)
	}
	if len(r.marks) == MaxMarks {
		return fmt.Errorf("%w: more than %d marks", ErrCorrupt, MaxMarks)
	}
	n, err := r.uvarint(maxName)
	if err != nil {
		return err
	}
	if n == 0 || uint64(len(r.frame)) < n {
		return errRecord
	}
	r.marks = append(r.marks, Mark{Name: string(r.frame[:n]), At: r.ops})
	r.frame = r.frame[n:]
	return nil
}

const (
	maxSectors = uint64(1<<63-1) / workloads.SectorSize
	maxGap     = uint64(24 * time.Hour / time.Microsecond)
)

func (r *Reader) op(tag byte) (workloads.Op, error) {
	op := workloads.Op{Kind: workloads.Kind(tag & tagKind), FUA: tag&tagFUA != 0}
	switch {
	case tag&0x80 != 0 || op.Kind >= workloads.Kinds:
		return op, fmt.Errorf("%w: op has tag %#x", ErrCorrupt, tag)
	case op.Kind == workloads.Flush && tag&(tagFollows|tagSameLen) != 0:
		return op, fmt.Errorf("%w: flush has tag %#x", ErrCorrupt, tag)
	case r.ops == MaxOps:
		return op, fmt.Errorf("%w: more than %d ops", ErrCorrupt, MaxOps)
	}
	if op.Kind != workloads.Flush {
		if err := r.place(&op, tag); err != nil {
			return op, err
		}
	}
	if tag&tagGap != 0 {
		us, err := r.uvarint(maxGap)
		if err != nil {
			return op, err
		}
		op.Gap = time.Duration(us) * time.Microsecond
	}
	if err := op.Check(r.header.Size); err != nil {
		return op, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	r.deltas.advance(op)
	return op, nil
}

// place reads the op's offset and length.
func (r *Reader) place(op *workloads.Op, tag byte) error {
	op.Off, op.Len = r.deltas.end, r.deltas.lens[op.Kind]
	if tag&tagFollows == 0 {
		v, n := binary.Varint(r.frame)
		if n <= 0 || v > int64(maxSectors) || v < -int64(maxSectors) {
			return errRecord
		}
		r.frame = r.frame[n:]
		op.Off += v * workloads.SectorSize // an overflow is negative, which Check refuses
	}
	if tag&tagSameLen == 0 {
		v, err := r.uvarint(maxSectors)
		if err != nil {
			return err
		}
		op.Len = int64(v) * workloads.SectorSize
	}
	return nil
}
