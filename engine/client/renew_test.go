// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// openFailing opens the origin with a plan for its client's store device.
func (b *bed) openFailing(c wire.Server) (*volume.Origin, *errdev.Plan) {
	var plan errdev.Plan
	devs := placement.Devices{Store: plan.Wrap(b.devs.Store)}
	v, err := volume.OpenOrigin(c, b.origin, devs, volume.Options{})
	require.NoError(b.t, err)
	return v, &plan
}

// The server dies, then a batch fails that the next server finds whole in the log: the
// origin goes on, and the snapshot has what it was made of.
func TestNextServerFindsTheFailedBatch(t *testing.T) {
	transports(t, func(t *testing.T, b *bed) {
		v, plan := b.openFailing(b.dial())
		old := fill(make([]byte, originSize), 1)
		_, err := v.WriteAt(old, 0)
		require.NoError(t, err)
		_, err = b.server.CreateSnapshot(1)
		require.NoError(t, err)
		write := func(chunk int64) error {
			_, err := v.WriteAt(fill(make([]byte, chunkSize), 2), chunk*chunkSize)
			return err
		}
		require.NoError(t, write(0))
		b.kill()
		plan.Inject(errdev.Fault{Kinds: errdev.Flushes})
		ended := make(chan error)
		go func() { ended <- write(1) }()
		require.Eventually(t, func() bool { return plan.Counts().Failed > 0 }, time.Minute, time.Millisecond)
		b.start(true)
		require.NoError(t, <-ended)
		require.NoError(t, write(2))
		snap, err := volume.OpenSnapshot(b.source(b.dial()), 1)
		require.NoError(t, err)
		require.Equal(t, old, all(t, snap))
		require.NoError(t, snap.Close())
		require.NoError(t, v.Close())
	})
}

// Batches fail, and the server is killed, again and again: also between a batch that
// fails and the answer to its report.
func TestServerIsKilledWhileBatchesFail(t *testing.T) {
	transports(t, func(t *testing.T, b *bed) {
		v, plan := b.openFailing(b.dial())
		_, err := b.server.CreateSnapshot(0)
		require.NoError(t, err)
		ledger := pattern.NewLedger(pattern.Zeroes(1, originSize), nil)
		held := ledger.Present()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var load sync.WaitGroup
		load.Go(func() {
			if err := pattern.NewChurn(ledger, pattern.Options{Workers: 2}).Run(ctx, device.Device(v)); err != nil {
				t.Error(err)
			}
		})
		kills := 25
		if testing.Short() {
			kills = 5
		}
		for n := range kills {
			plan.Inject(errdev.Fault{Kinds: errdev.Writes | errdev.Flushes, Nth: int64(1 + n%5)})
			time.Sleep(time.Duration(n%7) * time.Millisecond) // any moment is right
			b.kill()
			b.start(true)
		}
		stop()
		load.Wait()
		_, err = ledger.Present().Check(v)
		require.NoError(t, err, "origin")
		snap, err := volume.OpenSnapshot(b.source(b.dial()), 0)
		require.NoError(t, err)
		_, err = held.Check(snap)
		require.NoError(t, err, "snapshot")
		require.NoError(t, snap.Close())
		require.NoError(t, v.Close())
	})
}
