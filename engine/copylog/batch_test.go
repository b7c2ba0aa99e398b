// SPDX-License-Identifier: Apache-2.0

package copylog_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

const areaOffset = 3 * block.PageSize

var testID = layout.Identity{UUID: layout.UUID{4, 2}, Epoch: 3, Seq: 77}

// newArea returns the area of a plain device with 2^shift bytes a slot.
func newArea(shift uint, slots uint64) *copylog.Area {
	return &copylog.Area{Device: memdev.New(areaOffset + int64(slots<<shift)), Offset: areaOffset, Slots: slots, ChunkShift: shift}
}

// shape is how chunks and slots of a batch lie.
type shape struct {
	name                        string
	chunkGap, slotGap, oneInGap uint64 // up to so many are left out, after one in oneInGap
}

var shapes = []shape{
	{"sequential", 0, 0, 1},
	{"scattered chunks", 1000, 0, 1},
	{"scattered slots", 0, 2, 1},
	{"scattered", 1000, 2, 1},
	{"runs", 50, 2, 5},
}

// newCopies returns n copies to slots from first on. Those before a gap of none are
// runs.
func (s shape) newCopies(rng *rand.Rand, n int, first block.Slot) []layout.Copy {
	copies := make([]layout.Copy, n)
	chunk, slot := block.Chunk(rng.Uint64N(1<<40)), first
	for i := range copies {
		copies[i] = layout.Copy{Chunk: chunk, Slot: slot}
		chunk, slot = chunk+1, slot+1
		if rng.Uint64N(s.oneInGap) == 0 {
			if s.chunkGap > 0 {
				chunk += block.Chunk(1 + rng.Uint64N(s.chunkGap))
			}
			if s.slotGap > 0 {
				slot += block.Slot(1 + rng.Uint64N(s.slotGap))
			}
		}
	}
	return copies
}

// fill gives every chunk of a batch bytes of its own and seals it.
func fill(rng *rand.Rand, b *copylog.Batch) {
	for i := range b.Copies {
		p := b.Chunk(i)
		for j := 0; j < len(p); j += 256 {
			p[j], p[j+255] = byte(1+rng.IntN(255)), byte(i)
		}
	}
	b.Seal()
}

// header returns the header of a batch's record.
func header(b *copylog.Batch) layout.RecordHeader {
	return layout.RecordHeader{Identity: testID, Kind: layout.RecordBatch, Durable: testID.Seq - 1, Next: b.Next}
}

// write puts a batch into the area as placement inline does.
func write(t testing.TB, a *copylog.Area, b *copylog.Batch) (desc []byte) {
	t.Helper()
	desc = b.SealDescriptor(header(b))
	_, err := a.Device.WriteAt(desc, a.SlotOffset(b.Head+1)-int64(len(desc)))
	require.NoError(t, err)
	require.NoError(t, device.Do(a.Device, b.Writes(a)))
	return desc
}

func TestRoundTrip(t *testing.T) {
	for shift := uint(12); shift <= 20; shift++ {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("%d/%s", 1<<shift, s.name), func(t *testing.T) {
				for _, n := range []int{0, 1, 2, min(143, 2<<20>>shift)} {
					roundTrip(t, shift, s, n)
				}
			})
		}
	}
}

func roundTrip(t *testing.T, shift uint, s shape, n int) {
	rng := rand.New(rand.NewPCG(uint64(shift), uint64(n)))
	a := newArea(shift, uint64(3*n+10))
	b := copylog.NewBatch(n+1, 1<<shift)
	require.Equal(t, n+1, b.Cap())
	b.Generation, b.Branch, b.Head, b.Next = 9, 1, block.Slot(rng.IntN(3)), 5
	b.Copies = s.newCopies(rng, n, b.Head+1)
	fill(rng, b)
	desc := write(t, a, b)
	require.Zero(t, len(desc)%block.PageSize)
	require.LessOrEqual(t, len(desc), 1<<shift)

	h, got, err := copylog.ReadDescriptor(a, b.Head, testID)
	require.NoError(t, err)
	require.Equal(t, testID, h.Identity)
	require.Equal(t, layout.RecordBatch, h.Kind)
	require.Equal(t, testID.Seq-1, h.Durable)
	require.Equal(t, block.Slot(5), h.Next)
	require.Equal(t, &layout.Batch{Generation: 9, Branch: 1, Copies: append([]layout.Copy{}, b.Copies...)}, got)
	ok, err := copylog.VerifyChunks(a, got)
	require.NoError(t, err)
	require.True(t, ok)
	for i, c := range b.Copies {
		slot := make([]byte, 1<<shift)
		_, err := a.Device.ReadAt(slot, a.SlotOffset(c.Slot))
		require.NoError(t, err)
		require.Equal(t, b.Chunk(i), slot)
	}
}

