// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// tardy is a server that, once, calls meanwhile before it takes in a report.
type tardy struct {
	wire.Server
	meanwhile func()
	refused   chan struct{} // told of leases refused for the number of runs
}

func (s *tardy) Report(b wire.Batch) (layout.Position, error) {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
	return s.Server.Report(b)
}

func (s *tardy) Lease(want uint64) ([]layout.SlotRun, error) {
	runs, err := s.Server.Lease(want)
	if errors.Is(err, alloc.ErrLeases) {
		select {
		case s.refused <- struct{}{}:
		default:
		}
	}
	return runs, err
}

// scattered returns a store whose free slots, many, are all odd ones. Chunk 0 is
// copied for every snapshot.
func scattered(t *testing.T, p layout.Placement, server *tardy) *rig.Rig {
	o := small(p)
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
	for tag := block.Tag(1); tag < last; tag++ {
		at, err := r.Map(tag, 0, 1)
		require.NoError(t, err)
		if at[0].Slot%2 == 1 {
			require.NoError(t, r.Server.DeleteSnapshot(tag))
		}
	}
	require.NoError(t, r.Maintain())
	require.NoError(t, r.Server.Store.Checkpoint())
	return r
}

// writes returns writes to the chunks [first, end).
func writes(first, end int64) (ops []device.Op) {
	for ; first < end; first++ {
		ops = append(ops, device.Op{Kind: device.Write, Off: first * 4 << 10, Data: make([]byte, 4<<10)})
	}
	return ops
}

// Where free slots are scattered, no more of them are leased at a time than
// alloc.MaxLeases. That is no lack of space, and no reason for checkpoints.
func TestScatteredSlotsAreNoLackOfSpace(t *testing.T) {
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementNVRAM} {
		t.Run(p.String(), func(t *testing.T) {
			server := &tardy{refused: make(chan struct{}, 1)}
			r := scattered(t, p, server)
			_, err := r.Server.CreateSnapshot(5000)
			require.NoError(t, err)
			checkpoints := 0
			r.Machine.Device(rig.Meta).SetHook(func(e memdev.Event) {
				if e.Kind == memdev.Wrote && e.Off < layout.Superblocks*block.PageSize {
					checkpoints++
				}
			})
			// The first batch has taken all leases, and is not reported, when the
			// second needs some.
			var second sync.WaitGroup
			server.meanwhile = func() {
				second.Go(func() {
					if err := r.Volume.Do(writes(130, 150)); err != nil {
						t.Error(err)
					}
				})
				select {
				case <-server.refused:
				case <-time.After(10 * time.Second):
					t.Error("no lease was asked for during a commit")
				}
			}
			first := int64(alloc.MaxLeases - alloc.MaxLeases/4) // the rest is left to writers of snapshots
			if p == layout.PlacementInline {
				first -= 2 // a descriptor, and the next one
			}
			require.NoError(t, r.Volume.Do(writes(1, 1+first)))
			second.Wait()
			require.NoError(t, r.Volume.Do(writes(150, 170)))
			require.Less(t, checkpoints, 4)
		})
	}
}

// One write to a snapshot may take more runs of slots than are leased at a time to
// such writers: it uses some, and gets more.
func TestScatteredSlotsForOneWriteToASnapshot(t *testing.T) {
	r := scattered(t, layout.PlacementInline, &tardy{})
	_, err := r.Server.CreateSnapshot(5000)
	require.NoError(t, err)
	v, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: 5000}, true)
	require.NoError(t, err)
	p := bytes.Repeat([]byte{7}, (alloc.MaxLeases/2+20)*4<<10)
	_, err = v.WriteAt(p, 0)
	require.NoError(t, err)
	got := make([]byte, len(p))
	_, err = v.ReadAt(got, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(p, got))
	require.NoError(t, v.Close())
}
