// SPDX-License-Identifier: Apache-2.0

package copylog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

func TestDescriptorPages(t *testing.T) {
	const last = block.PageSize - layout.RecordHeaderSize
	for n, want := range map[int]int{
		0: 1, 1: 1, last: 1, last + 1: 2, last + block.PageSize: 2, last + block.PageSize + 1: 3,
		block.MaxChunkSize - layout.RecordHeaderSize: 256, block.MaxChunkSize - layout.RecordHeaderSize + 1: 257,
	} {
		require.Equal(t, want, copylog.DescriptorPages(n), "body of %d bytes", n)
	}
}

// most returns the copies that fill a slot of 2^shift bytes with a descriptor.
func (s shape) most(rng *rand.Rand, shift uint) []layout.Copy {
	limit := 1<<shift - layout.RecordHeaderSize
	all := s.newCopies(rng, limit/layout.CopySize, 1)
	b := copylog.NewBatch(0, 1<<shift)
	size := layout.MaxBatchBody(0)
	for i, c := range all {
		if size += b.Cost(c); size > limit {
			return all[:i]
		}
		b.Copies = append(b.Copies, c)
	}
	return all
}

// The longest descriptor fills its slot and is read back, in every shape. Chunks
// play no part in it, so they are left out.
func TestLongestDescriptor(t *testing.T) {
	for shift := uint(12); shift <= 20; shift += 2 {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("%d/%s", 1<<shift, s.name), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(shift), 3))
				a := newArea(shift, 3)
				b := copylog.NewBatch(0, 1<<shift)
				b.Generation, b.Copies = 1, s.most(rng, shift)
				for i := range b.Copies {
					b.Copies[i].Sum = rng.Uint32()
				}
				desc := b.SealDescriptor(header(b))
				require.Equal(t, max(1, len(desc)/block.PageSize), copylog.DescriptorPages(len(layout.AppendBatch(nil, &b.Batch))))
				require.Len(t, desc, 1<<shift)
				_, err := a.Device.WriteAt(desc, a.SlotOffset(1))
				require.NoError(t, err)
				_, got, err := copylog.ReadDescriptor(a, 1, testID)
				require.NoError(t, err)
				require.Equal(t, b.Copies, got.Copies)
			})
		}
	}
}

// A descriptor does not depend on what the buffer held before.
func TestSealDescriptorClearsItsPages(t *testing.T) {
	b := copylog.NewBatch(1, 16<<10)
	rng := rand.New(rand.NewPCG(1, 3))
	b.Copies = shapes[3].newCopies(rng, 300, 1)
	long := b.SealDescriptor(header(b))
	require.Len(t, long, 3*block.PageSize)
	b.Copies = b.Copies[:1]
	fresh := copylog.NewBatch(1, 16<<10)
	fresh.Copies = b.Copies
	require.Equal(t, fresh.SealDescriptor(header(b)), b.SealDescriptor(header(b)))
}

// Each sector of a descriptor that is not as it was written is noticed, also in
// the pages before the last, and pages of an older, longer descriptor are not
// taken for the new one's.
func TestTornDescriptorsAreNoticed(t *testing.T) {
	const shift = 14
	a := newArea(shift, 4)
	rng := rand.New(rand.NewPCG(2, 2))
	b := copylog.NewBatch(0, 1<<shift)
	b.Head, b.Copies = 2, shapes[3].newCopies(rng, 400, 1)
	for i := range b.Copies {
		b.Copies[i].Sum = rng.Uint32()
	}
	desc := b.SealDescriptor(header(b))
	_, err := a.Device.WriteAt(desc, a.SlotOffset(3)-int64(len(desc)))
	require.NoError(t, err)
	body := len(layout.AppendBatch(nil, &b.Batch))
	start := a.SlotOffset(3) - int64(len(desc))
	whole := a.Device.(*memdev.Device)
	old := make([]byte, block.SectorSize)
	for i := range old {
		old[i] = byte(rng.Uint32())
	}
	for _, left := range [][]byte{make([]byte, block.SectorSize), old} {
		for at := 0; at < len(desc); at += block.SectorSize {
			torn := *a
			torn.Device = whole.Clone()
			_, err := torn.Device.WriteAt(left, start+int64(at))
			require.NoError(t, err)
			_, _, err = copylog.ReadDescriptor(&torn, 2, testID)
			// The record is the last page and then the pages before it.
			place := (at + block.PageSize) % len(desc)
			if place < layout.RecordHeaderSize+body {
				require.ErrorIs(t, err, layout.ErrCorrupt, "sector at %d", at)
			} else {
				require.NoError(t, err, "what follows the record does not matter")
			}
		}
	}
}

