// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Devices are what a store lies on.
type Devices struct {
	Store   device.Device  // the data area
	Meta    device.Device  // the metadata area; nil if it is on Store
	Journal journal.Medium // the batches' journal, of placements nvram and pmem; else nil
}

// MetaDevice returns the device of the metadata area.
func (d Devices) MetaDevice() device.Device {
	if d.Meta != nil {
		return d.Meta
	}
	return d.Store
}

// ErrNoJournal is returned when a placement needs a journal device and none is
// given.
var ErrNoJournal = errors.New("this placement needs a journal device")

// pmemGrain is the size of a cache line, which persistent memory is written by.
const pmemGrain = 64

// OpenLog returns the log of a session's batches, positioned at its begin.
func OpenLog(d Devices, s *wire.Session) (Log, error) {
	area := &copylog.Area{Device: d.Store, Offset: s.DataOffset, Slots: s.Slots, ChunkShift: s.Geometry.ChunkShift()}
	var log Log
	switch s.Placement {
	case layout.PlacementInline:
		log = NewInline(area, s.UUID)
	case layout.PlacementDisk:
		ring := journal.New(journal.OnDevice{Device: d.MetaDevice()}, s.Journal.Start, s.Journal.Size, block.PageSize, s.UUID)
		log = NewJournaled(area, ring, true)
	case layout.PlacementNVRAM, layout.PlacementPMem:
		if d.Journal == nil {
			return nil, fmt.Errorf("placement %v: %w", s.Placement, ErrNoJournal)
		}
		grain := int64(block.PageSize)
		if s.Placement == layout.PlacementPMem {
			grain = pmemGrain
		}
		log = NewJournaled(area, journal.New(d.Journal, s.Journal.Start, s.Journal.Size, grain, s.UUID), false)
	default:
		return nil, fmt.Errorf("unknown placement %v", s.Placement)
	}
	log.Start(s.Epoch, s.Position)
	return log, nil
}
