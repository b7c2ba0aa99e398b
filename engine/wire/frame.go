// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrProtocol is wrapped by errors about bytes that are no message of the protocol.
var ErrProtocol = errors.New("no message of the protocol")

// Versions of the protocol that this program speaks.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Magic opens the first message of either side. Part of the protocol, must not
// change.
const Magic = 0x006470616e736464 // "ddsnapd\0"

// Limits of messages. Part of the protocol, must not change.
const (
	HeaderSize = 16
	// MaxBody bounds the body of a message, in bytes: that of the largest batch.
	MaxBody = 2 << 20
	// MaxRuns bounds the runs of slots, and MaxMappings the mappings, of one message.
	MaxRuns     = 1 << 12
	MaxMappings = 1 << 14
	// MaxUnsettled bounds the chunks that one Unsettled asks about: a page of a
	// client's settled map.
	MaxUnsettled = 1 << 12
	// MaxText bounds the text of an error, in bytes.
	MaxText = 4 << 10
)

// Type says what a message is. Part of the protocol, must not change.
type Type uint16

// The types of message. Of those from TypeQuiesce on, the server sends the
// request; of all others the client.
const (
	TypeHello         Type = 1  // Hello; reply Welcome
	TypeAttach        Type = 2  // empty; reply Session
	TypeResume        Type = 3  // Progress; reply Session
	TypeDetach        Type = 4  // empty; reply empty
	TypeLease         Type = 5  // Want; reply Runs
	TypeReport        Type = 6  // Batch; no reply
	TypeCheckpoint    Type = 7  // empty; reply Position
	TypeUnsettled     Type = 8  // Range; reply Bitmap
	TypeOpenSnapshot  Type = 9  // Open; reply SnapshotSession
	TypeCloseSnapshot Type = 10 // Handle; reply empty
	TypeMap           Type = 11 // HandleRange; reply Mappings
	TypeLeaseBranch   Type = 12 // HandleWant; reply Runs
	TypeReportBranch  Type = 13 // Written; reply empty
	TypeSyncBranch    Type = 14 // Handle; reply empty
	TypeRestored      Type = 15 // RestoreProgress; reply the next chunk
	TypeRestoreBranch Type = 16 // Written; reply empty
	TypeReady         Type = 17 // empty; no reply: all is open again that was
	TypeAwaitSpace    Type = 18 // Handle, 0: the origin; reply empty
	TypeMapRestoring  Type = 19 // generation and Range; reply Mappings
	TypeRenew         Type = 20 // Failure; reply Session

	TypeQuiesce Type = 32 // Handle; reply empty once nothing is under way. Then comes State
	TypeState   Type = 33 // HandleState; no reply: ends what Quiesce began
	TypeUpdate  Type = 34 // OriginState; no reply
	TypeSettle  Type = 35 // Range; reply empty
	TypeFit     Type = 36 // size; reply empty. With FeatureFit
	TypeManage  Type = 37 // JSON; reply JSON. With FeatureManage
)

// Flags of a header.
const (
	FlagReply  uint16 = 1 << iota // to the request of the same id
	FlagError                     // of a reply: its body is a Fault
	knownFlags = FlagReply | FlagError
)

// Header opens every message:
//
//	0 length of the body u32   4 type u16   6 flags u16   8 id u64
//
// A side numbers its own requests, from 1 on, as it likes; messages without a reply
// have id 0.
type Header struct {
	Length uint32
	Type   Type
	Flags  uint16
	ID     uint64
}

// AppendHeader begins a message, whose body is to be appended; [Seal] ends it.
func AppendHeader(dst []byte, t Type, flags uint16, id uint64) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint16(dst, uint16(t))
	dst = le.AppendUint16(dst, flags)
	return le.AppendUint64(dst, id)
}

// Seal sets the length of the message that p, with its header, is. It panics when the
// body is longer than [MaxBody]: the caller's fault.
func Seal(p []byte) {
	n := len(p) - HeaderSize
	if n < 0 || n > MaxBody {
		panic(fmt.Sprintf("wire: body of %d bytes", n))
	}
	binary.LittleEndian.PutUint32(p, uint32(n))
}

// DecodeHeader reads a header. It checks that the body is not too long, and not
// whether the type is known.
func DecodeHeader(p []byte) (Header, error) {
	if len(p) < HeaderSize {
		return Header{}, fmt.Errorf("%w: header of %d bytes", ErrProtocol, len(p))
	}
	le := binary.LittleEndian
	h := Header{Length: le.Uint32(p), Type: Type(le.Uint16(p[4:])), Flags: le.Uint16(p[6:]), ID: le.Uint64(p[8:])}
	if h.Length > MaxBody || h.Flags&^knownFlags != 0 || h.Flags == FlagError {
		return h, fmt.Errorf("%w: header of type %d with %d bytes and flags %#x", ErrProtocol, h.Type, h.Length, h.Flags)
	}
	return h, nil
}

// decoder reads a body. After a field that is not there all others are zero, and
// end returns an error.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || len(d.p) < n {
		d.bad, d.p = true, nil
		return nil
	}
	b := d.p[:n:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) uint8() uint8 {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// size reads a size or offset in bytes, which must not be negative.
func (d *decoder) size() int64 {
	v := d.uint64()
	d.require(v <= 1<<63-1)
	return int64(v)
}

// flags reads flags, of which only those in known may be set.
func (d *decoder) flags(known uint32) uint32 {
	f := d.uint32()
	d.require(f&^known == 0)
	return f
}

// zero reads n reserved bytes.
func (d *decoder) zero(n int) {
	for _, b := range d.bytes(n) {
		d.require(b == 0)
	}
}

// count reads the number of entries of a list, of so many bytes each, that takes the
// rest of the body.
func (d *decoder) count(most int, each int) int {
	n := d.uint32()
	d.zero(4)
	if uint64(n) > uint64(most) || uint64(len(d.p)) != uint64(n)*uint64(each) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) require(ok bool) {
	if !ok {
		d.bad = true
	}
}

// end returns an error unless the whole body was read and is good.
func (d *decoder) end(what string) error {
	if d.bad || len(d.p) > 0 {
		return fmt.Errorf("%w: malformed %s", ErrProtocol, what)
	}
	return nil
}