// Only the exact record that is wanted is taken: a slot holds old descriptors with
// valid checksums, and a chunk's bytes may look like one.
func TestOtherRecordsAreNotTaken(t *testing.T) {
	a := newArea(12, 4)
	b := copylog.NewBatch(0, 4096)
	b.Head = 1
	put := func(h layout.RecordHeader) {
		_, err := a.Device.WriteAt(b.SealDescriptor(h), a.SlotOffset(1))
		require.NoError(t, err)
	}
	put(header(b))
	for name, want := range map[string]layout.Identity{
		"earlier": {UUID: testID.UUID, Epoch: testID.Epoch, Seq: testID.Seq + 1},
		"later":   {UUID: testID.UUID, Epoch: testID.Epoch, Seq: testID.Seq - 1},
		"epoch":   {UUID: testID.UUID, Epoch: testID.Epoch + 1, Seq: testID.Seq},
		"store":   {UUID: layout.UUID{1}, Epoch: testID.Epoch, Seq: testID.Seq},
	} {
		_, _, err := copylog.ReadDescriptor(a, 1, want)
		require.ErrorIs(t, err, layout.ErrCorrupt, name)
	}
	_, _, err := copylog.ReadDescriptor(a, 2, testID)
	require.ErrorIs(t, err, layout.ErrCorrupt, "an empty slot")
	for _, s := range []block.Slot{4, 1 << 63} {
		_, _, err = copylog.ReadDescriptor(a, s, testID)
		require.ErrorIs(t, err, layout.ErrCorrupt, "outside the area")
	}

	h := header(b)
	h.Kind = layout.RecordSnapshot
	put(h)
	_, _, err = copylog.ReadDescriptor(a, 1, testID)
	require.ErrorIs(t, err, layout.ErrCorrupt, "another kind")

	require.NoError(t, a.Device.(*memdev.Device).Close())
	_, _, err = copylog.ReadDescriptor(a, 1, testID)
	require.ErrorIs(t, err, device.ErrClosed)
	require.NotErrorIs(t, err, layout.ErrCorrupt, "a failed read is not the end of the log")
}

// A body that its slot cannot hold is refused before it is read.
func TestBodyLongerThanTheSlot(t *testing.T) {
	long := copylog.NewBatch(0, 8192)
	rng := rand.New(rand.NewPCG(2, 2))
	long.Copies = shapes[3].newCopies(rng, 200, 1)
	desc := long.SealDescriptor(header(long))
	require.Len(t, desc, 8192)
	a := newArea(12, 2)
	_, err := a.Device.WriteAt(desc[4096:], a.SlotOffset(1))
	require.NoError(t, err)
	_, _, err = copylog.ReadDescriptor(a, 1, testID)
	require.ErrorIs(t, err, layout.ErrCorrupt)
}

func FuzzReadDescriptor(f *testing.F) {
	b := copylog.NewBatch(0, 8192)
	f.Add(make([]byte, 8192))
	f.Add(append(make([]byte, 4096), b.SealDescriptor(header(b))...))
	b.Copies = shapes[3].newCopies(rand.New(rand.NewPCG(2, 2)), 200, 1)
	f.Add(b.SealDescriptor(header(b)))
	f.Fuzz(func(t *testing.T, slot []byte) {
		a := newArea(13, 1)
		_, err := a.Device.WriteAt(append(slot, make([]byte, 8192)...)[:8192], areaOffset)
		require.NoError(t, err)
		_, got, err := copylog.ReadDescriptor(a, 0, testID)
		if err != nil {
			require.True(t, errors.Is(err, layout.ErrCorrupt) || errors.Is(err, layout.ErrVersion), "%v", err)
			return
		}
		require.LessOrEqual(t, len(got.Copies), 8192/layout.CopySize)
	})
}
