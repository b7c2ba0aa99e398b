// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

// countingReads counts the reads of a device.
type countingReads struct {
	device.Device
	reads int
}

func (d *countingReads) ReadAt(p []byte, off int64) (int, error) {
	d.reads++
	return d.Device.ReadAt(p, off)
}

// uncleanly makes a synthetic store one that was not closed, whose log ends where it
// begins: in the first slot that is free.
func uncleanly(t *testing.T, o checktest.Synthetic, d device.Device) *layout.Superblock {
	t.Helper()
	require.NoError(t, o.Write(d))
	page := device.Buffer(block.PageSize)
	_, err := d.ReadAt(page, 0)
	require.NoError(t, err)
	sb, err := layout.DecodeSuperblock(page[:layout.SuperblockSize])
	require.NoError(t, err)
	sb.Clean, sb.Epoch = false, sb.Epoch+1
	sb.LogPos = layout.Position{Place: uint64(o.Exceptions), Seq: 5}
	copy(page, sb.Encode())
	_, err = d.WriteAt(page, 0)
	require.NoError(t, err)
	return sb
}

// record writes a descriptor of placement inline into a slot.
func record(t *testing.T, d device.Device, sb *layout.Superblock, slot block.Slot, seq uint64) {
	t.Helper()
	page := device.Buffer(block.PageSize)
	rec := layout.AppendBatch(page[:layout.RecordHeaderSize], &layout.Batch{Generation: sb.Generation})
	h := layout.RecordHeader{
		Identity: layout.Identity{UUID: sb.UUID, Epoch: sb.Epoch, Seq: seq}, Kind: layout.RecordBatch, Durable: seq - 1,
	}
	layout.SealRecord(h, rec)
	_, err := d.WriteAt(page, sb.DataOffset+int64(slot+1)<<sb.ChunkShift-block.PageSize)
	require.NoError(t, err)
}

// The rest of a lost log is looked for in slots that were not in use, with few reads;
// and found in the last of them.
func TestLostRestIsLookedForWhereItCanBe(t *testing.T) {
	o := checktest.Synthetic{Exceptions: 20000, Snapshots: 10}
	d := memdev.New(o.StoreSize())
	sb := uncleanly(t, o, d)
	reads := func(data bool) (int, []check.Violation) {
		counted := &countingReads{Device: d}
		var found []check.Violation
		for v := range check.Check(check.Devices{Store: counted}, check.Options{Data: data}) {
			if v.Severity == check.Damage {
				found = append(found, v)
			}
		}
		return counted.reads, found
	}
	pages, found := reads(false)
	require.Empty(t, found)
	all, found := reads(true)
	require.Empty(t, found)
	free := int(sb.Slots) - o.Exceptions
	require.Greater(t, free, 5000)
	require.Less(t, all-pages-o.Exceptions, free/64, "reads beyond those of the pages and of every chunk")
	record(t, d, sb, block.Slot(sb.Slots-1), 9)
	_, found = reads(true)
	require.Equal(t, []check.Code{check.BadLog}, codesOf(found))
	record(t, d, sb, block.Slot(sb.Slots-1), 4)
	_, found = reads(true)
	require.Empty(t, found, "it is older")
}

func codesOf(list []check.Violation) (codes []check.Code) {
	for _, v := range list {
		codes = append(codes, v.Code)
	}
	return codes
}
