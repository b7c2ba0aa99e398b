// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"cmp"
	"slices"
)

// Numbers of the dictionary's rule: part of the format, must not change.
const (
	dictGap   = 16       // bytes of the shortest gap that has a part in it
	dictSlack = 64       // bytes on both sides of the gap's own place
	dictNear  = 32 << 10 // most bytes after and before a copy
	dictMin   = 64 << 10 // bytes that it may always have
)

// dictionary returns the spans of the base that are the dictionary of the rest,
// in their order in it. It is part of the format: for each gap between copies, of
// at least 16 bytes and in their order,
//
//   - what stands after the end of the copy before the gap, as long as the gap and
//     64 bytes, but at most 32 KiB;
//   - what stands before the begin of the copy after it, likewise;
//   - what stands at the gap's own place, with 64 bytes on both sides;
//
// each as far as the base goes, until they are together half as long again as the
// extent and 64 KiB; of the last one, the begin. Then the spans are sorted, and
// those that touch or overlap are one.
func dictionary(copies []copyOp, n int, offset, size int64) []span {
	var spans []span
	left := int64(n + n/2 + dictMin)
	add := func(from, to int64) {
		from, to = max(from, 0), min(to, size)
		to = min(to, from+left)
		if from < to {
			spans = append(spans, span{from, to})
			left -= to - from
		}
	}
	gap := func(before, after *copyOp, from, to int) {
		if to-from < dictGap {
			return
		}
		near := int64(min(to-from+dictSlack, dictNear))
		if before != nil {
			end := before.from + int64(before.n)
			add(end, end+near)
		}
		if after != nil {
			add(after.from-near, after.from)
		}
		add(offset+int64(from)-dictSlack, offset+int64(to)+dictSlack)
	}
	var before *copyOp
	at := 0
	for i := range copies {
		gap(before, &copies[i], at, copies[i].at)
		before, at = &copies[i], copies[i].end()
	}
	gap(before, nil, at, n)
	return merge(spans)
}

// merge sorts spans and joins those that touch.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	out := spans[:0]
	for _, s := range spans {
		if k := len(out) - 1; k >= 0 && s.from <= out[k].to {
			out[k].to = max(out[k].to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// readDictionary reads the spans into dst's memory.
func readDictionary(dst []byte, spans []span, base Base) ([]byte, error) {
	dst = dst[:0]
	total := 0
	for _, s := range spans {
		total += int(s.to - s.from)
	}
	dst = slices.Grow(dst, total)[:total]
	at := 0
	for _, s := range spans {
		n := int(s.to - s.from)
		if err := readBase(dst[at:at+n], s.from, base); err != nil {
			return dst, err
		}
		at += n
	}
	return dst, nil
}

// maxDictionary returns the largest dictionary of an extent of n bytes.
func maxDictionary(n int) int { return n + n/2 + dictMin }
