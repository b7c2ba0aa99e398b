// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

// benchOrigin returns a volume in memory, so that what is measured is the code.
func benchOrigin(b *testing.B, size int64, chunk int) (*server.Server, *volume.Origin) {
	devs := placement.Devices{Store: memdev.New(64 << 30)}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: size, ChunkSize: chunk})
	require.NoError(b, err)
	srv, err := server.Open(devs, server.Options{})
	require.NoError(b, err)
	v, err := volume.OpenOrigin(srv, memdev.New(size), devs, volume.Options{AheadBytes: -1})
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, v.Close())
		require.NoError(b, srv.Close())
	})
	return srv, v
}

// BenchmarkRewrite measures writes of settled chunks.
func BenchmarkRewrite(b *testing.B) {
	const size, chunk = 64 << 20, 64 << 10
	srv, v := benchOrigin(b, size, chunk)
	_, err := srv.CreateSnapshot(1)
	require.NoError(b, err)
	buf := device.Buffer(4096)
	for off := int64(0); off < size; off += chunk {
		_, err := v.WriteAt(buf, off)
		require.NoError(b, err)
	}
	b.ReportAllocs()
	var next atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		buf := device.Buffer(4096)
		for pb.Next() {
			if _, err := v.WriteAt(buf, next.Add(1)*4096%size); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkFirstWrite measures writes that each copy a chunk of zeroes out: the
// index, the batches and the checksums, but hardly the devices.
func BenchmarkFirstWrite(b *testing.B) {
	const chunk = 4 << 10
	srv, v := benchOrigin(b, 16<<30, chunk)
	_, err := srv.CreateSnapshot(1)
	require.NoError(b, err)
	chunks := uint64(v.Size() / chunk)
	b.ReportAllocs()
	var next atomic.Uint64
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		buf := device.Buffer(4096)
		for pb.Next() {
			c := block.Chunk(next.Add(1) * 0x9e3779b97f4a7c15 % chunks)
			if _, err := v.WriteAt(buf, int64(c)*chunk); err != nil {
				b.Error(err)
			}
		}
	})
}
