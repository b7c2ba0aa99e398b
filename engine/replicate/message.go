// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
)

// Versions of the protocol that this program speaks.
const (
	minVersion = 1
	maxVersion = 1
)

const helloMagic = "zmrepl\x00\x00"

// Roles of the two sides.
const (
	roleSender   = 1
	roleReceiver = 2
)

// hello is the first frame of either side:
//
//	0   8  magic, "zmrepl\0\0"
//	8   2  first version that it speaks
//	10  2  last version
//	12  1  role: 1 sends, 2 receives
//	13  3  reserved, zero
//	16  4  after how many milliseconds of silence it takes the other side to be gone
//
// Its form is the same in all versions.
type hello struct {
	min, max uint16
	role     uint8
	idle     time.Duration
}

const helloSize = 20

func (h hello) encode() []byte {
	p := append(make([]byte, 0, helloSize), helloMagic...)
	p = binary.LittleEndian.AppendUint16(p, h.min)
	p = binary.LittleEndian.AppendUint16(p, h.max)
	p = append(p, h.role, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(p, uint32(h.idle/time.Millisecond))
}

// Bounds of how long a side waits for a silent peer.
const (
	minIdle = 100 * time.Millisecond
	maxIdle = time.Hour
)

func decodeHello(p []byte) (h hello, err error) {
	if string(p[:8]) != helloMagic {
		return h, fmt.Errorf("%w: it does not begin as one that replicates does", ErrProtocol)
	}
	h = hello{
		min: binary.LittleEndian.Uint16(p[8:]), max: binary.LittleEndian.Uint16(p[10:]), role: p[12],
		idle: time.Duration(binary.LittleEndian.Uint32(p[16:])) * time.Millisecond,
	}
	if h.idle < minIdle || h.idle > maxIdle {
		return h, fmt.Errorf("%w: it waits for %v", ErrProtocol, h.idle)
	}
	return h, nil
}

// meets returns an error unless two sides can talk to each other.
func (h hello) meets(other hello) error {
	switch {
	case max(h.min, other.min) > min(h.max, other.max):
		return fmt.Errorf("%w: here %d to %d, there %d to %d", ErrVersion, h.min, h.max, other.min, other.max)
	case h.role+other.role != roleSender+roleReceiver:
		return fmt.Errorf("%w: both sides are of role %d", ErrProtocol, h.role)
	}
	return nil
}

// Copy names a snapshot for good: the store in which it was made first, and the
// generation that it has there; and as people do.
type Copy struct {
	Store      string           `json:"store_uuid"`
	Generation block.Generation `json:"generation"`
	Tag        block.Tag        `json:"tag"`
	Name       string           `json:"name,omitempty"`
}

// String returns what people call it.
func (c Copy) String() string {
	text := fmt.Sprintf("snapshot %d", c.Tag)
	if c.Name != "" {
		text += fmt.Sprintf(" %q", c.Name)
	}
	return text + fmt.Sprintf(" (generation %d of store %s)", c.Generation, c.Store)
}

// proposal is the snapshot that the sender has.
type proposal struct {
	To     Copy   `json:"to"`
	Size   int64  `json:"size_bytes"`
	Verify string `json:"verify,omitempty"` // the copy is to be compared: how
	Repair bool   `json:"repair,omitempty"` // and repaired
	Digest string `json:"digest,omitempty"` // that it is to have then, if that is known
}

// How a copy is compared. Part of the protocol.
const (
	byDigest  = "digest"  // first the digests that the stores keep, then what differs
	byContent = "content" // sums of all of it
)

// standing is how far the receiver is on the way there.
type standing struct {
	Size     int64  `json:"size_bytes"`
	There    bool   `json:"there"`
	Newest   *Copy  `json:"newest,omitempty"`   // what it has; none: nothing
	Applying string `json:"applying,omitempty"` // the delta that is half applied to that
	Resume   resume `json:"resume"`
	Digest   string `json:"digest,omitempty"` // of the snapshot that is compared by that
}

// resume is how far the receiver remembers to be with a delta.
type resume struct {
	Delta  string `json:"delta,omitempty"`
	Offset int64  `json:"offset_bytes,omitempty"` // all before is durable
}

// Codes of refusals. Part of the protocol.
const (
	CodeBusy    = "busy"    // another session is receiving: try again
	CodeAway    = "away"    // the copy has a server, which does not run: try again
	CodeVersion = "version" // no common version of the protocol
	CodeFull    = "full"    // what the origin holds would be lost
	CodeBase    = "base"    // there is no base that both have
	CodeAbsent  = "absent"  // the snapshot that is to be compared is not there
	CodeError   = "error"   // something failed
)

// Refusal is why the other side ended the session.
type Refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Error returns the text.
func (r *Refusal) Error() string { return "the other side ended it: " + r.Text }

// encodeJSON codes a message. All of its members can be coded.
func encodeJSON(v any) []byte {
	p, _ := json.Marshal(v)
	return p
}

func decodeJSON[T any](p []byte) (v T, err error) {
	if err := json.Unmarshal(p, &v); err != nil {
		return v, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return v, nil
}

// maxText bounds the text of a refusal, in characters: any of them fit a frame.
const maxText = 300

// refusal returns the frame's payload for an error.
func refusal(code string, err error) []byte {
	text := []rune(err.Error())
	return encodeJSON(Refusal{code, string(text[:min(len(text), maxText)])})
}

// decodeRefusal returns the error that ends the session. A terminal may show its text.
func decodeRefusal(p []byte) error {
	r, err := decodeJSON[Refusal](p)
	if err != nil {
		return err
	}
	r.Text = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, r.Text)
	return &r
}

// ack is how far the receiver is, as offsets in the volume. Two numbers of 8 bytes.
type ack struct{ applied, durable int64 }

func (a ack) encode() []byte {
	p := binary.LittleEndian.AppendUint64(nil, uint64(a.applied))
	return binary.LittleEndian.AppendUint64(p, uint64(a.durable))
}

func decodeAck(p []byte) ack {
	return ack{int64(binary.LittleEndian.Uint64(p)), int64(binary.LittleEndian.Uint64(p[8:]))}
}

// probe is a piece of the volume, and the sum that it is to have:
//
//	0   8  offset
//	8   4  length, at most maxPiece
//	12  16 first half of the BLAKE3 of the content
//
// A probe frame has any number of them that fit.
type probe struct {
	delta.Extent
	sum delta.Sum
}

const (
	probeSize = 28
	maxPiece  = pieceSize
)

func (b probe) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.Offset))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Length))
	return append(dst, b.sum[:]...)
}

// decodeProbes returns the pieces of a frame, which are in a volume of size bytes.
func decodeProbes(p []byte, size int64) (list []probe, err error) {
	if len(p)%probeSize != 0 {
		return nil, fmt.Errorf("%w: probe of %d bytes", ErrProtocol, len(p))
	}
	for ; len(p) > 0; p = p[probeSize:] {
		b := probe{delta.Extent{Offset: int64(binary.LittleEndian.Uint64(p)), Length: int64(binary.LittleEndian.Uint32(p[8:]))}, delta.Sum(p[12:])}
		if b.Offset < 0 || b.Length <= 0 || b.Length > maxPiece || b.Offset > size-b.Length ||
			b.Offset%block.SectorSize != 0 || (b.Offset+b.Length)%block.SectorSize != 0 && b.Offset+b.Length != size {
			return nil, fmt.Errorf("%w: probe of %d bytes at offset %d of %d", ErrProtocol, b.Length, b.Offset, size)
		}
		list = append(list, b)
	}
	return list, nil
}
