// SPDX-License-Identifier: Apache-2.0

// Package devtest is the conformance suite of [device.Device].
//
// It owns the tests of the contract; it does not test what a crash leaves, since
// only simulations can crash. Every implementation's tests call [Run] with a
// function that opens a fresh one. Each subtest opens its own device and is done
// with it at its end; devices that can be closed are closed. A violation fails
// the test that found it.
package devtest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
)

const (
	sector = 512
	// minSize is what open must give: enough for the largest request below.
	minSize = 4 << 20
)

// Run tests devices that open returns, each of at least 4 MiB and with content
// that does not matter. Optional abilities are tested where present: Zeroer,
// Doer, io.Closer.
func Run(t *testing.T, open func(t *testing.T) device.Device) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, d device.Device)
	}{
		{"Data", testData},
		{"RandomOperations", testRandom},
		{"UnalignedBuffers", testUnalignedBuffers},
		{"Range", testRange},
		{"Alignment", testAlignment},
		{"EmptyRanges", testEmpty},
		{"Discard", testDiscard},
		{"WriteZeroes", testZeroes},
		{"Do", testDo},
		{"DoError", testDoError},
		{"Concurrency", testConcurrency},
		{"ConcurrentNeighbours", testNeighbours},
		{"Closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			require.GreaterOrEqual(t, d.Size(), int64(minSize))
			require.Zero(t, d.Size()%sector)
			if c, ok := d.(io.Closer); ok {
				defer c.Close()
			}
			c.test(t, d)
		})
	}
}

func write(t *testing.T, d device.Device, p []byte, off int64) {
	t.Helper()
	n, err := d.WriteAt(p, off)
	require.NoError(t, err)
	require.Equal(t, len(p), n)
}

func read(t *testing.T, d device.Device, off int64, n int) []byte {
	t.Helper()
	p := bytes.Repeat([]byte{0xEE}, n)
	got, err := d.ReadAt(p, off)
	require.NoError(t, err)
	require.Equal(t, n, got)
	return p
}

