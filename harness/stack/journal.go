// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/nvramsim"
)

// journalSize is the size of simulated NVRAM and persistent memory, in bytes.
const journalSize = 64 << 20

// openJournal opens the journal device that a placement needs, if any, and
// returns its size.
func (s *Stack) openJournal(where layout.Placement) (int64, error) {
	switch where {
	case layout.PlacementNVRAM:
		return s.openNVRAM()
	case layout.PlacementPMem:
		return s.openPMem()
	}
	return 0, nil
}

// openNVRAM opens the block device that was named; else memory, which costs
// nothing but the copying, or on a modelled bed what a model says.
func (s *Stack) openNVRAM() (int64, error) {
	var d device.Device = memdev.New(journalSize)
	switch {
	case s.bed.Modelled():
		p, err := nvramsim.NewNVRAM(s.bed.virtual, nvramsim.TypicalNVRAM()).Partition(0, d)
		if err != nil {
			return 0, err
		}
		d = p
	case s.bed.nvram != "":
		f, err := device.OpenFile(s.bed.nvram, device.FileOptions{Direct: true})
		if err != nil {
			return 0, err
		}
		s.onClose(f.Close)
		d = f
	default:
		s.bed.note("NVRAM is simulated in memory: a write to it costs a copy")
	}
	s.devs.Journal = journal.OnDevice{Device: d}
	return d.Size(), nil
}

func (s *Stack) openPMem() (int64, error) {
	if s.bed.pmem != "" && !s.bed.Modelled() {
		m, err := device.OpenRegion(s.bed.pmem)
		if err != nil {
			return 0, err
		}
		s.onClose(m.Close)
		s.devs.Journal = m
		return m.Size(), nil
	}
	clock, params := s.bed.virtual, nvramsim.TypicalPMem()
	if !s.bed.Modelled() {
		clock, params = new(nvramsim.Clock), nvramsim.PMemParams{}
		s.bed.note("persistent memory is simulated: its bookkeeping is in the figures")
	}
	s.devs.Journal = nvramsim.NewPMem(memdev.NewMachine(), "pmem", clock, journalSize, params)
	return journalSize, nil
}
