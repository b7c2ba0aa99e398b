// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
)

// newRing returns an empty ring of size bytes on a plain device, with the medium.
func newRing(size, grain int64) (*journal.Ring, journal.OnDevice) {
	m := journal.OnDevice{Device: memdev.New(ringStart + size)}
	r := journal.New(m, ringStart, size, grain, testUUID)
	r.Reset(testEpoch, 1)
	return r, m
}

func appendAll(t testing.TB, r *journal.Ring, sizes ...int) {
	t.Helper()
	for _, n := range sizes {
		require.NoError(t, r.Append(layout.RecordBatch, body(r.Position().Seq, n)))
	}
}

func TestAppendAndReplay(t *testing.T) {
	for _, grain := range []int64{512, 4096} {
		for _, n := range []int{0, 1, 8, int(grain) - 64, int(grain) - 63, 3*int(grain) - 64, 3 * int(grain)} {
			r, m := newRing(16*grain, grain)
			start := r.Position()
			require.Equal(t, layout.Position{Place: 0, Seq: 1}, start)
			appendAll(t, r, n, 0, n)
			got, again := replayed(t, m, 16*grain, grain, testEpoch, start)
			require.Equal(t, [][]byte{body(1, n), {}, body(3, n)}, got)
			require.Equal(t, r.Position(), again.Position())
			require.Equal(t, r.Used(), again.Used())
			appendAll(t, again, 10)
			got, _ = replayed(t, m, 16*grain, grain, testEpoch, start)
			require.Len(t, got, 4, "the ring goes on after a replay")
		}
	}
}

// The size is a multiple of the grain; what is over is not used.
func TestSizeIsCut(t *testing.T) {
	r, _ := newRing(8*4096+512, 4096)
	require.Equal(t, int64(8*4096), r.Size())
}

// One grain stays free, and a full ring says so without writing.
func TestFull(t *testing.T) {
	r, m := newRing(8*4096, 4096)
	start := r.Position()
	appendAll(t, r, 100, 100, 100, 100, 100, 100, 100)
	require.Equal(t, int64(7*4096), r.Used())
	before := r.Position()
	m.Device.(*memdev.Device).SetHook(func(memdev.Event) { t.Error("a full ring was written to") })
	require.ErrorIs(t, r.Append(layout.RecordBatch, nil), journal.ErrFull)
	require.ErrorIs(t, r.Append(layout.RecordBatch, make([]byte, 5000)), journal.ErrFull)
	m.Device.(*memdev.Device).SetHook(nil)
	require.Equal(t, before, r.Position())
	got, _ := replayed(t, m, 8*4096, 4096, testEpoch, start)
	require.Len(t, got, 7)

	r.Release(layout.Position{Place: 4096, Seq: 2})
	require.Equal(t, int64(6*4096), r.Used())
	appendAll(t, r, 100)
	require.ErrorIs(t, r.Append(layout.RecordBatch, nil), journal.ErrFull)
	r.Release(r.Position())
	require.Zero(t, r.Used())
	appendAll(t, r, 100, 100, 100, 100, 100, 100, 100)
	require.ErrorIs(t, r.Append(layout.RecordBatch, nil), journal.ErrFull)
}

// A record that cannot fit, ever, is refused the same way.
func TestRecordBiggerThanTheRing(t *testing.T) {
	r, _ := newRing(8*4096, 4096)
	require.ErrorIs(t, r.Append(layout.RecordBatch, make([]byte, 8*4096-63)), journal.ErrFull)
	require.ErrorIs(t, r.Append(layout.RecordBatch, make([]byte, 8*4096-64)), journal.ErrFull)
	appendAll(t, r, 7*4096-64)
	require.Equal(t, int64(7*4096), r.Used())
}

// A record that takes at most half of the ring fits whenever the ring is empty,
// wherever it goes on.
func TestHalfARingFitsAnywhere(t *testing.T) {
	for first := range 8 {
		r, m := newRing(8*4096, 4096)
		for range first {
			appendAll(t, r, 100)
		}
		pos := r.Position()
		r.Release(pos)
		require.Zero(t, r.Used())
		appendAll(t, r, 4*4096-64)
		got, again := replayed(t, m, 8*4096, 4096, testEpoch, pos)
		require.Equal(t, [][]byte{body(pos.Seq, 4*4096-64)}, got)
		require.Equal(t, r.Used(), again.Used())
	}
}

// A record that does not fit before the end goes to the beginning, and a replay
// from the place before finds it there.
func TestRecordsDoNotWrap(t *testing.T) {
	r, m := newRing(8*4096, 4096)
	appendAll(t, r, 100, 100, 100, 100, 100, 100)
	pos := r.Position()
	require.Equal(t, uint64(6*4096), pos.Place)
	r.Release(pos)
	appendAll(t, r, 2*4096)
	require.Equal(t, uint64(3*4096), r.Position().Place)
	require.Equal(t, int64(5*4096), r.Used(), "what is left free at the end counts")
	got, again := replayed(t, m, 8*4096, 4096, testEpoch, pos)
	require.Len(t, got, 1)
	require.Equal(t, r.Position(), again.Position())
	require.ErrorIs(t, r.Append(layout.RecordBatch, make([]byte, 2*4096)), journal.ErrFull)
	appendAll(t, r, 100, 100)
	require.ErrorIs(t, r.Append(layout.RecordBatch, nil), journal.ErrFull)
}

