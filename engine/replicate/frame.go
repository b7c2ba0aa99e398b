// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Errors that callers decide on.
var (
	// ErrConnection is wrapped when a connection was cut, or the peer is silent for too
	// long: another one may go on where this was.
	ErrConnection = errors.New("connection lost")
	// ErrProtocol is wrapped when a peer sends what is no frame, or not now.
	ErrProtocol = errors.New("the peer does not keep to the protocol")
	// ErrVersion is wrapped when there is no version of the protocol that both know.
	ErrVersion = errors.New("no version of the protocol that both sides know")
)

// MaxFrame bounds the payload of a frame, in bytes. Part of the protocol.
const MaxFrame = 128 << 10

// maxControl bounds the payload of a frame with JSON, in bytes. Part of the protocol.
const maxControl = 4 << 10

// kind says what a frame has. Part of the protocol, must not change.
type kind uint8

const (
	kindHello    kind = 1 + iota // both: versions
	kindPropose                  // sender: the snapshot
	kindStanding                 // receiver: how far the volume is
	kindProbe                    // sender: sums of what is to be there
	kindHad                      // receiver: how many of them hold
	kindStart                    // sender: from where on the delta comes
	kindData                     // sender: bytes of the delta
	kindAck                      // receiver: how far it is
	kindDone                     // receiver: the snapshot is there
	kindRefuse                   // both: why not; ends the session
	kindPing                     // both: still there
	kindNodes                    // sender: nodes of the digest's tree
	kindSums                     // receiver: the sums of their children
	kindCompare                  // sender: sums of pieces
	kindEqual                    // receiver: which of them are right
	kindRepair                   // sender: what is to be there
)

// String returns the kind's name.
func (k kind) String() string {
	names := [...]string{"none", "hello", "propose", "standing", "probe", "had", "start", "data", "ack", "done", "refuse", "ping", "nodes", "sums", "compare", "equal", "repair"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// bounds returns how many bytes a frame's payload may have.
func (k kind) bounds() (least, most int) {
	switch k {
	case kindHello:
		return helloSize, helloSize
	case kindPropose, kindStanding, kindDone, kindRefuse:
		return 2, maxControl
	case kindProbe, kindCompare:
		return probeSize, MaxFrame
	case kindNodes:
		return nodeSize, mostNodes * nodeSize
	case kindSums:
		return sumsSize, mostNodes * sumsSize
	case kindEqual:
		return 1, (MaxFrame/probeSize + 7) / 8
	case kindRepair:
		return repairHead + 1, MaxFrame
	case kindHad:
		return 4, 4
	case kindStart:
		return 8, 8
	case kindData:
		return 1, MaxFrame
	case kindAck:
		return 16, 16
	case kindPing:
		return 0, 0
	}
	return 0, -1
}

// frameSize is the size of what is before a frame's payload:
//
//	0   1  kind
//	1   3  reserved, zero
//	4   4  length of the payload
//	8   4  CRC32C of the frame, with this field zero
//
// Part of the protocol, must not change.
const frameSize = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame codes a frame.
func appendFrame(dst []byte, k kind, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, byte(k), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, payload...)
	binary.LittleEndian.PutUint32(dst[start+8:], crc32.Checksum(dst[start:], castagnoli))
	return dst
}

// readFrame reads a frame into buf, or a larger buffer of at most frameSize+MaxFrame
// bytes, which it returns for the next one.
func readFrame(r io.Reader, buf []byte) (k kind, payload, grown []byte, err error) {
	if cap(buf) < frameSize {
		buf = make([]byte, frameSize, 4096)
	}
	buf = buf[:frameSize]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, nil, buf, err
	}
	k = kind(buf[0])
	n := binary.LittleEndian.Uint32(buf[4:])
	least, most := k.bounds()
	switch {
	case most < 0 || buf[1]|buf[2]|buf[3] != 0:
		return 0, nil, buf, fmt.Errorf("%w: a frame that this version does not know (%v)", ErrProtocol, k)
	case int64(n) < int64(least) || int64(n) > int64(most):
		return 0, nil, buf, fmt.Errorf("%w: %v frame of %d bytes", ErrProtocol, k, n)
	}
	size := frameSize + int(n)
	if cap(buf) < size {
		buf = append(make([]byte, 0, size), buf...)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf[frameSize:]); err != nil {
		return 0, nil, buf, err
	}
	sum := binary.LittleEndian.Uint32(buf[8:])
	clear(buf[8:frameSize])
	if crc32.Checksum(buf, castagnoli) != sum {
		return 0, nil, buf, fmt.Errorf("%w: checksum of a %v frame", ErrProtocol, k)
	}
	return k, buf[frameSize:], buf, nil
}
