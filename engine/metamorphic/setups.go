// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// setups are small volumes of each placement, with the metadata on the store and
// apart.
func setups() []rig.Options {
	var all []rig.Options
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem} {
		for _, separate := range []bool{false, true} {
			all = append(all, rig.Options{
				OriginSize: 96<<10 + 5*block.SectorSize, ChunkSize: 8 << 10, Placement: p, Separate: separate,
				StoreSize: 8 << 20, MetaSize: 16 << 20, JournalSize: 280 << 10,
				BatchBytes: 32 << 10, AheadBytes: 16 << 10, LeaseBytes: 128 << 10, StoreLeaseBytes: 128 << 10,
			})
		}
	}
	return all
}
