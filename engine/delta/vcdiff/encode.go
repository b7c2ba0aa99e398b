// SPDX-License-Identifier: Apache-2.0

package vcdiff

import (
	"encoding/binary"
	"hash/adler32"
	"math/bits"
)

const (
	hashBits   = 17
	hashBytes  = 6  // bytes of the shortest match that is looked for
	chain      = 16 // places that are compared at most
	goodMatch  = 64 // bytes of a match that ends the search
	leastRun   = 12
	alongLeast = 4 // bytes of the shortest copy at the distance of the one before
)

// Encoder makes deltas. It holds 1 MiB, and 6 times source and content together.
type Encoder struct {
	u        []byte  // source, then content
	heads    []int32 // by hash the last place in u and 1
	previous []int32 // by place the one before it and 1, of the same hash
	indexed  int

	source                 int // bytes
	list                   []step
	data, codes, addresses []byte
	cache                  cache
}

// step is an instruction of the delta.
type step struct {
	instruction        // size is not used
	n           int    // bytes
	address     []byte // as coded, of a copy
}

// NewEncoder returns an encoder.
func NewEncoder() *Encoder { return &Encoder{heads: make([]int32, 1<<hashBits)} }

// Encode appends to dst a delta of one window that makes content of source. It
// takes up to 16 MiB of each, which xdelta3 takes in one window.
func (e *Encoder) Encode(dst, content, source []byte) []byte {
	e.start(content, source)
	e.search()
	e.write()
	dst = append(append(dst, magic[:]...), 0)
	indicator := byte(windowAdler)
	if len(source) > 0 {
		indicator |= windowSource
	}
	dst = append(dst, indicator)
	if len(source) > 0 {
		dst = appendNumber(appendNumber(dst, len(source)), 0)
	}
	head := append(appendNumber(nil, len(content)), 0)
	for _, s := range [][]byte{e.data, e.codes, e.addresses} {
		head = appendNumber(head, len(s))
	}
	head = binary.BigEndian.AppendUint32(head, adler32.Checksum(content))
	dst = appendNumber(dst, len(head)+len(e.data)+len(e.codes)+len(e.addresses))
	dst = append(append(dst, head...), e.data...)
	return append(append(dst, e.codes...), e.addresses...)
}

func (e *Encoder) start(content, source []byte) {
	e.u = append(append(e.u[:0], source...), content...)
	if len(e.previous) < len(e.u) {
		e.previous = make([]int32, len(e.u))
	}
	clear(e.heads)
	e.source, e.indexed, e.cache = len(source), 0, cache{}
	e.list, e.data, e.codes, e.addresses = e.list[:0], e.data[:0], e.codes[:0], e.addresses[:0]
}

func (e *Encoder) hash(at int) uint32 {
	v := uint64(binary.LittleEndian.Uint32(e.u[at:])) | uint64(binary.LittleEndian.Uint16(e.u[at+4:]))<<32
	return uint32(v * 0x9e3779b97f4a7c15 >> (64 - hashBits))
}

// index makes the places before to findable.
func (e *Encoder) index(to int) {
	for to = min(to, len(e.u)-hashBytes+1); e.indexed < to; e.indexed++ {
		h := &e.heads[e.hash(e.indexed)]
		e.previous[e.indexed] = *h
		*h = int32(e.indexed) + 1
	}
}

// match returns how many bytes at place and at are the same. Copies from the
// source end with it, since xdelta3 refuses those that go on in the target.
func (e *Encoder) match(place, at int) int {
	n := len(e.u) - at
	if place < e.source {
		n = min(n, e.source-place)
	}
	i := 0
	for ; i+8 <= n; i += 8 {
		if d := binary.LittleEndian.Uint64(e.u[place+i:]) ^ binary.LittleEndian.Uint64(e.u[at+i:]); d != 0 {
			return i + bits.TrailingZeros64(d)/8
		}
	}
	for ; i < n && e.u[place+i] == e.u[at+i]; i++ {
	}
	return i
}

