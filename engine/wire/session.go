// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Flags of a coded State and SnapshotState.
const (
	stateRevoked = 1 << iota
	stateFailed
	stateWritable
	stateSquashed
	stateRemember

	originFlags   = stateRevoked | stateFailed
	snapshotFlags = stateRevoked | stateWritable | stateSquashed | stateRemember
)

// flag returns bit if set.
func flag(set bool, bit uint32) uint32 {
	if set {
		return bit
	}
	return 0
}

// AppendState codes the origin's state, 48 bytes:
//
//	0 generation u64   8 newest u64   16 size u64   24 largest u64   32 restoring u64
//	40 flags u32: 1 revoked, 2 failed   44 zero u32
func AppendState(dst []byte, s State) []byte {
	dst = AppendNumbers(dst, uint64(s.Generation), uint64(s.Newest), uint64(s.Size), uint64(s.Largest), uint64(s.Restoring))
	dst = le.AppendUint32(dst, flag(s.Revoked, stateRevoked)|flag(s.Failed, stateFailed))
	return le.AppendUint32(dst, 0)
}

// DecodeState is the reverse of [AppendState].
func DecodeState(p []byte) (State, error) {
	d := decoder{p: p}
	s := d.state()
	return s, d.end("state")
}

func (d *decoder) state() (s State) {
	s.Generation, s.Newest = block.Generation(d.uint64()), block.Generation(d.uint64())
	s.Size, s.Largest = d.size(), d.size()
	s.Restoring = block.Generation(d.uint64())
	f := d.flags(originFlags)
	s.Revoked, s.Failed = f&stateRevoked != 0, f&stateFailed != 0
	d.zero(4)
	return s
}

// AppendSnapshotState codes a snapshot's state, 24 bytes:
//
//	0 generation u64   8 size u64   16 flags u32: 1 revoked, 4 writable, 8 squashed, 16 remember   20 zero u32
func AppendSnapshotState(dst []byte, s SnapshotState) []byte {
	dst = AppendNumbers(dst, uint64(s.Generation), uint64(s.Size))
	dst = le.AppendUint32(dst, flag(s.Revoked, stateRevoked)|flag(s.Writable, stateWritable)|
		flag(s.Squashed, stateSquashed)|flag(s.Remember, stateRemember))
	return le.AppendUint32(dst, 0)
}

// DecodeSnapshotState is the reverse of [AppendSnapshotState].
func DecodeSnapshotState(p []byte) (SnapshotState, error) {
	d := decoder{p: p}
	s := d.snapshotState()
	return s, d.end("state of a snapshot")
}

func (d *decoder) snapshotState() (s SnapshotState) {
	s.Generation, s.Size = block.Generation(d.uint64()), d.size()
	f := d.flags(snapshotFlags)
	s.Revoked, s.Writable = f&stateRevoked != 0, f&stateWritable != 0
	s.Squashed, s.Remember = f&stateSquashed != 0, f&stateRemember != 0
	d.zero(4)
	return s
}

// AppendSession codes a session:
//
//	0   uuid 16
//	16  placement u8   17 base-two logarithm of the chunk size u8   18 zero 6
//	24  size of the origin u64   32 data offset u64   40 slots u64
//	48  start of the journal u64   56 its size u64
//	64  epoch u64   72 place u64   80 sequence number u64
//	88  state, 48 bytes
//	136 leases, as runs
func AppendSession(dst []byte, s *Session) []byte {
	dst = append(dst, s.UUID[:]...)
	dst = append(dst, byte(s.Placement), byte(s.Geometry.ChunkShift()), 0, 0, 0, 0, 0, 0)
	dst = AppendNumbers(dst, uint64(s.Geometry.Size()), uint64(s.DataOffset), s.Slots, uint64(s.Journal.Start), uint64(s.Journal.Size), s.Epoch)
	dst = AppendPosition(dst, s.Position)
	dst = AppendState(dst, s.State)
	return AppendRuns(dst, s.Leases)
}

// DecodeSession is the reverse of [AppendSession].
func DecodeSession(p []byte) (*Session, error) {
	d := decoder{p: p}
	s := new(Session)
	copy(s.UUID[:], d.bytes(16))
	s.Placement = layout.Placement(d.uint8())
	shift := d.uint8()
	d.zero(6)
	size := d.size()
	s.DataOffset, s.Slots = d.size(), d.uint64()
	s.Journal.Start, s.Journal.Size = d.size(), d.size()
	s.Epoch, s.Position = d.uint64(), d.position()
	s.State = d.state()
	s.Leases = d.runs(nil)
	d.require(shift < 32 && s.Placement >= layout.PlacementInline && s.Placement <= layout.PlacementPMem)
	if !d.bad {
		var err error
		s.Geometry, err = block.NewGeometry(size, 1<<shift)
		d.require(err == nil)
	}
	return s, d.end("session")
}

// progressSize is the length of a coded Progress.
const progressSize = 56

