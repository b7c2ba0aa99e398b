// SPDX-License-Identifier: Apache-2.0

// Package delta turns what changed between two states of a volume into bytes, and
// back: a header that says what it is between, records of what is new where, and a
// trailer that proves the whole. The format is in FORMAT.md; a stream and a file have
// the same bytes.
//
// It owns the format, the pipeline that reads, codes and writes, and how a delta is
// applied. It does not own where content lies: it sees [Content], and a volume, a
// snapshot or a plain file is one. Nor does it own the codecs (package codec), or
// know what changed: callers give it a list of extents. Command ddsnap calls it.
//
// Writers and readers are for one goroutine each. A reader takes any bytes: what is
// not a delta is [ErrCorrupt], what ends early [ErrCut], what a later version wrote
// [ErrVersion]; it never holds more memory than the header's bound of an extent
// allows, and gives out no record before its checksum was verified.
//
// What making a delta holds does not grow with the volume, but for 16 bytes for each
// extent that changed. For extents of 1 MiB with the codec best it is, in MiB: 4 for each
// of two jobs a worker, up to 30 for each worker's codec, 72 that workers share, 8 to find
// chunks again and up to 64 for the index. With two workers that is 220, with three, the
// most there are by default, 258; Go's runtime and its garbage come on top.
package delta
