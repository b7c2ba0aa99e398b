// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"io"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/volume"
)

// replica opens a volume that a delta is applied to.
func (f *contentFlags) replica(t *target, dryRun bool) (v replica.Volume, done func() error, err error) {
	v.Manager = t
	if t.offline == nil {
		addr, err := f.address(t)
		if err != nil {
			return v, nil, err
		}
		origin, err := dialExport(addr, service.OriginExport)
		if err != nil {
			return v, nil, err
		}
		v.Origin, v.Open = replica.OnDevice(origin), openForReplica(overNBD(addr))
		return v, origin.Close, nil
	}
	origin, err := f.openOrigin(t, dryRun)
	if err != nil {
		return v, nil, err
	}
	v.Open = openForReplica(fromStore(t, origin))
	if dryRun {
		v.Origin = replica.OnDevice(origin)
		return v, origin.Close, nil
	}
	live, err := volume.OpenOrigin(t.offline, origin, t.devs.Devices, volume.Options{})
	if err != nil {
		return v, nil, errors.Join(err, origin.Close())
	}
	v.Origin = replica.OnDevice(live)
	return v, func() error { return errors.Join(live.Close(), origin.Close()) }, nil
}

func openForReplica(open func(admin.Snapshot) (openedContent, error)) func(admin.Snapshot) (delta.Content, io.Closer, error) {
	return func(s admin.Snapshot) (delta.Content, io.Closer, error) {
		c, err := open(s)
		return c, c, err
	}
}
