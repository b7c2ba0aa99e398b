// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Of the volumes that are attacked: what is right, so that lies get past the first
// check.
const (
	chunkBytes  = 64 << 10
	originBytes = 64 << 20
	slots       = 500
)

// plausible returns the body of a reply that could be right.
func (c *conn) plausible(t wire.Type) []byte {
	n := func(most int) uint64 { return uint64(c.rng.IntN(most)) }
	switch t {
	case wire.TypeHello:
		return wire.AppendWelcome(nil, wire.Welcome{Version: 1, UUID: layout.UUID(c.uuid)})
	case wire.TypeAttach, wire.TypeResume, wire.TypeRenew:
		return wire.AppendSession(nil, c.session())
	case wire.TypeLease, wire.TypeLeaseBranch:
		return wire.AppendRuns(nil, []layout.SlotRun{{First: block.Slot(n(slots)), Len: 1 + n(20)}, {First: block.Slot(n(slots)), Len: 1}})
	case wire.TypeUnsettled:
		return wire.AppendBitmap(nil, 0, originBytes/chunkBytes, []block.Chunk{1, 2, 3, block.Chunk(n(1000))})
	case wire.TypeOpenSnapshot:
		return wire.AppendSnapshotSession(nil, &wire.SnapshotSession{
			Handle: wire.Handle(1 + n(3)), Snapshot: layout.Snapshot{Generation: 1, Tag: 1, State: layout.SnapshotLive, Size: originBytes},
			State: wire.SnapshotState{Generation: 1, Size: originBytes, Writable: n(2) == 0, Squashed: n(9) == 0, Remember: n(2) == 0},
		})
	case wire.TypeMap:
		var list []wire.Mapping
		for chunk := block.Chunk(0); chunk < 64; chunk++ {
			m := wire.Mapping{Chunk: chunk, Len: 1, Kind: wire.MappingKind(n(3))}
			if m.Kind == wire.Stored {
				m.Slot, m.Owned = block.Slot(n(slots)), n(2) == 0
			}
			list = append(list, m)
		}
		return wire.AppendMappings(nil, list)
	}
	return nil
}

func (c *conn) session() *wire.Session {
	geo, err := block.NewGeometry(originBytes, chunkBytes)
	if err != nil {
		panic(err) // the constants above are good
	}
	first := block.Slot(c.rng.IntN(slots))
	return &wire.Session{
		UUID: layout.UUID(c.uuid), Placement: layout.PlacementInline, Geometry: geo, DataOffset: 1 << 20, Slots: slots,
		Epoch: c.rng.Uint64(), Position: layout.Position{Place: uint64(first), Seq: 1 + c.rng.Uint64N(100)},
		Leases: []layout.SlotRun{{First: first, Len: 1 + c.rng.Uint64N(slots-uint64(first))}},
		State:  c.originState(),
	}
}

func (c *conn) originState() wire.State {
	s := wire.State{Generation: block.Generation(c.rng.IntN(3)), Newest: block.Generation(c.rng.IntN(3)), Size: originBytes, Revoked: c.rng.IntN(5) == 0}
	if c.rng.IntN(6) == 0 {
		s.Size = int64(c.rng.IntN(1<<20)) * 512
	}
	return s
}

func (c *conn) state() []byte { return wire.AppendState(nil, c.originState()) }
