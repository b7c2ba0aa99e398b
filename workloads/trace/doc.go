// SPDX-License-Identifier: Apache-2.0

// Package trace is the file format of recorded operations, and statistics of
// them.
//
// It owns the codec ([Writer], [Reader]), whole traces in memory ([Trace]),
// their text form and [Info]. It does not record (package record does) nor issue
// (package apply does). Recorders, experiments and command lines call it. A
// Writer or Reader belongs to one goroutine; a Trace is immutable once read and
// may be shared. Damaged or hostile input yields an error that wraps
// [ErrCorrupt], with memory bounded by [MaxOps] and the frame size, never a
// panic; a file cut short is never taken for a whole one.
//
// # File format, version 1
//
// All numbers are little-endian. The layout must not change; another layout
// takes another version. CRC is CRC32C (Castagnoli).
//
// Header:
//
//	offset  bytes  content
//	     0      8  magic "zumtrace"
//	     8      2  version, 1
//	    10      2  length of the name, n
//	    12      4  length of the description, d
//	    16      8  size of the recorded device in bytes
//	    24      4  its logical block size in bytes
//	    28      4  zero
//	    32      n  name, UTF-8
//	  32+n      d  description, UTF-8: how the trace was made
//	32+n+d      4  CRC of all before
//
// Then frames, each of whole records, up to and including an end frame, behind
// which there is nothing:
//
//	offset  bytes  content
//	     0      4  length of the payload, c; zero in the end frame
//	     4      4  length of the payload once decompressed, at most 1 MiB
//	     8      4  number of records in the frame; in the end frame, in all frames
//	    12      c  payload: one zstd frame
//	  12+c      4  CRC of all before in this frame
//
// A record begins with a tag:
//
//	bits  content
//	 0-2  0 to 4: op of that workloads.Kind; 7: mark
//	   3  op has FUA
//	   4  a gap follows
//	   5  the offset is the end of the op before; no offset follows
//	   6  the length is that of the last op of the same kind; no length follows
//	   7  zero
//
// A mark's other bits are zero; it goes on with the length of its name, a
// uvarint, and the name. An op goes on with those fields that its tag announces,
// as varints of encoding/binary; a Flush has neither offset nor length, bits 5
// and 6 are zero, and it is passed over by "the op before":
//
//	offset  varint   sectors from the end of the op before
//	length  uvarint  sectors
//	gap     uvarint  microseconds from the start of the record before
//
// At the start of each frame the op before ends at zero and the last lengths are
// zero.
package trace

import "errors"

// ErrCorrupt is wrapped by every error about bytes that are not a whole trace.
var ErrCorrupt = errors.New("corrupt trace")

// Bounds of the format and of what is read into memory.
const (
	MaxOps         = 4 << 20 // ops of one trace
	MaxMarks       = 1 << 16
	maxName        = 255
	maxDescription = 64 << 10
	maxFrame       = 1 << 20 // decompressed bytes
	maxPayload     = maxFrame + 64<<10
)

const (
	magic       = "zumtrace"
	version     = 1
	headerFixed = 32
	frameFixed  = 12
	sumSize     = 4
)

const (
	tagKind    = 7
	tagMark    = 7
	tagFUA     = 1 << 3
	tagGap     = 1 << 4
	tagFollows = 1 << 5
	tagSameLen = 1 << 6
)
