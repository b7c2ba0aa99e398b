// SPDX-License-Identifier: Apache-2.0

package nvramsim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/nvramsim"
)

func flash(t testing.TB, p nvramsim.FlashParams) (*nvramsim.Model, *nvramsim.Partition) {
	t.Helper()
	m := nvramsim.NewFlash(new(nvramsim.Clock), p)
	return m, partition(t, m, 0, p.Size)
}

// TestFlashByHand counts single commands by the figures.
func TestFlashByHand(t *testing.T) {
	const us = time.Microsecond
	p := nvramsim.FlashParams{
		Size: 1 << 30, Units: 4, PageSize: 16 << 10, ReadTime: 70 * us, ProgramSize: 64 << 10, ProgramTime: 700 * us,
		SuspendTime: 100 * us, BusRate: 4096e6, Overhead: 20 * us, CommandTime: 10 * us, QueueDepth: 2, WriteCache: 128 << 10,
		FlushTime: 1500 * us, MappingTime: 50 * us,
	}
	_, other := flash(t, p)
	m, d := flash(t, p)
	for _, c := range []struct {
		name string
		want time.Duration
		do   func()
	}{
		{"read 4 KiB", 101 * us, func() { read(t, d, 0, 4096) }},
		{"read a page of each die", (30 + 70 + 16) * us, func() { read(t, d, 0, 64<<10) }},
		{"read a page of one die and 4 KiB of the next", (30 + 70 + 5) * us, func() { read(t, d, 0, 20<<10) }},
		{"write 4 KiB", 31 * us, func() { write(t, d, 0, 4096) }},
		{"flush 4 KiB", (30 + 700 + 1500) * us, func() { require.NoError(t, d.Flush()) }},
		{"flush nothing", 30 * us, func() { require.NoError(t, d.Flush()) }},
		{"fill the cache", (30 + 32) * us, func() { write(t, d, 0, 128<<10) }},
		{"wait for room: until the first program ends", (700 - 16 + 1) * us, func() { write(t, d, 1<<20, 4096) }},
		{"discard", 80 * us, func() { require.NoError(t, d.Discard(0, 1<<20)) }},
		{"nothing", 0, func() { require.NoError(t, other.Do(nil)) }},
	} {
		require.Equal(t, c.want, took(m, c.do), c.name)
	}

	m, d = flash(t, p)
	ops := make([]device.Op, 4)
	for i := range ops {
		ops[i] = device.Op{Kind: device.Read, Off: int64(i) * 16 << 10, Data: make([]byte, 4096)}
	}
	// The first two end at 101 and 111, when the others may enter.
	require.Equal(t, (111+101)*us, took(m, func() { require.NoError(t, d.Do(ops)) }), "two at a time")
}

func TestFlashTypical(t *testing.T) {
	ssd, ssdDev := flash(t, nvramsim.TypicalSATASSD())
	nvme, nvmeDev := flash(t, nvramsim.TypicalNVMe())
	synced := func(m *nvramsim.Model, d device.Device) time.Duration {
		return took(m, func() {
			write(t, d, 0, 4096)
			require.NoError(t, d.Flush())
		})
	}
	require.Greater(t, synced(ssd, ssdDev), 2*time.Millisecond)
	require.Less(t, synced(nvme, nvmeDev), 60*time.Microsecond)

	const n = 256 << 20
	got := took(ssd, func() { write(t, ssdDev, 0, n) })
	require.InEpsilon(t, n/550e6, got.Seconds(), 0.02, "bound by SATA")
	got = took(nvme, func() { write(t, nvmeDev, 0, n) })
	require.InEpsilon(t, (n-64<<20)/(32*65536/1100e-6), got.Seconds(), 0.05, "bound by its dies")

	ops := random(device.Read, 20000, nvmeDev.Size())
	nvme, nvmeDev = flash(t, nvramsim.TypicalNVMe())
	got = took(nvme, func() { require.NoError(t, nvmeDev.Do(ops)) })
	require.Greater(t, 20000/got.Seconds(), 250e3)
	require.Less(t, 20000/got.Seconds(), 500e3)
	t.Logf("NVMe random 4 KiB reads a second: %.0f", 20000/got.Seconds())
}
