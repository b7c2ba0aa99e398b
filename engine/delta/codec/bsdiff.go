// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"

	"github.com/kr/binarydist"
)

const (
	bsdiffMost = 1 << 20 // bytes of the largest extent: 20 times of it are held

	// Runs of one byte make binarydist's time quadratic: 4 s for a sparse 1 MiB,
	// minutes for 16 MiB. So they are made short on both sides.
	runLeast = 64 // bytes of the shortest run that is
	runKept  = 32 // bytes that stay of it

	// So do other repeats, which are refused.
	repeatWindow  = 32
	repeatsAtMost = 48 // of a window in the base, in the mean
)

// bsdiffEncoder makes payloads of what follows, part of the format:
//
//	uvarint  number of runs that were shortened
//	...      for each the bytes since the end of the one before, as shortened, of
//	         which the last 32 are the run's; and the bytes left out less one:
//	         two uvarints
//	...      a BSDIFF40 patch between base and content as shortened
//
// It is slow, some 4 MB/s, and starts bzip2 three times for each extent, since
// that is what binarydist does. It is here for comparison, and for extents of
// machine code, where it may be the smallest.
type bsdiffEncoder struct {
	bzip2   error // why it cannot be started
	base    []byte
	out     bytes.Buffer
	verify  []byte
	decoder bsdiffDecoder
}

func newBsdiffEncoder() (Encoder, error) {
	_, err := exec.LookPath("bzip2")
	return &bsdiffEncoder{bzip2: err}, nil
}

func (e *bsdiffEncoder) Encode(dst, content []byte, offset int64, base Base) ([]byte, error) {
	if e.bzip2 != nil {
		return dst, unsuitable("bsdiff needs the program bzip2: %v", e.bzip2)
	}
	if len(content) > bsdiffMost {
		return dst, unsuitable("bsdiff: %d bytes, at most %d are taken", len(content), bsdiffMost)
	}
	var err error
	if e.base, err = samePlace(e.base, offset, len(content), base); err != nil {
		return dst, err
	}
	if len(e.base) == 0 {
		return dst, unsuitable("bsdiff: no base at the same place")
	}
	old, _ := shorten(e.base)
	short, runs := shorten(content)
	if n := max(repeats(old, short), repeats(old, old)); n > repeatsAtMost {
		return dst, unsuitable("bsdiff: content repeats itself %d times, which would take very long", n)
	}
	e.out.Reset()
	if err := binarydist.Diff(bytes.NewReader(old), bytes.NewReader(short), &e.out); err != nil {
		return dst, unsuitable("bsdiff: %v", err)
	}
	before := len(dst)
	dst = binary.AppendUvarint(dst, uint64(len(runs)))
	for _, r := range runs {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(r.gap)), uint64(r.left-1))
	}
	dst = append(dst, e.out.Bytes()...)
	return e.verified(dst, before, content)
}

// verified decodes the payload at the end of dst, since what made it is not ours.
func (e *bsdiffEncoder) verified(dst []byte, before int, content []byte) ([]byte, error) {
	e.verify = slices.Grow(e.verify[:0], len(content))[:len(content)]
	if err := e.decoder.decode(e.verify, dst[before:], e.base); err != nil {
		return dst[:before], unsuitable("bsdiff: made a patch that cannot be used: %v", err)
	}
	if !bytes.Equal(e.verify, content) {
		return dst[:before], unsuitable("bsdiff: made a patch that gives other content")
	}
	return dst, nil
}

// run is a run of a byte that was shortened: so many bytes after the one before
// of it were kept, and so many left out.
type run struct{ gap, left int }

// shorten returns b without the most of its long runs.
func shorten(b []byte) (short []byte, runs []run) {
	last := 0
	for at := 0; at < len(b); {
		end := at + 1
		for end < len(b) && b[end] == b[at] {
			end++
		}
		kept := end - at
		if kept >= runLeast {
			kept = runKept
		}
		short = append(short, b[at:at+kept]...)
		if left := end - at - kept; left > 0 {
			runs = append(runs, run{len(short) - last, left})
			last = len(short)
		}
		at = end
	}
	return short, runs
}

// repeats returns how often a window of b stands in old, in the mean.
func repeats(old, b []byte) int {
	const bits = 20
	counts := make([]uint16, 1<<bits)
	windows(old, func(h uint64) {
		if n := &counts[h>>(64-bits)]; *n < 1<<15 {
			*n++
		}
	})
	sum, n := 0, 0
	windows(b, func(h uint64) {
		sum += int(counts[h>>(64-bits)])
		n++
	})
	return sum / max(n, 1)
}

// windows calls f with a hash of each window of b.
func windows(b []byte, f func(h uint64)) {
	const factor = 0x9e3779b97f4a7c15
	out := uint64(1) // factor to the power of the window
	for range repeatWindow {
		out *= factor
	}
	var h uint64
	for i, c := range b {
		h = h*factor + uint64(c) + 1
		if i >= repeatWindow {
			h -= out * (uint64(b[i-repeatWindow]) + 1)
		}
		if i >= repeatWindow-1 {
			f(h * factor)
		}
	}
}

// bsdiffDecoder reads patches itself: binarydist's Patch takes lengths on trust,
// and panics or asks for any memory on a hostile patch. It holds the extent three
// times, and bzip2's 11 MiB.
type bsdiffDecoder struct{ base []byte }

func (d *bsdiffDecoder) Decode(dst, coded []byte, offset int64, base Base) error {
	var err error
	if d.base, err = samePlace(d.base, offset, len(dst), base); err != nil {
		return err
	}
	return d.decode(dst, coded, d.base)
}

func (d *bsdiffDecoder) decode(dst, coded, base []byte) error {
	runs, patch, err := parseRuns(coded, len(dst))
	if err != nil {
		return corrupt("bsdiff: %w", err)
	}
	short := len(dst)
	for _, r := range runs {
		short -= r.left
	}
	old, _ := shorten(base)
	content := make([]byte, short)
	if err := bspatch(content, old, patch); err != nil {
		return corrupt("bsdiff: %w", err)
	}
	for _, r := range runs {
		n := copy(dst, content[:r.gap])
		filled := dst[n : n+r.left]
		for i := range filled {
			filled[i] = content[r.gap-1]
		}
		dst, content = dst[n+r.left:], content[r.gap:]
	}
	copy(dst, content)
	return nil
}

// parseRuns returns the runs, which fit into n bytes, and the patch.
func parseRuns(coded []byte, n int) ([]run, []byte, error) {
	number := func() uint64 {
		v, m := binary.Uvarint(coded)
		coded = coded[max(m, 0):]
		if m <= 0 {
			return 1 << 62
		}
		return v
	}
	count := number()
	if count > uint64(n/runLeast) {
		return nil, nil, fmt.Errorf("%d runs in %d bytes", count, n)
	}
	runs := make([]run, count)
	left := uint64(n)
	for i := range runs {
		gap, out := number(), number()
		if gap == 0 || gap > left || out >= left-gap {
			return nil, nil, fmt.Errorf("run of %d bytes after %d in %d", out, gap, left)
		}
		runs[i] = run{int(gap), int(out) + 1}
		left -= gap + out + 1
	}
	return runs, coded, nil
}
