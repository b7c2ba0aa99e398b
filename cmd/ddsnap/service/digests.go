// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"io"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// NoDigests is the rate of a server that computes no digests.
const NoDigests = -1

// openDigests readies the computation of digests in the background, where this process
// has both the store and the volume.
func (s *service) openDigests() error {
	if s.cfg.ReadOnly || s.cfg.DigestRate == NoDigests {
		return nil
	}
	source := s.exports.source
	s.digests = &compute.Background{
		Manager: admin.Local{Store: s.server}, Rate: s.cfg.DigestRate, Age: s.cfg.DigestAge, Logger: s.cfg.Logger,
		Open: func(snap admin.Snapshot) (io.ReaderAt, error) {
			info, err := s.server.Find(wire.SnapshotRef{Tag: snap.Tag})
			if err != nil {
				return nil, err
			}
			return volume.NewUnheld(source, s.server, info.Snapshot)
		},
	}
	return nil
}

// computeDigests computes digests until ctx ends. Its rate is what keeps it from being in
// the way. The thread's priorities are not lowered: it takes the store's lock, and whoever
// waits for that would wait for a thread that gets no processor.
func (s *service) computeDigests(ctx context.Context) {
	events, end := s.server.Subscribe(1)
	defer end()
	s.digests.Run(ctx, events)
}