func random(rng *rand.Rand, n int) []byte {
	p := device.Buffer(n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func source() *rand.Rand { return rand.New(rand.NewPCG(11, 7)) }

func testData(t *testing.T, d device.Device) {
	rng := source()
	for _, off := range []int64{0, 1 << 20, d.Size() - 1<<20, 3 * sector, d.Size() - sector} {
		p := random(rng, int(min(1<<20, d.Size()-off)))
		write(t, d, p, off)
		require.True(t, bytes.Equal(p, read(t, d, off, len(p))), "at %d", off)
		require.NoError(t, d.Flush())
		require.True(t, bytes.Equal(p, read(t, d, off, len(p))), "at %d, flushed", off)
	}
}

// testRandom compares with an array of bytes.
func testRandom(t *testing.T, d device.Device) {
	rng := source()
	want := make([]byte, 256<<10)
	write(t, d, want, 0)
	for range 300 {
		off := rng.IntN(len(want)/sector) * sector
		n := rng.IntN(min(64, (len(want)-off)/sector)+1) * sector
		switch rng.IntN(8) {
		case 0:
			require.NoError(t, d.Flush())
		case 1:
			require.NoError(t, device.WriteZeroes(d, int64(off), int64(n)))
			clear(want[off : off+n])
		case 2, 3, 4:
			p := random(rng, n)
			write(t, d, p, int64(off))
			copy(want[off:], p)
		default:
			require.True(t, bytes.Equal(want[off:off+n], read(t, d, int64(off), n)), "%d bytes at %d", n, off)
		}
	}
	require.True(t, bytes.Equal(want, read(t, d, 0, len(want))))
}

func testUnalignedBuffers(t *testing.T, d device.Device) {
	rng := source()
	for _, skew := range []int{1, 8, 512, 4095} {
		p := random(rng, skew+64<<10)[skew:]
		write(t, d, p, sector)
		got := device.Buffer(skew + len(p))[skew:]
		_, err := d.ReadAt(got, sector)
		require.NoError(t, err)
		require.True(t, bytes.Equal(p, got), "skew %d", skew)
	}
}

func testRange(t *testing.T, d device.Device) {
	keep := random(source(), sector)
	write(t, d, keep, d.Size()-sector)
	for _, r := range []struct{ off, n int64 }{
		{-sector, sector}, {d.Size(), sector}, {d.Size() - sector, 2 * sector},
		{1 << 62, sector}, {-1 << 62, sector},
	} {
		p := device.Buffer(int(r.n))
		_, err := d.ReadAt(p, r.off)
		require.ErrorIs(t, err, device.ErrRange)
		_, err = d.WriteAt(p, r.off)
		require.ErrorIs(t, err, device.ErrRange)
	}
	for _, r := range []struct{ off, n int64 }{
		{-sector, sector}, {0, -sector}, {sector, d.Size()}, {sector, 1<<63 - sector},
	} {
		require.ErrorIs(t, d.Discard(r.off, r.n), device.ErrRange)
		require.ErrorIs(t, device.WriteZeroes(d, r.off, r.n), device.ErrRange)
	}
	require.Equal(t, keep, read(t, d, d.Size()-sector, sector), "a refused operation changes nothing")
}

func testAlignment(t *testing.T, d device.Device) {
	for _, r := range []struct{ off, n int64 }{{1, sector}, {0, 1}, {sector, 511}, {256, 256}} {
		p := device.Buffer(int(r.n))
		_, err := d.ReadAt(p, r.off)
		require.ErrorIs(t, err, device.ErrAlign)
		_, err = d.WriteAt(p, r.off)
		require.ErrorIs(t, err, device.ErrAlign)
		require.ErrorIs(t, d.Discard(r.off, r.n), device.ErrAlign)
		require.ErrorIs(t, device.WriteZeroes(d, r.off, r.n), device.ErrAlign)
	}
}

func testEmpty(t *testing.T, d device.Device) {
	keep := random(source(), 4096)
	write(t, d, keep, 0)
	for _, off := range []int64{0, sector, d.Size()} {
		write(t, d, nil, off)
		read(t, d, off, 0)
		require.NoError(t, d.Discard(off, 0))
		require.NoError(t, device.WriteZeroes(d, off, 0))
	}
	require.NoError(t, device.Do(d, nil))
	require.Equal(t, keep, read(t, d, 0, 4096))
}

func testDiscard(t *testing.T, d device.Device) {
	rng := source()
	p := random(rng, 64<<10)
	write(t, d, p, 0)
	require.NoError(t, d.Discard(3*sector, 9*4096))
	require.Equal(t, p[:3*sector], read(t, d, 0, 3*sector), "before the range")
	end := 3*sector + 9*4096
	require.Equal(t, p[end:], read(t, d, int64(end), len(p)-end), "after the range")
	again := random(rng, 8192)
	write(t, d, again, 4096)
	require.Equal(t, again, read(t, d, 4096, 8192), "written after a discard")
	require.NoError(t, d.Flush())
	require.Equal(t, again, read(t, d, 4096, 8192))
}

func testZeroes(t *testing.T, d device.Device) {
	p := random(source(), 2<<20)
	for _, r := range []struct{ off, n int }{{0, sector}, {sector, 4096}, {4096, 8192}, {3 * sector, 1<<20 + sector}, {0, 2 << 20}} {
		write(t, d, p, 0)
		require.NoError(t, device.WriteZeroes(d, int64(r.off), int64(r.n)))
		got := read(t, d, 0, len(p))
		require.True(t, bytes.Equal(p[:r.off], got[:r.off]), "before %v", r)
		require.True(t, bytes.Equal(make([]byte, r.n), got[r.off:r.off+r.n]), "in %v", r)
		require.True(t, bytes.Equal(p[r.off+r.n:], got[r.off+r.n:]), "after %v", r)
	}
}

func testDo(t *testing.T, d device.Device) {
	const ops, size = 200, 8 << 10
	p := random(source(), ops*size)
	var writes, reads []device.Op
	got := device.Buffer(len(p))
	for i := range ops {
		at := (i * 77 % ops) * size
		writes = append(writes, device.Op{Kind: device.Write, Off: int64(at), Data: p[at : at+size]})
		reads = append(reads, device.Op{Kind: device.Read, Off: int64(at), Data: got[at : at+size]})
	}
	require.NoError(t, device.Do(d, writes))
	require.NoError(t, device.Do(d, reads))
	require.True(t, bytes.Equal(p, got))
	require.NoError(t, device.Do(d, reads[:1]))
}

func testDoError(t *testing.T, d device.Device) {
	p := random(source(), 3*4096)
	err := device.Do(d, []device.Op{
		{Kind: device.Write, Off: 0, Data: p[:4096]},
		{Kind: device.Write, Off: d.Size(), Data: p[4096:8192]},
		{Kind: device.Write, Off: 1, Data: p[4096:8192]},
		{Kind: device.Write, Off: 8192, Data: p[8192:]},
	})
	require.ErrorIs(t, err, device.ErrRange, "the first error by index")
	require.Equal(t, p[:4096], read(t, d, 0, 4096), "ops before a failed one take place")
	require.Equal(t, p[8192:], read(t, d, 8192, 4096), "ops after a failed one take place")
}

// testConcurrency lets writers share sectors: each sector must be one writer's.
func testConcurrency(t *testing.T, d device.Device) {
	const span = 64 * sector
	write(t, d, make([]byte, span), 0)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for range 40 {
				off := rng.IntN(span/sector-8) * sector
				_, err := d.WriteAt(bytes.Repeat([]byte{byte(w + 1)}, (1+rng.IntN(8))*sector), int64(off))
				noError(t, err)
				if rng.IntN(8) == 0 {
					noError(t, d.Flush())
				}
				_, err = d.ReadAt(device.Buffer(8*sector), int64(off))
				noError(t, err)
			}
		})
	}
	wg.Wait()
	got := read(t, d, 0, span)
	for off := 0; off < span; off += sector {
		s := got[off : off+sector]
		require.True(t, bytes.Equal(bytes.Repeat(s[:1], sector), s), "sector at %d is torn", off)
	}
}

