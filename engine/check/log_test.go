// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

// unclean returns a store with several records in both logs, cut off.
func unclean(t testing.TB, s shape) *rig {
	r := newRig(t, s)
	r.fill()
	r.snapshot(8)
	r.scribble(4)
	r.snapshot(9)
	r.scribble(4)
	return r.crash(memdev.Fate{Keep: 1})
}

// readWriter is any of the devices.
type readWriter interface {
	io.ReaderAt
	WriteAt(p []byte, off int64) (int, error)
}

// place is a log record on a device.
type place struct {
	dev readWriter
	off int64
}

// sectors returns what the record's first bytes lie in, and where.
func (p place) sectors(t testing.TB) ([]byte, int64) {
	buf := make([]byte, 2*block.SectorSize)
	at := p.off / block.SectorSize * block.SectorSize
	_, err := p.dev.ReadAt(buf, at)
	require.NoError(t, err)
	return buf, at
}

// spoil flips a bit of the record's body.
func (p place) spoil(t testing.TB) {
	buf, at := p.sectors(t)
	buf[p.off-at+layout.RecordHeaderSize] ^= 1
	_, err := p.dev.WriteAt(buf, at)
	require.NoError(t, err)
}

// batches returns where the batch records since the checkpoint are.
func (r *rig) batches() []place {
	sb := r.superblock()
	id := layout.Identity{UUID: sb.UUID, Epoch: sb.Epoch, Seq: sb.LogPos.Seq}
	at := sb.LogPos.Place
	var found []place
	for {
		p, grain := r.batchPlace(sb, at)
		buf := make([]byte, block.PageSize)
		if n, err := p.dev.ReadAt(buf, p.off); err != nil || n < len(buf) {
			return found
		}
		h, err := layout.DecodeRecordHeader(buf, id)
		if err != nil {
			return found
		}
		found = append(found, p)
		id.Seq++
		at = uint64(h.Next)
		if grain > 0 {
			at = uint64(p.off-r.journalStart(sb)) + (layout.RecordHeaderSize+uint64(h.Body)+grain-1)/grain*grain
		}
	}
}

func (r *rig) journalStart(sb *layout.Superblock) int64 {
	if sb.Placement == layout.PlacementDisk {
		return int64(sb.Journal.First) * block.PageSize
	}
	return layout.LabelSize
}

func (r *rig) batchPlace(sb *layout.Superblock, at uint64) (place, uint64) {
	switch start := r.journalStart(sb); sb.Placement {
	case layout.PlacementDisk:
		return place{r.metadata(), start + int64(at)}, block.PageSize
	case layout.PlacementNVRAM:
		return place{r.nvram, start + int64(at)}, block.PageSize
	case layout.PlacementPMem:
		return place{r.pmem, start + int64(at)}, 64
	}
	return place{r.data, sb.DataOffset + int64(at+1)*chunkSize - block.PageSize}, 0
}

// A record that a later one says was durable must be there. The last one may be
// torn.
func TestLostBatchRecordIsFound(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			whole := unclean(t, s)
			checktest.MustBeClean(t, whole.checked())
			n := len(whole.batches())
			require.Greater(t, n, 4)
			for _, i := range []int{0, n / 2, n - 2} {
				r := whole.copied()
				p := r.batches()[i]
				p.spoil(t)
				found := checktest.Violations(r.checked(), check.Leak)
				require.Contains(t, names(found, check.Damage), check.BadLog, "record %d of %d", i, n)
			}
			r := whole.copied()
			r.batches()[n-1].spoil(t)
			checktest.MustBeClean(t, r.checked())
			r.open() // and recovery agrees
			r.close()
			checktest.MustBeClean(t, r.checked())
		})
	}
}

func TestLostSnapshotRecordIsFound(t *testing.T) {
	for _, s := range []shape{{layout.PlacementInline, false}, {layout.PlacementPMem, true}} {
		whole := unclean(t, s)
		sb := whole.superblock()
		for i, lost := range map[int64]bool{0: true, 1: true, 2: false} {
			r := whole.copied()
			place{r.metadata(), int64(sb.Control.First)*block.PageSize + int64(sb.ControlPos.Place) + i*block.PageSize}.spoil(t)
			found := checktest.Violations(r.checked(), check.Leak)
			if lost {
				require.Contains(t, names(found, check.Damage), check.BadLog)
				require.Contains(t, found[0].Structure, "control record")
			} else {
				// The last snapshot may never have been made, but then nothing can
				// have been copied out for it.
				require.Contains(t, names(found, check.Damage), check.BadLog)
				require.Contains(t, found[0].Structure, "batch record")
			}
		}
	}
}

// Records whose checksums are right and that recovery refuses.
func TestRefusedRecordIsFound(t *testing.T) {
	for _, s := range shapes() {
		whole := unclean(t, s)
		sb := whole.superblock()
		for name, b := range map[string]layout.Batch{
			"generation": {Generation: 100},
			"branch":     {Generation: 1, Branch: 1},
			"chunk":      {Generation: 1, Copies: []layout.Copy{{Chunk: 1 << 40}}},
			"slot":       {Generation: 1, Copies: []layout.Copy{{Slot: 1 << 40}}},
		} {
			r := whole.copied()
			rec := layout.AppendBatch(make([]byte, layout.RecordHeaderSize), &b)
			layout.SealRecord(layout.RecordHeader{
				Identity: layout.Identity{UUID: sb.UUID, Epoch: sb.Epoch, Seq: sb.LogPos.Seq},
				Kind:     layout.RecordBatch, Durable: sb.LogPos.Seq - 1,
			}, rec)
			p := r.batches()[0]
			buf, at := p.sectors(t)
			copy(buf[p.off-at:], rec)
			_, err := p.dev.WriteAt(buf, at)
			require.NoError(t, err)
			found := checktest.Violations(r.checked(), check.Leak)
			require.Equal(t, check.BadLog, found[0].Code, "%v %s:\n%s", s, name, checktest.Format(found))
			require.Contains(t, found[0].Meaning, "refuses")
		}
	}
}

// A superblock that places the logs outside their regions.
func TestLogOutsideItsRegionIsFound(t *testing.T) {
	for _, s := range shapes() {
		for name, change := range map[string]func(*layout.Superblock){
			"batches":   func(sb *layout.Superblock) { sb.LogPos.Place = 1<<40 + 1 },
			"snapshots": func(sb *layout.Superblock) { sb.ControlPos.Place = 1<<40 + 1 },
		} {
			r := unclean(t, s)
			r.editSuperblock(change)
			require.Contains(t, names(r.find(check.Options{}), check.Damage), check.BadLog, "%v %s", s, name)
		}
	}
}
