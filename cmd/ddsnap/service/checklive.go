// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/store"
)

// checkLive checks a checkpoint of a store that is in use, while requests go on. It
// ends early, with a note among its findings, when the store needs what the
// checkpoint keeps, or when ctx is done.
func checkLive(ctx context.Context, s *store.Store, devs *Devices, data bool) (*admin.Findings, error) {
	pin, err := s.Pin()
	if err != nil {
		return nil, fmt.Errorf("keeping a checkpoint to check: %w", err)
	}
	defer pin.Unpin()
	f := &admin.Findings{Violations: []check.Violation{}}
	o := check.Options{Data: data, Superblock: pin.Superblock, Revoked: func() bool { return pin.Revoked() || ctx.Err() != nil }}
	for v := range check.Check(devs.Checked(), o) {
		if len(f.Violations) < admin.MaxFindings {
			f.Violations = append(f.Violations, v)
		} else {
			f.More++
		}
	}
	return f, nil
}