// find returns the longest match for what stands at a place of the content, and
// prefers the given distance.
func (e *Encoder) find(at, distance int) (place, n int) {
	if p := at - distance; distance > 0 && p >= 0 {
		if n = e.match(p, at); n >= alongLeast {
			place = p
		} else {
			n = 0
		}
	}
	if n >= goodMatch || at+hashBytes > len(e.u) {
		return place, n
	}
	e.index(at)
	least := max(hashBytes, n+2)
	for p, tries := int(e.heads[e.hash(at)])-1, 0; p >= 0 && tries < chain; p, tries = int(e.previous[p])-1, tries+1 {
		if m := e.match(p, at); m >= least {
			place, n, least = p, m, m+1
			if m >= goodMatch {
				break
			}
		}
	}
	return place, n
}

// search makes the list of instructions.
func (e *Encoder) search() {
	distance := e.source // the same place
	literal := e.source  // begin of what no copy holds
	for at := e.source; at < len(e.u); {
		if n := e.runAt(at); n >= leastRun && (distance == 0 || e.match(at-distance, at) <= n) {
			e.literals(literal, at)
			e.list = append(e.list, step{instruction: instruction{kind: run}, n: n})
			e.data = append(e.data, e.u[at])
			at += n
			literal = at
			continue
		}
		place, n := e.find(at, distance)
		if n == 0 {
			at++
			continue
		}
		if n < goodMatch && at+1 < len(e.u) {
			if p, m := e.find(at+1, distance); m > n+1 {
				at, place, n = at+1, p, m
			}
		}
		e.literals(literal, at)
		distance = at - place
		mode, address := e.address(place, at)
		e.list = append(e.list, step{instruction{kind: copyFrom, mode: mode}, n, address})
		at += n
		literal = at
	}
	e.literals(literal, len(e.u))
}

// runAt returns how often the byte at a place is repeated.
func (e *Encoder) runAt(at int) int {
	n := 1
	for at+n < len(e.u) && e.u[at+n] == e.u[at] {
		n++
	}
	return n
}

func (e *Encoder) literals(from, to int) {
	if from < to {
		e.list = append(e.list, step{instruction: instruction{kind: add}, n: to - from})
		e.data = append(e.data, e.u[from:to]...)
	}
}

// address returns the shortest form of an address.
func (e *Encoder) address(place, here int) (mode uint8, coded []byte) {
	defer e.cache.update(place)
	if slot := place % len(e.cache.same); e.cache.same[slot] == place {
		return uint8(sameMode + slot/256), []byte{byte(slot % 256)}
	}
	value := place
	if d := here - place; numberLength(d) < numberLength(value) {
		mode, value = 1, d
	}
	for i, near := range e.cache.near {
		if d := place - near; d >= 0 && numberLength(d) < numberLength(value) {
			mode, value = uint8(nearMode+i), d
		}
	}
	return mode, appendNumber(nil, value)
}

// codeOf returns the code of one or two instructions of these sizes, by the
// table.
var codeOf = func() map[[2]instruction]byte {
	codes := map[[2]instruction]byte{}
	for i, entry := range table {
		codes[entry] = byte(i)
	}
	return codes
}()

// sized returns the instruction with its size, where that is small.
func (s step) sized() instruction {
	i := s.instruction
	if s.n <= 18 {
		i.size = uint8(s.n)
	}
	return i
}

// write makes codes and addresses of the list.
func (e *Encoder) write() {
	for k := 0; k < len(e.list); k++ {
		s := e.list[k]
		e.addresses = append(e.addresses, s.address...)
		if k+1 < len(e.list) {
			next := e.list[k+1]
			if code, ok := codeOf[[2]instruction{s.sized(), next.sized()}]; ok && s.n <= 18 && next.n <= 18 {
				e.codes = append(e.codes, code)
				e.addresses = append(e.addresses, next.address...)
				k++
				continue
			}
		}
		if code, ok := codeOf[[2]instruction{s.sized()}]; ok && s.n <= 18 && s.kind != run {
			e.codes = append(e.codes, code)
			continue
		}
		e.codes = append(e.codes, codeOf[[2]instruction{s.instruction}])
		e.codes = appendNumber(e.codes, s.n)
	}
}