// testNeighbours lets each writer own one sector of a block: what one writes
// must not undo what another wrote beside it.
func testNeighbours(t *testing.T, d device.Device) {
	write(t, d, make([]byte, 8*sector), 4096)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				p := bytes.Repeat([]byte{byte(1 + (w+i)%200)}, sector)
				off := int64(4096 + w*sector)
				_, err := d.WriteAt(p, off)
				noError(t, err)
				got := make([]byte, sector)
				_, err = d.ReadAt(got, off)
				noError(t, err)
				if !bytes.Equal(p, got) {
					t.Errorf("sector of writer %d, round %d: read %d, wrote %d", w, i, got[0], p[0])
				}
			}
		})
	}
	wg.Wait()
}

func noError(t *testing.T, err error) {
	if err != nil {
		t.Error(err)
	}
}

func testClosed(t *testing.T, d device.Device) {
	c, ok := d.(io.Closer)
	if !ok {
		t.Skip("the device has no Close")
	}
	size := d.Size()
	require.NoError(t, c.Close())
	p := device.Buffer(4096)
	_, r := d.ReadAt(p, 0)
	_, w := d.WriteAt(p, 0)
	for i, err := range []error{
		r, w, d.Flush(), d.Discard(0, 4096), device.WriteZeroes(d, 0, 4096),
		device.Do(d, []device.Op{{Kind: device.Read, Data: p}}),
	} {
		require.Truef(t, errors.Is(err, device.ErrClosed), "operation %d: %v", i, err)
	}
	require.Equal(t, size, d.Size(), "Size works after Close")
}
