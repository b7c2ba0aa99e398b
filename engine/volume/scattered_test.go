// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/wire"
)

// tardy is a server that takes its time with reports, so that leases are asked for
// meanwhile, and counts those refused for their number.
type tardy struct {
	wire.Server
	on              atomic.Bool
	leases, refused atomic.Int64
}

func (s *tardy) Report(b wire.Batch) (layout.Position, error) {
	if s.on.Load() {
		time.Sleep(time.Millisecond)
	}
	return s.Server.Report(b)
}

func (s *tardy) Lease(want uint64) ([]layout.SlotRun, error) {
	runs, err := s.Server.Lease(want)
	if s.leases.Add(1); errors.Is(err, alloc.ErrLeases) {
		s.refused.Add(1)
	}
	return runs, err
}

// scattered returns a store of which about 200 slots are free, no two of them
// neighbours.
func scattered(t *testing.T, server *tardy) *rig.Rig {
	o := small(layout.PlacementNVRAM)
	o.ChunkSize, o.StoreSize, o.AheadBytes = 4<<10, 400*4<<10, -1
	r := open(t, o, rig.Wrappers{Server: func(s wire.Server) wire.Server {
		server.Server = s
		return server
	}})
	last := block.Tag(0)
	for err := error(nil); err == nil; _, err = r.Volume.WriteAt(make([]byte, 4<<10), 0) {
		last++
		_, err := r.Server.CreateSnapshot(last)
		require.NoError(t, err)
	}
	require.Greater(t, last, block.Tag(390))
	for tag := block.Tag(1); tag < last; tag += 2 {
		require.NoError(t, r.Server.DeleteSnapshot(tag))
	}
	require.NoError(t, r.Maintain())
	require.NoError(t, r.Server.Store.Checkpoint())
	return r
}

// Where free slots are scattered, no more of them are leased at a time than a
// superblock lists. That is no lack of space, and no reason for checkpoints.
func TestScatteredSlotsAreNoLackOfSpace(t *testing.T) {
	server := &tardy{}
	r := scattered(t, server)
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	var checkpoints atomic.Int64
	r.Machine.Device(rig.Meta).SetHook(func(e memdev.Event) {
		if e.Kind == memdev.Wrote && e.Off < layout.Superblocks*block.PageSize {
			checkpoints.Add(1)
		}
	})
	server.on.Store(true)
	before := server.leases.Load()
	var writers sync.WaitGroup
	for first := range int64(16) {
		writers.Go(func() {
			for chunk := 1 + first; chunk <= 160; chunk += 16 {
				if _, err := r.Volume.WriteAt(make([]byte, 4<<10), chunk*4<<10); err != nil {
					t.Errorf("chunk %d: %v", chunk, err)
				}
			}
		})
	}
	writers.Wait()
	require.Positive(t, server.refused.Load(), "no lease was asked for during a commit")
	require.Greater(t, server.leases.Load()-before, int64(160/layout.MaxLeases))
	require.Less(t, checkpoints.Load(), int64(4))
}
