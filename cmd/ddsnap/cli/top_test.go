// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
)

func TestTop(t *testing.T) {
	start := time.Date(2026, 11, 22, 17, 0, 0, 0, time.Local)
	status := admin.Status{
		Mode: "read-write", Snapshots: 2, BeingFreed: 1, ChunkSize: 1 << 16, Slots: 16384, SlotsUsed: 1024, SlotsLeased: 512,
		MetadataPages: 1000, MetadataUsed: 250, Batches: 10, Copied: 100, Volume: &admin.Volume{},
	}
	before := moment{start.Add(58 * time.Second), status}
	status.SlotsUsed += 1200
	in := 680.0
	status.FullIn = &in
	status.Batches, status.Copied = 50, 1300
	status.Volume = &admin.Volume{Reads: 3000, Writes: 9, ReadBytes: 12 << 20, WrittenBytes: 36 << 10}
	now := moment{start.Add(60 * time.Second), status}

	var out bytes.Buffer
	a := &app{Streams: Streams{Out: &out}}
	require.NoError(t, a.showTop("vm.control", newActivity(before, now)))
	require.Equal(t, `2026-11-22 17:01:00  vm.control
State:     read-write, 2 snapshots, 1 being freed
Origin:    1,500 reads/s, 6 MiB/s; 4.5 writes/s, 18 KiB/s
Copied:    600 chunks/s, 37.5 MiB/s; 20 batches/s of 30.0 chunks
Leased:    32 MiB
Store:     [####--------------------------]  13.6 % of 1 GiB, 853 MiB free
Metadata:  [########----------------------]  25.0 % of 3.9 MiB
Full:      in 11 min at this rate
`, out.String())

	// A server that was restarted counts from zero again, and what is not known is
	// not shown as nothing.
	status = admin.Status{Mode: "read-write", Slots: 100, SlotsUsed: 10, ChunkSize: 4096}
	x := newActivity(now, moment{start.Add(61 * time.Second), status})
	require.Zero(t, x.Copied)
	require.Nil(t, x.FullIn)
	fields := topFields(x)
	require.Equal(t, "not served by this process", fields[1][1])
	require.Equal(t, "not filling", fields[6][1])
}
