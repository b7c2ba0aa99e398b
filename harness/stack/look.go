// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stages"
)

// openLook puts the stack's recorder before its devices, if it is to have one.
func (s *Stack) openLook() {
	if !s.Account {
		return
	}
	s.look = stages.New(stages.Options{
		Now: s.bed.Now, Virtual: s.bed.Modelled(), Chunk: s.ChunkSize, Bound: s.Variant == spec.CopyBound, Origin: s.Origin,
	})
	s.origin = s.look.Origin(s.origin)
	if s.devs.Store != nil {
		s.devs.Store = s.look.Store(s.devs.Store)
	}
}

// Look returns what finds out where the time of requests to Device goes; nil unless
// Config.Account is set.
func (s *Stack) Look() *stages.Recorder { return s.look }

// Seen returns a snapshot whose requests are looked at, too.
func (s *Stack) Seen(snapshot device.Device) device.Device {
	if s.look == nil {
		return snapshot
	}
	return s.look.Snapshot(snapshot)
}
