// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"io"
	"math"
)

// kind is what is known of an extent before it is coded. Extents of a kind are
// expected to fare alike.
type kind struct {
	entropy int // 0 to 3, of the bytes: up to 2, 5, 7.5 and 8 bits
	same    int // 0 to 2: of its blocks none, some, most are the base's at the same place
	found   int // 0 to 2: of its samples none, some, most are found in the base
}

const kinds = 4 * 3 * 3

func (k kind) number() int { return (k.entropy*3+k.same)*3 + k.found }

// look is how a kind is judged: by some 64 KiB of the extent at most.
const (
	lookBlock = 64       // bytes compared, and counted
	lookMost  = 64 << 10 // bytes looked at
)

// judge returns the kind of content, given the base at the same place and how
// many of how many samples were found.
func judge(content, same []byte, found, samples int) kind {
	var counts [256]int
	looked, equal := 0, 0
	step := max(lookBlock, len(content)/(lookMost/lookBlock))
	for at := 0; at < len(content); at += step {
		block := content[at:min(at+lookBlock, len(content))]
		for _, c := range block {
			counts[c]++
		}
		looked++
		if at+len(block) <= len(same) && bytes.Equal(block, same[at:at+len(block)]) {
			equal++
		}
	}
	k := kind{same: share(equal, looked), found: share(found, samples)}
	for _, limit := range []float64{2, 5, 7.5} {
		if entropy(&counts) > limit {
			k.entropy++
		}
	}
	return k
}

// share returns 0 for none, 1 for some, 2 for most.
func share(n, of int) int {
	switch {
	case n*16 <= of:
		return 0
	case n*2 <= of:
		return 1
	}
	return 2
}

// entropy returns the bits a byte by the counts of bytes alone.
func entropy(counts *[256]int) float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	bits := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(total)
			bits -= p * math.Log2(p)
		}
	}
	return bits
}

// held is a base of which a part is at hand.
type held struct {
	Base
	from int64
	b    []byte
}

// ReadAt reads as the base does.
func (h *held) ReadAt(p []byte, at int64) (int, error) {
	if d := at - h.from; d >= 0 && d+int64(len(p)) <= int64(len(h.b)) {
		return copy(p, h.b[d:]), nil
	}
	n, err := h.Base.ReadAt(p, at)
	if n == len(p) && err == io.EOF {
		err = nil
	}
	return n, err
}
