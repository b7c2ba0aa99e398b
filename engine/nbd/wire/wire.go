// SPDX-License-Identifier: Apache-2.0

// Package wire holds the numbers and fixed-size headers of the NBD protocol that
// the server and the client share.
//
// It owns constants and the codecs of headers; it does no I/O and keeps no
// state, so all of it is safe for concurrent use. Packages nbd and nbdclient
// call it. Every integer is big-endian. Decoders accept any bytes of the right
// length and return an error wrapping [ErrProtocol] for bytes that are no such
// header. The values are those of the protocol document and must not change.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrProtocol is wrapped by every error about a peer that breaks the protocol.
// The stream is out of step after it: the connection must be closed.
var ErrProtocol = errors.New("NBD protocol violation")

// Magic numbers.
const (
	MagicGreeting    uint64 = 0x4e42444d41474943 // "NBDMAGIC"
	MagicOption      uint64 = 0x49484156454f5054 // "IHAVEOPT"
	MagicOptionReply uint64 = 0x0003e889045565a9
	MagicRequest     uint32 = 0x25609513
	MagicSimple      uint32 = 0x67446698
	MagicChunk       uint32 = 0x668e33ef
)

// Handshake flags; the server's are 16 bits wide, the client's 32.
const (
	FlagFixedNewstyle = 1 << 0
	FlagNoZeroes      = 1 << 1
)

// Limits.
const (
	MaxName    = 4096     // bytes of an export's or a context's name
	MaxPayload = 32 << 20 // bytes of data in one read or write
)

// Option numbers a request of the handshake.
type Option uint32

// The options.
const (
	OptExportName      Option = 1
	OptAbort           Option = 2
	OptList            Option = 3
	OptStartTLS        Option = 5
	OptInfo            Option = 6
	OptGo              Option = 7
	OptStructuredReply Option = 8
	OptListMetaContext Option = 9
	OptSetMetaContext  Option = 10
)

// OptionReply is the type of an answer in the handshake. Errors have bit 31 set
// and may carry a message.
type OptionReply uint32

// The answers to options.
const (
	RepAck              OptionReply = 1
	RepServer           OptionReply = 2
	RepInfo             OptionReply = 3
	RepMetaContext      OptionReply = 4
	RepErrUnsup         OptionReply = 1<<31 | 1
	RepErrPolicy        OptionReply = 1<<31 | 2
	RepErrInvalid       OptionReply = 1<<31 | 3
	RepErrPlatform      OptionReply = 1<<31 | 4
	RepErrTLSReqd       OptionReply = 1<<31 | 5
	RepErrUnknown       OptionReply = 1<<31 | 6
	RepErrShutdown      OptionReply = 1<<31 | 7
	RepErrBlockSizeReqd OptionReply = 1<<31 | 8
	RepErrTooBig        OptionReply = 1<<31 | 9
)

// IsError reports whether r is an error.
func (r OptionReply) IsError() bool { return r>>31 != 0 }

// Info is the type of an item of information about an export.
type Info uint16

// The items that INFO and GO deliver.
const (
	InfoExport      Info = 0
	InfoName        Info = 1
	InfoDescription Info = 2
	InfoBlockSize   Info = 3
)

// Transmission flags of an export.
const (
	FlagHasFlags        uint16 = 1 << 0
	FlagReadOnly        uint16 = 1 << 1
	FlagSendFlush       uint16 = 1 << 2
	FlagSendFUA         uint16 = 1 << 3
	FlagSendTrim        uint16 = 1 << 5
	FlagSendWriteZeroes uint16 = 1 << 6
	FlagSendDF          uint16 = 1 << 7
	FlagCanMultiConn    uint16 = 1 << 8
	FlagSendFastZero    uint16 = 1 << 11
)

// Command is the type of a request in the transmission phase.
type Command uint16

// The commands.
const (
	CmdRead        Command = 0
	CmdWrite       Command = 1
	CmdDisc        Command = 2
	CmdFlush       Command = 3
	CmdTrim        Command = 4
	CmdCache       Command = 5
	CmdWriteZeroes Command = 6
	CmdBlockStatus Command = 7
)

// Flags of a request.
const (
	CmdFlagFUA      uint16 = 1 << 0
	CmdFlagNoHole   uint16 = 1 << 1
	CmdFlagDF       uint16 = 1 << 2
	CmdFlagReqOne   uint16 = 1 << 3
	CmdFlagFastZero uint16 = 1 << 4
)

// ChunkType is the type of a chunk of a structured reply. Errors have bit 15 set.
type ChunkType uint16

