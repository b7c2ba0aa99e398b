// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Numbers and structures of include/uapi/linux/ublk_cmd.h. All are in the byte
// order of the machine.
const (
	ublkGetDevInfo  = 0x02
	ublkAddDev      = 0x04
	ublkDelDev      = 0x05
	ublkStartDev    = 0x06
	ublkStopDev     = 0x07
	ublkSetParams   = 0x08
	ublkDelDevAsync = 0x14 // Linux 6.9
	ublkUpdateSize  = 0x15 // Linux 6.16

	ublkFetch          = 0x20
	ublkCommitAndFetch = 0x21

	ublkFlagUpdateSize = 1 << 10

	ublkStateDead = 0

	ublkOpRead        = 0
	ublkOpWrite       = 1
	ublkOpFlush       = 2
	ublkOpDiscard     = 3
	ublkOpWriteZeroes = 5
	ublkOpFUA         = 1 << 13

	ublkParamBasic   = 1 << 0
	ublkParamDiscard = 1 << 1

	ublkReadOnly      = 1 << 0
	ublkVolatileCache = 1 << 2
	ublkFUA           = 1 << 3

	ublkNewID    = 1<<32 - 1 // the driver chooses
	ublkMaxDepth = 4096

	ublkCtrlCmdSize  = 32
	ublkDevInfoSize  = 64
	ublkParamsSize   = 60
	ublkIODescSize   = 24
	ublkIOCmdSize    = 16
	ublkDiscardBytes = 1 << 30 // most of one discard or zeroing
)

// ublkCode returns the number of a command. Linux 6.0 to 6.3 know the plain
// numbers only, later ones those coded like an ioctl's, and the plain ones if they
// were built so.
func ublkCode(nr uint32, legacy bool) uint32 {
	if legacy {
		return nr
	}
	const write, read = 1 << 30, 1 << 31
	size, dir := uint32(ublkCtrlCmdSize), uint32(write|read)
	switch nr {
	case ublkFetch, ublkCommitAndFetch:
		size = ublkIOCmdSize
	case ublkGetDevInfo, ublkDelDevAsync:
		dir = read
	}
	return dir | size<<16 | 'u'<<8 | nr
}

// ublkControlCommand is struct ublksrv_ctrl_cmd.
type ublkControlCommand struct {
	device uint32
	length uint16 // of the memory at addr
	addr   uint64
	data   uint64
}

func (c ublkControlCommand) encode() []byte {
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, ublkCtrlCmdSize), c.device)
	b = binary.NativeEndian.AppendUint16(b, 1<<16-1) // for no queue
	b = binary.NativeEndian.AppendUint16(b, c.length)
	b = binary.NativeEndian.AppendUint64(b, c.addr)
	b = binary.NativeEndian.AppendUint64(b, c.data)
	return binary.NativeEndian.AppendUint64(b, 0)
}

// ublkDevInfo is struct ublksrv_ctrl_dev_info, but for what is not used.
type ublkDevInfo struct {
	queues, depth, state uint16
	maxIO                uint32 // bytes of the largest request
	id                   uint32
	flags                uint64
	private              uint64 // ublksrv_flags: not the driver's
}

func (i ublkDevInfo) encode(b []byte) {
	clear(b[:ublkDevInfoSize])
	binary.NativeEndian.PutUint16(b, i.queues)
	binary.NativeEndian.PutUint16(b[2:], i.depth)
	binary.NativeEndian.PutUint16(b[4:], i.state)
	binary.NativeEndian.PutUint32(b[8:], i.maxIO)
	binary.NativeEndian.PutUint32(b[12:], i.id)
	binary.NativeEndian.PutUint64(b[24:], i.flags)
	binary.NativeEndian.PutUint64(b[32:], i.private)
}

func parseUblkDevInfo(b []byte) ublkDevInfo {
	return ublkDevInfo{
		queues: binary.NativeEndian.Uint16(b), depth: binary.NativeEndian.Uint16(b[2:]), state: binary.NativeEndian.Uint16(b[4:]),
		maxIO: binary.NativeEndian.Uint32(b[8:]), id: binary.NativeEndian.Uint32(b[12:]),
		flags: binary.NativeEndian.Uint64(b[24:]), private: binary.NativeEndian.Uint64(b[32:]),
	}
}

// ublkParams is what becomes of struct ublk_params.
type ublkParams struct {
	size       int64
	readOnly   bool
	blockShift uint8 // of the logical block size
	chunkShift uint8
	maxIO      uint32
	zeroes     bool
}

func (p ublkParams) encode(b []byte) {
	clear(b[:ublkParamsSize])
	attributes := uint32(ublkVolatileCache | ublkFUA)
	if p.readOnly {
		attributes = ublkReadOnly
	}
	put := binary.NativeEndian.PutUint32
	put(b, ublkParamsSize)
	put(b[4:], ublkParamBasic|ublkParamDiscard)
	put(b[8:], attributes)
	b[12] = p.blockShift
	b[13] = 12 // physical: what the page cache writes
	b[14] = p.chunkShift
	b[15] = max(p.chunkShift, 12)
	put(b[16:], p.maxIO>>9)
	binary.NativeEndian.PutUint64(b[24:], uint64(p.size>>9))
	put(b[44:], 4096) // granularity of discards
	put(b[48:], ublkDiscardBytes>>9)
	if p.zeroes {
		put(b[52:], ublkDiscardBytes>>9)
	}
	binary.NativeEndian.PutUint16(b[56:], 1) // segments of a discard
}

// ublkRequest is struct ublksrv_io_desc: a request that the driver hands out.
type ublkRequest struct {
	op  uint8
	fua bool
	off int64 // bytes
	n   int64
}

func parseUblkRequest(b []byte) ublkRequest {
	flags := binary.NativeEndian.Uint32(b)
	return ublkRequest{
		op: uint8(flags), fua: flags&ublkOpFUA != 0,
		n: int64(binary.NativeEndian.Uint32(b[4:])) << 9, off: int64(binary.NativeEndian.Uint64(b[8:])) << 9,
	}
}

// encodeUblkIO returns struct ublksrv_io_cmd.
func encodeUblkIO(queue, tag int, result int32, addr uintptr) []byte {
	b := binary.NativeEndian.AppendUint16(make([]byte, 0, ublkIOCmdSize), uint16(queue))
	b = binary.NativeEndian.AppendUint16(b, uint16(tag))
	b = binary.NativeEndian.AppendUint32(b, uint32(result))
	return binary.NativeEndian.AppendUint64(b, uint64(addr))
}

// pages rounds up to whole pages.
func pages(n int) int {
	page := unix.Getpagesize()
	return (n + page - 1) / page * page
}
