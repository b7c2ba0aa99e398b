// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/similar"
)

// Parts that make and apply deltas between images, so that the memory of each is that
// of a process.
const (
	EncodePart = "delta-encode" // OLD NEW DELTA CODEC LEVEL EXTENT LINK
	ApplyPart  = "delta-apply"  // OLD NEW DELTA OUTPUT
)

// BestCodec is the name of the chooser in arguments of EncodePart.
const BestCodec = "best"

// DeltaReport is what making or applying a delta took.
type DeltaReport struct {
	Seconds   float64 // that passed
	Content   int64   // bytes that changed
	Extents   int     // runs of changed chunks, within the bound of extents
	Coded     int64   // bytes of the delta
	PeakBytes int64   // the most memory that the process ever had
}

// RunDelta runs a part of deltas in a process of its own.
func RunDelta(ctx context.Context, program []string, args ...string) (r DeltaReport, err error) {
	cmd := exec.CommandContext(ctx, program[0], slices.Concat(program[1:], []string{PartCommand}, args)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%q: %w: %s", args, err, errs.Bytes())
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("reading a delta's report: %w", err)
	}
	return r, nil
}

// deltaChunk is the chunk size that images have.
const deltaChunk = 4096

// image is a file as content.
type image struct {
	*os.File
	size int64
}

func openImage(path string, flags int) (*image, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &image{f, st.Size()}, nil
}

// Size implements delta.Content.
func (i *image) Size() int64 { return i.size }

// Flush implements delta.Receiver; what coding costs is measured without the disk.
func (i *image) Flush() error { return nil }

// Zero implements delta.Receiver.
func (i *image) Zero(off, n int64) error {
	zeroes := make([]byte, min(n, 1<<20))
	for n > 0 {
		p := zeroes[:min(n, int64(len(zeroes)))]
		if _, err := i.WriteAt(p, off); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// ChangedExtents returns the runs of chunks in which images of one size differ, as a
// store's index lists them.
func ChangedExtents(from, to string) (list []delta.Extent, err error) {
	a, err := openImage(from, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := openImage(to, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < b.size; off += int64(len(y)) {
		n, err := io.ReadFull(io.NewSectionReader(b, off, b.size-off), y)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		if _, err := io.ReadFull(io.NewSectionReader(a, off, int64(n)), x[:n]); err != nil {
			return nil, err
		}
		for at := 0; at < n; at += deltaChunk {
			end := min(at+deltaChunk, n)
			if bytes.Equal(x[at:end], y[at:end]) {
				continue
			}
			if k := len(list) - 1; k >= 0 && list[k].Offset+list[k].Length == off+int64(at) {
				list[k].Length += int64(end - at)
			} else {
				list = append(list, delta.Extent{Offset: off + int64(at), Length: int64(end - at)})
			}
		}
	}
	return list, nil
}

// encodeImages is EncodePart.
func encodeImages(ctx context.Context, args []string, out io.Writer) (err error) {
	level, err1 := strconv.Atoi(args[4])
	extent, err2 := strconv.Atoi(args[5])
	link, err3 := strconv.ParseFloat(args[6], 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%w: %w", ErrPart, err)
	}
	changed, err := ChangedExtents(args[0], args[1])
	if err != nil {
		return err
	}
	base, err := openImage(args[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	defer base.Close()
	target, err := openImage(args[1], os.O_RDONLY)
	if err != nil {
		return err
	}
	defer target.Close()
	f, err := os.Create(args[2])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	src := delta.Source{Base: base, Target: target, Extents: changed}
	o := delta.EncodeOptions{Header: delta.Header{ChunkSize: deltaChunk, Extent: extent, From: &delta.End{Identity: delta.Identity{Generation: 1}, Size: base.size},
		To: delta.End{Identity: delta.Identity{Generation: 2}, Size: target.size}}}
	began := time.Now()
	var index *similar.Index
	if args[3] == BestCodec || args[3] == codec.Similar.String() {
		if index, err = delta.IndexBase(ctx, src, link); err != nil {
			return err
		}
	}
	if err := chooseCodec(&o, args[3], level, link, index); err != nil {
		return err
	}
	sum, err := delta.Encode(ctx, f, src, o)
	if err != nil {
		return err
	}
	r := DeltaReport{Seconds: time.Since(began).Seconds(), Coded: sum.Bytes}
	return r.write(out, changed, extent)
}

func (r DeltaReport) write(out io.Writer, changed []delta.Extent, extent int) (err error) {
	for _, x := range changed {
		r.Content += x.Length
		r.Extents += int((x.Length + int64(extent) - 1) / int64(extent))
	}
	if r.PeakBytes, err = peakMemory(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

func chooseCodec(o *delta.EncodeOptions, name string, level int, link float64, index *similar.Index) error {
	if name == BestCodec {
		for id := codec.Raw; id <= codec.Similar; id++ {
			o.Codecs = append(o.Codecs, id)
		}
		if link == 0 {
			o.Join = delta.JoinGap
		}
		learned := codec.NewLearned()
		o.Chooser = func() (codec.Chooser, error) {
			return codec.NewBest(codec.BestOptions{Extent: o.Extent, Similar: index, Learned: learned, LinkBitsPerSecond: link, Workers: delta.DefaultWorkers()})
		}
		return nil
	}
	id, err := codec.Parse(name)
	if err != nil {
		return err
	}
	o.Join = delta.JoinFor(id)
	o.Codecs = slices.Compact([]codec.ID{codec.Raw, id})
	o.Chooser = func() (codec.Chooser, error) {
		return codec.NewFixed(id, codec.Options{Level: level, Extent: o.Extent, Similar: index})
	}
	return nil
}

// applyImage is ApplyPart: the output holds what the older image does, and is then
// compared with the newer one.
func applyImage(ctx context.Context, args []string, out io.Writer) error {
	base, err := openImage(args[0], os.O_RDONLY)
	if err != nil {
		return err
	}
	defer base.Close()
	to, err := openImage(args[3], os.O_RDWR)
	if err != nil {
		return err
	}
	defer to.Close()
	f, err := os.Open(args[2])
	if err != nil {
		return err
	}
	defer f.Close()
	began := time.Now()
	r, err := delta.NewReader(f)
	if err != nil {
		return err
	}
	sum, err := delta.Apply(ctx, r, base, to, delta.ApplyOptions{})
	if err != nil {
		return err
	}
	report := DeltaReport{Seconds: time.Since(began).Seconds(), Coded: sum.Bytes}
	if report.PeakBytes, err = peakMemory(); err != nil {
		return err
	}
	differ, err := ChangedExtents(args[3], args[1])
	if err != nil {
		return err
	}
	if len(differ) > 0 {
		return fmt.Errorf("what the delta makes differs from the image at %d places", len(differ))
	}
	return json.NewEncoder(out).Encode(report)
}