// A record that ends where the ring ends is followed by one at the beginning.
func TestRecordEndsWithTheRing(t *testing.T) {
	r, m := newRing(8*4096, 4096)
	appendAll(t, r, 100, 100, 100, 100)
	r.Release(r.Position())
	pos := r.Position()
	appendAll(t, r, 4*4096-64)
	require.Zero(t, r.Position().Place)
	appendAll(t, r, 100)
	got, _ := replayed(t, m, 8*4096, 4096, testEpoch, pos)
	require.Len(t, got, 2)
}

// Records of earlier laps and epochs and of other stores lie all around with
// valid checksums; none is taken for the next one.
func TestOldRecordsAreNotReplayed(t *testing.T) {
	r, m := newRing(8*4096, 4096)
	for range 30 {
		r.Release(r.Position())
		appendAll(t, r, 100)
	}
	pos := r.Position() // all around are records up to number 30
	got, _ := replayed(t, m, 8*4096, 4096, testEpoch, pos)
	require.Empty(t, got)
	for seq := uint64(1); seq < 22; seq++ { // overwritten
		got, _ = replayed(t, m, 8*4096, 4096, testEpoch, layout.Position{Place: (seq - 1) % 8 * 4096, Seq: seq})
		require.Empty(t, got)
	}
	got, _ = replayed(t, m, 8*4096, 4096, testEpoch+1, layout.Position{Place: 28 % 8 * 4096, Seq: 29})
	require.Empty(t, got, "of another epoch")
	other := journal.New(m, ringStart, 8*4096, 4096, layout.UUID{1})
	require.NoError(t, other.Replay(testEpoch, layout.Position{Place: 28 % 8 * 4096, Seq: 29}, func(layout.RecordHeader, []byte) error {
		t.Error("a record of another store")
		return nil
	}))

	r.Reset(testEpoch+1, 31) // as a recovery does
	appendAll(t, r, 100)
	got, _ = replayed(t, m, 8*4096, 4096, testEpoch+1, layout.Position{Place: 0, Seq: 31})
	require.Len(t, got, 1)
}

// A log ends where a record of a format that this program does not know lies: it
// is a leftover, like any other that is not the next record.
func TestForeignFormatEndsTheLog(t *testing.T) {
	for _, place := range []int64{0, 4096} {
		r, m := newRing(8*4096, 4096)
		appendAll(t, r, 100)
		page := make([]byte, 4096)
		_, err := m.ReadAt(page, ringStart)
		require.NoError(t, err)
		binary.LittleEndian.PutUint16(page[4:], 77)
		_, err = m.WriteAt(page, ringStart+4096)
		require.NoError(t, err)
		if place == 0 {
			got, _ := replayed(t, m, 8*4096, 4096, testEpoch, layout.Position{Seq: 1})
			require.Len(t, got, 1)
			continue
		}
		r.Release(r.Position())
		_, err = m.WriteAt(page, ringStart)
		require.NoError(t, err)
		got, _ := replayed(t, m, 8*4096, 4096, testEpoch, r.Position())
		require.Empty(t, got)
	}
}

func TestPositionOutOfRange(t *testing.T) {
	r, _ := newRing(8*4096, 4096)
	for _, place := range []uint64{8 * 4096, 9 * 4096, 1 << 63, 1<<64 - 4096, 1, 512, 4095} {
		err := r.Replay(testEpoch, layout.Position{Place: place, Seq: 1}, func(layout.RecordHeader, []byte) error { return nil })
		require.ErrorIs(t, err, layout.ErrCorrupt, "place %d", place)
	}
}

var errMedium = errors.New("medium error")

// failing is a medium whose n-th operation fails.
type failing struct {
	journal.Medium
	left int
}

func (f *failing) fail() error {
	if f.left--; f.left == 0 {
		return errMedium
	}
	return nil
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.Medium.ReadAt(p, off)
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.Medium.WriteAt(p, off)
}

func (f *failing) Persist(off, n int64) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.Medium.Persist(off, n)
}

// A failed read is an error of Replay, not the end of the log; a failed write or
// flush one of Append, and moves nothing on.
func TestMediumErrors(t *testing.T) {
	r, m := newRing(8*4096, 4096)
	appendAll(t, r, 100, 100)
	for nth := 1; ; nth++ {
		f := &failing{Medium: m, left: nth}
		again := journal.New(f, ringStart, 8*4096, 4096, testUUID)
		err := again.Replay(testEpoch, layout.Position{Seq: 1}, func(layout.RecordHeader, []byte) error { return nil })
		if err == nil {
			require.Greater(t, nth, 5)
			break
		}
		require.ErrorIs(t, err, errMedium)
	}
	for nth := 1; nth <= 2; nth++ {
		r := journal.New(&failing{Medium: m, left: nth}, ringStart, 8*4096, 4096, testUUID)
		r.Reset(testEpoch, 10)
		require.ErrorIs(t, r.Append(layout.RecordBatch, nil), errMedium)
		require.Equal(t, layout.Position{Seq: 10}, r.Position())
	}
}

func TestReplayStopsAtItsCallersError(t *testing.T) {
	r, m := newRing(8*4096, 4096)
	appendAll(t, r, 100, 100)
	errStop, calls := errors.New("stop"), 0
	err := journal.New(m, ringStart, 8*4096, 4096, testUUID).Replay(testEpoch, layout.Position{Seq: 1}, func(layout.RecordHeader, []byte) error {
		calls++
		return errStop
	})
	require.ErrorIs(t, err, errStop)
	require.Equal(t, 1, calls)
}