// AppendProgress codes how far an origin client has come:
//
//	0 uuid 16   16 epoch u64   24 generation u64   32 place u64   40 sequence number u64   48 flags u32: 1 failed   52 zero u32
func AppendProgress(dst []byte, p Progress) []byte {
	dst = append(dst, p.UUID[:]...)
	dst = AppendNumbers(dst, p.Epoch, uint64(p.Generation))
	dst = AppendPosition(dst, p.Position)
	dst = le.AppendUint32(dst, flag(p.Failed, 1))
	return le.AppendUint32(dst, 0)
}

// DecodeProgress is the reverse of [AppendProgress].
func DecodeProgress(b []byte) (p Progress, err error) {
	d := decoder{p: b}
	copy(p.UUID[:], d.bytes(16))
	p.Epoch, p.Generation = d.uint64(), block.Generation(d.uint64())
	p.Position = d.position()
	p.Failed = d.flags(1) != 0
	d.zero(4)
	return p, d.end("progress")
}

// AppendFailure codes a batch that could not be made durable: the progress, 56 bytes,
// whose flag is set, then
//
//	56 length of the reason u32   60 zero u32   64 the reason, in UTF-8   then the slots, as runs
//
// A reason beyond [MaxText] is cut.
func AppendFailure(dst []byte, f Failure) []byte {
	dst = AppendProgress(dst, f.Progress)
	reason := f.Reason[:min(len(f.Reason), MaxText)]
	dst = le.AppendUint32(dst, uint32(len(reason)))
	dst = le.AppendUint32(dst, 0)
	return AppendRuns(append(dst, reason...), f.Slots)
}

// DecodeFailure is the reverse of [AppendFailure].
func DecodeFailure(b []byte) (f Failure, err error) {
	d := decoder{p: b}
	if f.Progress, err = DecodeProgress(d.bytes(progressSize)); err != nil {
		return f, err
	}
	d.require(f.Failed)
	n := int(d.uint32())
	d.zero(4)
	d.require(n <= MaxText)
	f.Reason = string(d.bytes(n))
	f.Slots = d.runs(nil)
	return f, d.end("failed batch")
}

// AppendRestoreProgress codes how far a restore has come:
//
//	0 generation u64   8 next chunk u64   16 flags u32: 1 done, 2 lost   20 zero u32   24 what is in its way, in UTF-8
//
// A text beyond [MaxText] is cut.
func AppendRestoreProgress(dst []byte, p RestoreProgress) []byte {
	dst = AppendNumbers(dst, uint64(p.Generation), uint64(p.Next))
	dst = le.AppendUint32(dst, flag(p.Done, 1)|flag(p.Lost, 2))
	dst = le.AppendUint32(dst, 0)
	return append(dst, p.Trouble[:min(len(p.Trouble), MaxText)]...)
}

// DecodeRestoreProgress is the reverse of [AppendRestoreProgress].
func DecodeRestoreProgress(b []byte) (p RestoreProgress, err error) {
	d := decoder{p: b}
	p.Generation, p.Next = block.Generation(d.uint64()), block.Chunk(d.uint64())
	f := d.flags(1 | 2)
	p.Done, p.Lost = f&1 != 0, f&2 != 0
	d.zero(4)
	d.require(len(d.p) <= MaxText)
	p.Trouble = string(d.bytes(len(d.p)))
	return p, d.end("progress of a restore")
}

// AppendOpen codes a request to open a snapshot:
//
//	0 tag u32   4 flags u32: 1 for writing, 2 by its name   8 the name
func AppendOpen(dst []byte, ref SnapshotRef, write bool) []byte {
	dst = le.AppendUint32(dst, uint32(ref.Tag))
	dst = le.AppendUint32(dst, flag(write, 1)|flag(ref.Name != "", 2))
	return append(dst, ref.Name...)
}

// DecodeOpen is the reverse of [AppendOpen].
func DecodeOpen(p []byte) (ref SnapshotRef, write bool, err error) {
	d := decoder{p: p}
	ref.Tag = block.Tag(d.uint32())
	f := d.flags(3)
	ref.Name = string(d.bytes(len(d.p)))
	d.require(len(ref.Name) <= layout.MaxName && (ref.Name != "") == (f&2 != 0))
	return ref, f&1 != 0, d.end("opening of a snapshot")
}

// AppendSnapshotSession codes an open snapshot:
//
//	0 handle u64   8 state, 24 bytes   32 the snapshot, as the body of its record
func AppendSnapshotSession(dst []byte, s *SnapshotSession) []byte {
	dst = le.AppendUint64(dst, uint64(s.Handle))
	dst = AppendSnapshotState(dst, s.State)
	return layout.AppendSnapshotRecord(dst, s.Snapshot)
}

// DecodeSnapshotSession is the reverse of [AppendSnapshotSession].
func DecodeSnapshotSession(p []byte) (*SnapshotSession, error) {
	d := decoder{p: p}
	s := &SnapshotSession{Handle: Handle(d.uint64()), State: d.snapshotState()}
	var err error
	s.Snapshot, err = layout.DecodeSnapshotRecord(d.bytes(len(d.p)))
	d.require(err == nil)
	return s, d.end("open snapshot")
}