// The chunks of a structured reply, and the flag of the last one.
const (
	ChunkNone        ChunkType = 0
	ChunkData        ChunkType = 1
	ChunkHole        ChunkType = 2
	ChunkBlockStatus ChunkType = 5
	ChunkError       ChunkType = 1<<15 | 1
	ChunkErrorOffset ChunkType = 1<<15 | 2

	ChunkFlagDone uint16 = 1 << 0
)

// IsError reports whether t is an error.
func (t ChunkType) IsError() bool { return t>>15 != 0 }

// Flags of an extent in the context base:allocation.
const (
	StateHole uint32 = 1 << 0
	StateZero uint32 = 1 << 1
)

// StateDirty is the flag of a changed extent in a context qemu:dirty-bitmap:NAME.
const StateDirty uint32 = 1 << 0

// Names of metadata contexts.
const (
	ContextAllocation  = "base:allocation"
	ContextDirtyPrefix = "qemu:dirty-bitmap:"
)

// Errno is an error number as the protocol defines them.
type Errno uint32

// The error numbers.
const (
	OK        Errno = 0
	EPERM     Errno = 1
	EIO       Errno = 5
	ENOMEM    Errno = 12
	EINVAL    Errno = 22
	ENOSPC    Errno = 28
	EOVERFLOW Errno = 75
	ENOTSUP   Errno = 95
	ESHUTDOWN Errno = 108
)

// RequestSize is the length of a request header in bytes.
const RequestSize = 28

// Request is the header of a request in the transmission phase:
//
//	0  magic  4 flags  6 type  8 cookie  16 offset  24 length  28
type Request struct {
	Flags  uint16
	Type   Command
	Cookie uint64
	Offset uint64 // bytes
	Length uint32 // bytes
}

// Put writes r to the first [RequestSize] bytes of b.
func (r *Request) Put(b []byte) {
	_ = b[RequestSize-1]
	binary.BigEndian.PutUint32(b, MagicRequest)
	binary.BigEndian.PutUint16(b[4:], r.Flags)
	binary.BigEndian.PutUint16(b[6:], uint16(r.Type))
	binary.BigEndian.PutUint64(b[8:], r.Cookie)
	binary.BigEndian.PutUint64(b[16:], r.Offset)
	binary.BigEndian.PutUint32(b[24:], r.Length)
}

// Parse reads r from the first [RequestSize] bytes of b.
func (r *Request) Parse(b []byte) error {
	if len(b) < RequestSize {
		return fmt.Errorf("%w: request header of %d bytes", ErrProtocol, len(b))
	}
	if m := binary.BigEndian.Uint32(b); m != MagicRequest {
		return fmt.Errorf("%w: request magic %#x", ErrProtocol, m)
	}
	r.Flags = binary.BigEndian.Uint16(b[4:])
	r.Type = Command(binary.BigEndian.Uint16(b[6:]))
	r.Cookie = binary.BigEndian.Uint64(b[8:])
	r.Offset = binary.BigEndian.Uint64(b[16:])
	r.Length = binary.BigEndian.Uint32(b[24:])
	return nil
}

// SimpleSize is the length of a simple reply's header in bytes.
const SimpleSize = 16

// PutSimple writes the header of a simple reply: magic, error, cookie.
func PutSimple(b []byte, e Errno, cookie uint64) {
	_ = b[SimpleSize-1]
	binary.BigEndian.PutUint32(b, MagicSimple)
	binary.BigEndian.PutUint32(b[4:], uint32(e))
	binary.BigEndian.PutUint64(b[8:], cookie)
}

// ChunkSize is the length of the header of a structured reply's chunk in bytes.
const ChunkSize = 20

// Chunk is the header of a chunk of a structured reply:
//
//	0  magic  4 flags  6 type  8 cookie  16 length of what follows  20
type Chunk struct {
	Flags  uint16
	Type   ChunkType
	Cookie uint64
	Length uint32 // bytes
}

// Put writes c to the first [ChunkSize] bytes of b.
func (c *Chunk) Put(b []byte) {
	_ = b[ChunkSize-1]
	binary.BigEndian.PutUint32(b, MagicChunk)
	binary.BigEndian.PutUint16(b[4:], c.Flags)
	binary.BigEndian.PutUint16(b[6:], uint16(c.Type))
	binary.BigEndian.PutUint64(b[8:], c.Cookie)
	binary.BigEndian.PutUint32(b[16:], c.Length)
}

