// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

var le = binary.LittleEndian

// Hello is the first message of a client:
//
//	0 magic u64   8 least version u16   10 greatest version u16   12 lock u32   16 features u64
type Hello struct {
	Min, Max uint16
	Lock     uint32 // the byte of the store device that says that the client lives; 0: it has none
	Features uint64 // that the client knows
}

// The features, of which both sides must know one before it is used.
const (
	FeatureFit     = 1 // TypeFit
	FeatureManage  = 2 // TypeManage
	FeatureRestore = 4 // the client carries out restores of the origin
	FeatureHold    = 8 // it holds its writes, and reads as TypeMapRestoring says, while the server does
)

// AppendHello codes h.
func AppendHello(dst []byte, h Hello) []byte {
	dst = le.AppendUint64(dst, Magic)
	dst = le.AppendUint16(dst, h.Min)
	dst = le.AppendUint16(dst, h.Max)
	dst = le.AppendUint32(dst, h.Lock)
	return le.AppendUint64(dst, h.Features)
}

// DecodeHello is the reverse of [AppendHello].
func DecodeHello(p []byte) (h Hello, err error) {
	d := decoder{p: p}
	d.require(d.uint64() == Magic)
	h.Min, h.Max = d.uint16(), d.uint16()
	h.Lock = d.uint32()
	h.Features = d.uint64()
	d.require(h.Min <= h.Max)
	return h, d.end("hello")
}

// Welcome is the server's reply:
//
//	0 magic u64   8 version u16   10 zero 6   16 features u64   24 uuid of the store 16
type Welcome struct {
	Version  uint16
	Features uint64 // that both sides know
	UUID     layout.UUID
}

// AppendWelcome codes w.
func AppendWelcome(dst []byte, w Welcome) []byte {
	dst = le.AppendUint64(dst, Magic)
	dst = le.AppendUint16(dst, w.Version)
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	dst = le.AppendUint64(dst, w.Features)
	return append(dst, w.UUID[:]...)
}

// DecodeWelcome is the reverse of [AppendWelcome].
func DecodeWelcome(p []byte) (w Welcome, err error) {
	d := decoder{p: p}
	d.require(d.uint64() == Magic)
	w.Version = d.uint16()
	d.zero(6)
	w.Features = d.uint64()
	copy(w.UUID[:], d.bytes(16))
	return w, d.end("welcome")
}

// AppendNumbers codes the bodies that are a few numbers, each of 64 bits: Want (one),
// Handle (one), Range (first chunk, chunk after the last), HandleRange (handle and
// range; of MapRestoring, generation and range), HandleWant (handle and number),
// Position (place and sequence number), Fit (a size in bytes).
func AppendNumbers(dst []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		dst = le.AppendUint64(dst, n)
	}
	return dst
}

// DecodeNumbers reads as many numbers as there are places for.
func DecodeNumbers(p []byte, numbers ...*uint64) error {
	d := decoder{p: p}
	for _, n := range numbers {
		*n = d.uint64()
	}
	return d.end("numbers")
}

// AppendPosition codes a position of a log.
func AppendPosition(dst []byte, p layout.Position) []byte { return AppendNumbers(dst, p.Place, p.Seq) }

// DecodePosition is the reverse of [AppendPosition].
func DecodePosition(p []byte) (pos layout.Position, err error) {
	d := decoder{p: p}
	pos = d.position()
	return pos, d.end("position")
}

func (d *decoder) position() layout.Position {
	return layout.Position{Place: d.uint64(), Seq: d.uint64()}
}

// AppendRuns codes runs of slots:
//
//	0 number u32   4 zero u32   8 runs: first slot u64, number of slots u64
func AppendRuns(dst []byte, runs []layout.SlotRun) []byte {
	dst = le.AppendUint32(dst, uint32(len(runs)))
	dst = le.AppendUint32(dst, 0)
	for _, r := range runs {
		dst = AppendNumbers(dst, uint64(r.First), r.Len)
	}
	return dst
}

// DecodeRuns appends the runs to dst.
func DecodeRuns(p []byte, dst []layout.SlotRun) ([]layout.SlotRun, error) {
	d := decoder{p: p}
	dst = d.runs(dst)
	return dst, d.end("runs of slots")
}

func (d *decoder) runs(dst []layout.SlotRun) []layout.SlotRun {
	for range d.count(MaxRuns, 16) {
		r := layout.SlotRun{First: block.Slot(d.uint64()), Len: d.uint64()}
		d.require(r.Len > 0 && uint64(r.First)+r.Len > uint64(r.First) && uint64(r.First)+r.Len < 1<<63)
		dst = append(dst, r)
	}
	return dst
}

// AppendReport codes the report of a batch:
//
//	0 place u64, 8 sequence number u64 of the batch after it   16 slot of its descriptor u64
//	24 flags u32: 1 it has a descriptor   28 zero u32   32 the batch, as the body of its record
func AppendReport(dst []byte, b Batch) []byte {
	dst = AppendPosition(dst, b.Position)
	dst = le.AppendUint64(dst, uint64(b.Head))
	flags := uint32(0)
	if b.HasHead {
		flags = 1
	}
	dst = le.AppendUint32(dst, flags)
	dst = le.AppendUint32(dst, 0)
	return layout.AppendBatch(dst, b.Batch)
}

// DecodeReport is the reverse of [AppendReport]. It reads the batch into the one that is
// given, whose memory it uses again.
func DecodeReport(p []byte, batch *layout.Batch) (b Batch, err error) {
	d := decoder{p: p}
	b.Position = d.position()
	b.Head = block.Slot(d.uint64())
	b.HasHead = d.flags(1) != 0
	d.zero(4)
	rest := d.p
	d.p = nil
	if err := d.end("report"); err != nil {
		return b, err
	}
	if err := batch.Decode(rest); err != nil {
		return b, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	b.Batch = batch
	return b, nil
}

// AppendBitmap codes which chunks of [first, end) are in the ascending list: bit i%64
// of word i/64 for chunk first+i.
//
//	0 number of chunks u32   4 zero u32   8 words u64
func AppendBitmap(dst []byte, first, end block.Chunk, chunks []block.Chunk) []byte {
	n := uint32(end - first)
	dst = le.AppendUint32(dst, n)
	dst = le.AppendUint32(dst, 0)
	at := len(dst)
	dst = append(dst, make([]byte, 8*((n+63)/64))...)
	for _, c := range chunks {
		i := uint64(c - first)
		dst[at+int(i/8)] |= 1 << (i % 8)
	}
	return dst
}

// DecodeBitmap appends the chunks of the bitmap of [first, end) to dst.
func DecodeBitmap(p []byte, first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	d := decoder{p: p}
	n := uint64(end - first)
	d.require(first <= end && n <= MaxUnsettled && uint64(d.uint32()) == n)
	d.zero(4)
	if !d.bad {
		for i := uint64(0); i < n; i += 64 {
			word := d.uint64()
			d.require(n-i >= 64 || word>>(n-i) == 0)
			for ; word != 0; word &= word - 1 {
				dst = append(dst, first+block.Chunk(i)+block.Chunk(bits.TrailingZeros64(word)))
			}
		}
	}
	return dst, d.end("bitmap")
}
