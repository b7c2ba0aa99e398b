// SPDX-License-Identifier: Apache-2.0

package similar

import "encoding/binary"

const (
	// minJump is the shortest copy from another place than where the one before
	// goes on: it costs some 5 bytes.
	minJump = 32
	// patience is how many bytes may differ before a way through the base, at a
	// fixed distance from the content, is given up.
	patience = 64
	// regret is the longest copy that a later one, which covers it, replaces.
	regret = 4096
)

// matcher finds the copies of an extent. Its memory is 4 MiB for pages, and 24
// bytes for each 16 of the extent at worst.
type matcher struct {
	pages   pages
	content []byte
	offset  int64
	same    []copyOp // from the same place
	out     []copyOp // chosen
	found   []candidate
}

// match returns the copies in the order of the content, without overlaps. They
// are valid until the next call.
func (m *matcher) match(content []byte, offset int64, same []byte, base Base, index *Index) ([]copyOp, error) {
	m.pages.start(base, offset, same, len(content))
	m.content, m.offset = content, offset
	m.out, m.found = m.out[:0], m.found[:0]
	m.same = m.same[:0]
	for at := 0; at < len(same); {
		c, ok := m.run(at, len(same), offset, len(same))
		if !ok {
			break
		}
		m.same = append(m.same, c)
		at = c.end()
	}
	if index != nil {
		m.search(index)
	}
	next := 0
	for _, c := range m.found {
		next = m.try(c, next)
	}
	m.out = append(m.out, m.same[next:]...)
	return m.out, m.pages.err
}

// search finds candidates for what does not stand at the same place.
func (m *matcher) search(index *Index) {
	at := 0
	for _, c := range m.same {
		if c.at-at >= minJump {
			m.found = index.find(m.found, m.content, at, min(len(m.content), c.at+window/2))
		}
		at = c.end()
	}
	if at < len(m.content) {
		m.found = index.find(m.found, m.content, at, len(m.content))
	}
}

// run returns the first copy in content[at:to] along the way by which content
// stands at distance in the base, if it begins within so many bytes.
func (m *matcher) run(at, to int, distance int64, within int) (copyOp, bool) {
	for stop := min(to, at+within); at < stop; {
		b := m.pages.from(distance + int64(at))
		if len(b) == 0 {
			break
		}
		b = b[:min(len(b), stop-at)]
		skip := different(m.content[at:at+len(b)], b)
		at += skip
		if skip == len(b) {
			continue
		}
		n := m.pages.forward(m.content[at:to], distance+int64(at))
		if n >= minCopy {
			return copyOp{at, n, distance + int64(at)}, true
		}
		at += max(n, 1)
	}
	return copyOp{}, false
}

// different returns after how many bytes a and b, of one length, have eight in
// common, or the last ones.
func different(a, b []byte) int {
	i := 0
	for ; i+8 <= len(a); i++ {
		if binary.LittleEndian.Uint64(a[i:]) == binary.LittleEndian.Uint64(b[i:]) {
			return i
		}
	}
	return len(a) - equalBack(a[i:], b[i:])
}

// try takes the candidate if it makes a copy, with what else is found along its
// way. Copies from the same place before number next are settled; it returns the
// new number.
func (m *matcher) try(c candidate, next int) int {
	for next < len(m.same) && m.same[next].at < c.end {
		m.out = append(m.out, m.same[next])
		next++
	}
	begin, low := 0, 0 // of the gap, and of what may be replaced
	if k := len(m.out) - 1; k >= 0 {
		begin, low = m.out[k].end(), m.out[k].end()
		if m.out[k].n <= regret {
			low = m.out[k].at
		}
	}
	if begin >= c.end {
		return next
	}
	distance := c.place - int64(c.end)
	from := c.end - m.pages.backward(m.content[low:c.end], c.place)
	to := c.end + m.pages.forward(m.content[c.end:], c.place)
	replaces := low < begin && from == low
	if !replaces {
		from = max(from, begin)
	}
	eaten := next
	for eaten < len(m.same) && m.same[eaten].end() <= to {
		eaten++
	}
	if eaten < len(m.same) {
		to = min(to, m.same[eaten].at)
	}
	if to-from < minJump {
		return next
	}
	if replaces {
		m.out = m.out[:len(m.out)-1]
	} else {
		m.along(begin, from, distance)
	}
	m.out = append(m.out, copyOp{from, to - from, distance + int64(from)})
	limit := len(m.content)
	if eaten < len(m.same) {
		limit = m.same[eaten].at
	}
	m.along(to, limit, distance)
	return eaten
}

// along takes the copies on a way, until too much differs.
func (m *matcher) along(at, to int, distance int64) {
	for at < to {
		c, ok := m.run(at, to, distance, patience)
		if !ok {
			return
		}
		m.out = append(m.out, c)
		at = c.end()
	}
}