// OptionSize is the length of the header of an option, and OptionReplySize that
// of its answer, in bytes.
const (
	OptionSize      = 16
	OptionReplySize = 20
)

// PutOption writes the header of an option: magic, option, length of its data.
func PutOption(b []byte, o Option, length uint32) {
	_ = b[OptionSize-1]
	binary.BigEndian.PutUint64(b, MagicOption)
	binary.BigEndian.PutUint32(b[8:], uint32(o))
	binary.BigEndian.PutUint32(b[12:], length)
}

// ParseOption reads the header of an option.
func ParseOption(b []byte) (o Option, length uint32, err error) {
	if len(b) < OptionSize {
		return 0, 0, fmt.Errorf("%w: option header of %d bytes", ErrProtocol, len(b))
	}
	if m := binary.BigEndian.Uint64(b); m != MagicOption {
		return 0, 0, fmt.Errorf("%w: option magic %#x", ErrProtocol, m)
	}
	return Option(binary.BigEndian.Uint32(b[8:])), binary.BigEndian.Uint32(b[12:]), nil
}

// AppendOptionReply appends the header of an answer to option o, and its data.
func AppendOptionReply(b []byte, o Option, t OptionReply, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, MagicOptionReply)
	b = binary.BigEndian.AppendUint32(b, uint32(o))
	b = binary.BigEndian.AppendUint32(b, uint32(t))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// ParseOptionReply reads the header of an answer to option want.
func ParseOptionReply(b []byte, want Option) (t OptionReply, length uint32, err error) {
	if len(b) < OptionReplySize {
		return 0, 0, fmt.Errorf("%w: option reply of %d bytes", ErrProtocol, len(b))
	}
	if m := binary.BigEndian.Uint64(b); m != MagicOptionReply {
		return 0, 0, fmt.Errorf("%w: option reply magic %#x", ErrProtocol, m)
	}
	if o := Option(binary.BigEndian.Uint32(b[8:])); o != want {
		return 0, 0, fmt.Errorf("%w: answer to option %d, asked %d", ErrProtocol, o, want)
	}
	return OptionReply(binary.BigEndian.Uint32(b[12:])), binary.BigEndian.Uint32(b[16:]), nil
}

// AppendString appends s with its length in 32 bits before it.
func AppendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// TakeString reads what [AppendString] wrote, of at most [MaxName] bytes, and
// returns what follows it.
func TakeString(b []byte) (s string, rest []byte, err error) {
	if len(b) < 4 {
		return "", nil, fmt.Errorf("%w: string cut short", ErrProtocol)
	}
	n := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) || n > MaxName {
		return "", nil, fmt.Errorf("%w: string of %d bytes, %d follow", ErrProtocol, n, len(b))
	}
	return string(b[:n]), b[n:], nil
}

// Error names e as the protocol document does. An Errno is an error, so that a
// device can choose the number that its client sees, and a client can test for
// it with errors.As.
func (e Errno) Error() string {
	switch e {
	case OK:
		return "no error"
	case EPERM:
		return "EPERM: operation not permitted"
	case EIO:
		return "EIO: input/output error"
	case ENOMEM:
		return "ENOMEM: out of memory"
	case EINVAL:
		return "EINVAL: invalid argument"
	case ENOSPC:
		return "ENOSPC: no space left on device"
	case EOVERFLOW:
		return "EOVERFLOW: value too large"
	case ENOTSUP:
		return "ENOTSUP: operation not supported"
	case ESHUTDOWN:
		return "ESHUTDOWN: server is shutting down"
	}
	return fmt.Sprintf("error number %d", uint32(e))
}

// Parse reads c from the first [ChunkSize] bytes of b.
func (c *Chunk) Parse(b []byte) error {
	if len(b) < ChunkSize {
		return fmt.Errorf("%w: chunk header of %d bytes", ErrProtocol, len(b))
	}
	if m := binary.BigEndian.Uint32(b); m != MagicChunk {
		return fmt.Errorf("%w: chunk magic %#x", ErrProtocol, m)
	}
	c.Flags = binary.BigEndian.Uint16(b[4:])
	c.Type = ChunkType(binary.BigEndian.Uint16(b[6:]))
	c.Cookie = binary.BigEndian.Uint64(b[8:])
	c.Length = binary.BigEndian.Uint32(b[16:])
	return nil
}

// String names t as the protocol document does, in lower case.
func (t Command) String() string {
	names := [...]string{"read", "write", "disconnect", "flush", "trim", "cache", "write zeroes", "block status"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("command %d", uint16(t))
}
