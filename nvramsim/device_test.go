// SPDX-License-Identifier: Apache-2.0

package nvramsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/devtest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/nvramsim"
)

const size = 64 << 20

// drives are all models of block devices.
func drives(clock *nvramsim.Clock) map[string]*nvramsim.Model {
	uncached := nvramsim.TypicalHDD()
	uncached.WriteCache = 0
	return map[string]*nvramsim.Model{
		"hdd":          nvramsim.NewHDD(clock, nvramsim.TypicalHDD()),
		"hdd-uncached": nvramsim.NewHDD(clock, uncached),
		"sata-ssd":     nvramsim.NewFlash(clock, nvramsim.TypicalSATASSD()),
		"nvme":         nvramsim.NewFlash(clock, nvramsim.TypicalNVMe()),
		"nvram":        nvramsim.NewNVRAM(clock, nvramsim.TypicalNVRAM()),
	}
}

func partition(t testing.TB, m *nvramsim.Model, off, size int64) *nvramsim.Partition {
	t.Helper()
	p, err := m.Partition(off, memdev.New(size))
	require.NoError(t, err)
	return p
}

func TestConformance(t *testing.T) {
	for name := range drives(nil) {
		t.Run(name, func(t *testing.T) {
			devtest.Run(t, func(t *testing.T) device.Device {
				return partition(t, drives(new(nvramsim.Clock))[name], 1<<30, 5<<20+512)
			})
		})
	}
}

func TestPartitionMustFit(t *testing.T) {
	m := nvramsim.NewNVRAM(new(nvramsim.Clock), nvramsim.TypicalNVRAM())
	_, err := m.Partition(m.Size()-4096, memdev.New(8192))
	require.ErrorIs(t, err, device.ErrRange)
	_, err = m.Partition(100, memdev.New(8192))
	require.ErrorIs(t, err, device.ErrAlign)
}

func TestStatsAreExact(t *testing.T) {
	for name, m := range drives(new(nvramsim.Clock)) {
		t.Run(name, func(t *testing.T) {
			d, p := partition(t, m, 0, size), make([]byte, 8192)
			_, err := d.WriteAt(p, 0)
			require.NoError(t, err)
			_, err = d.ReadAt(p[:4096], 1<<20)
			require.NoError(t, err)
			require.NoError(t, d.Do([]device.Op{{Kind: device.Read, Data: p}, {Kind: device.Write, Off: 8192, Data: p}}))
			require.NoError(t, d.Flush())
			require.NoError(t, d.Discard(0, 4096))
			require.NoError(t, d.WriteZeroes(0, 512))
			_, err = d.ReadAt(p, size)
			require.Error(t, err)
			got := m.Stats()
			require.Equal(t, []int64{2, 2, 1, 1, 1, 12288, 16384, 4096, 512}, []int64{got.Reads, got.Writes, got.Flushes,
				got.Discards, got.Zeroings, got.BytesRead, got.BytesWritten, got.BytesDiscarded, got.BytesZeroed})
		})
	}
}