// The runs of a batch are the neighbours among its slots, whatever its chunks are,
// and its writes carry each chunk once.
func TestRunsAndWrites(t *testing.T) {
	a := newArea(12, 100)
	b := copylog.NewBatch(6, 4096)
	require.Empty(t, b.Runs())
	require.Empty(t, b.Writes(a))
	for i, slot := range []block.Slot{7, 8, 9, 20, 30, 31} {
		b.Copies = append(b.Copies, layout.Copy{Chunk: block.Chunk(i * i), Slot: slot})
	}
	require.Equal(t, []copylog.Run{{First: 0, Len: 3, Slot: 7}, {First: 3, Len: 1, Slot: 20}, {First: 4, Len: 2, Slot: 30}}, b.Runs())
	fill(rand.New(rand.NewPCG(1, 1)), b)
	ops := b.Writes(a)
	require.Len(t, ops, 3)
	for i, r := range b.Runs() {
		require.Equal(t, device.Write, ops[i].Kind)
		require.Equal(t, int64(areaOffset+r.Slot*4096), ops[i].Off)
		require.Equal(t, b.Chunks(r.First, r.Len), ops[i].Data)
		require.True(t, device.Aligned(ops[i].Data, 4096))
	}
}

// A descriptor and the chunks after it are one piece of memory.
func TestWithDescriptor(t *testing.T) {
	b := copylog.NewBatch(4, 16<<10)
	for i := range 3 {
		b.Copies = append(b.Copies, layout.Copy{Chunk: block.Chunk(i), Slot: block.Slot(i + 1)})
	}
	fill(rand.New(rand.NewPCG(1, 1)), b)
	desc := b.SealDescriptor(header(b))
	one := b.WithDescriptor(desc, 2)
	require.Equal(t, append(append([]byte{}, desc...), b.Chunks(0, 2)...), one)
	require.True(t, device.Aligned(one, 4096))
	require.Equal(t, desc, b.WithDescriptor(desc, 0))
}

// What Cost adds up to is always the size of the coded body.
func TestCostIsWhatCodingAdds(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 9))
		b := copylog.NewBatch(0, 4096)
		size := layout.MaxBatchBody(0)
		require.Len(t, layout.AppendBatch(nil, &b.Batch), size)
		s := shape{"", rng.Uint64N(3), rng.Uint64N(3), 1 + rng.Uint64N(4)}
		for _, c := range s.newCopies(rng, 60, 0) {
			size += b.Cost(c)
			b.Copies = append(b.Copies, c)
			require.Len(t, layout.AppendBatch(nil, &b.Batch), size)
		}
	}
}

// VerifyChunks notices each sector of each chunk that is not as it was written.
func TestTornChunksAreNoticed(t *testing.T) {
	a := newArea(13, 20)
	rng := rand.New(rand.NewPCG(5, 5))
	b := copylog.NewBatch(4, 8192)
	b.Copies = shapes[2].newCopies(rng, 4, 1)
	fill(rng, b)
	write(t, a, b)
	whole := a.Device.(*memdev.Device)
	for _, c := range b.Copies {
		for at := int64(0); at < 8192; at += block.SectorSize {
			torn := *a
			torn.Device = whole.Clone()
			_, err := torn.Device.WriteAt(make([]byte, block.SectorSize), a.SlotOffset(c.Slot)+at)
			require.NoError(t, err)
			ok, err := copylog.VerifyChunks(&torn, &b.Batch)
			require.NoError(t, err)
			require.False(t, ok, "slot %d, byte %d", c.Slot, at)
		}
	}
}

// A torn copy is known for one also where the old and the new sectors end in their own
// CRC32C, which makes the CRC32C of any such sectors the same.
func TestVerifyChunksOfSectorsWithChecksums(t *testing.T) {
	const size = 8192
	a := newArea(13, 4)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	rng := rand.New(rand.NewPCG(8, 9))
	sectors := func() []byte {
		p := make([]byte, size)
		for at := 0; at < size; at += block.SectorSize {
			s := p[at : at+block.SectorSize]
			for i := range s {
				s[i] = byte(rng.Uint32())
			}
			binary.LittleEndian.PutUint32(s[508:], crc32.Checksum(s[:508], castagnoli))
		}
		return p
	}
	before, now := sectors(), sectors()
	require.Equal(t, crc32.Checksum(before, castagnoli), crc32.Checksum(now, castagnoli))
	b := &layout.Batch{Copies: []layout.Copy{{Slot: 2, Sum: layout.SumOf(now)}}}
	for torn := range size / block.SectorSize {
		p := bytes.Clone(now)
		copy(p[torn*block.SectorSize:][:block.SectorSize], before[torn*block.SectorSize:])
		_, err := a.Device.WriteAt(p, a.SlotOffset(2))
		require.NoError(t, err)
		ok, err := copylog.VerifyChunks(a, b)
		require.NoError(t, err)
		require.False(t, ok, "sector %d", torn)
	}
}

// Chunks outside the area are not verified; a failed read is an error, not a torn
// chunk.
func TestVerifyChunksThatCannotBe(t *testing.T) {
	a := newArea(12, 4)
	zeroes := layout.SumOf(make([]byte, 4096))
	b := &layout.Batch{Copies: []layout.Copy{{Slot: 3, Sum: zeroes}}}
	ok, err := copylog.VerifyChunks(a, b)
	require.NoError(t, err)
	require.True(t, ok)
	for _, slot := range []block.Slot{4, 1 << 60} {
		require.ErrorIs(t, a.CheckSlot(slot), layout.ErrCorrupt)
		ok, err = copylog.VerifyChunks(a, &layout.Batch{Copies: []layout.Copy{{Slot: slot, Sum: zeroes}}})
		require.NoError(t, err)
		require.False(t, ok)
	}
	require.NoError(t, a.Device.(*memdev.Device).Close())
	_, err = copylog.VerifyChunks(a, b)
	require.ErrorIs(t, err, device.ErrClosed)
}
