// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// kinds returns the kinds of events, in their order.
func kinds(events []store.Event) []store.EventKind {
	var list []store.EventKind
	for _, e := range events {
		list = append(list, e.Kind)
	}
	return list
}

func TestEventsTellWhatHappened(t *testing.T) {
	r := newRunner(t, options(16<<10, 64), rig.Wrappers{}).Rig
	told, cancel := r.Server.Subscribe(16)
	defer cancel()
	_, err := r.Server.Create(store.NewSnapshot{Tag: 7, Name: "daily", Group: layout.UUID{9}, GroupSize: 2})
	require.NoError(t, err)
	require.NoError(t, r.Server.Delete(wire.SnapshotRef{Name: "daily"}, false))
	server := r.Server
	require.NoError(t, r.Close())

	want := []store.EventKind{store.EventAttached, store.EventCreated, store.EventDeleted, store.EventDetached}
	kept := server.Events(0)
	require.Equal(t, want, kinds(kept))
	require.Equal(t, want[2:], kinds(server.Events(kept[1].Number)))
	require.Empty(t, server.Events(kept[3].Number))
	require.Empty(t, server.Events(1000))
	e := kept[1]
	require.NotZero(t, e.Time)
	require.Equal(t, store.Event{
		Number: 2, Time: e.Time, Kind: store.EventCreated, Tag: 7, Name: "daily", Group: layout.UUID{9},
	}, e)
	require.Equal(t, `created snapshot 7 "daily" of group 09000000-0000-0000-0000-000000000000`, e.String())

	var heard []store.Event
	for e := range told { // closed with the store
		heard = append(heard, e)
	}
	require.Equal(t, kept[1:], heard)
	after, _ := server.Subscribe(1)
	_, open := <-after
	require.False(t, open)
}

func TestSlowSubscriberIsToldWhatItMissed(t *testing.T) {
	r := newRunner(t, options(16<<10, 64), rig.Wrappers{}).Rig
	slow, cancel := r.Server.Subscribe(2)
	for tag := block.Tag(1); tag <= 5; tag++ {
		_, err := r.Server.CreateSnapshot(tag)
		require.NoError(t, err)
	}
	require.Equal(t, block.Tag(1), (<-slow).Tag)
	_, err := r.Server.CreateSnapshot(6)
	require.NoError(t, err)
	require.Equal(t, block.Tag(2), (<-slow).Tag)
	last := <-slow
	require.Equal(t, block.Tag(6), last.Tag)
	require.Equal(t, uint64(3), last.Missed)
	cancel()
	cancel()
	_, open := <-slow
	require.False(t, open)
}

func TestStoreForgetsOldEvents(t *testing.T) {
	r := newRunner(t, options(16<<10, 64), rig.Wrappers{}).Rig
	for tag := block.Tag(1); tag <= 300; tag++ {
		_, err := r.Server.CreateSnapshot(tag)
		require.NoError(t, err)
	}
	list := r.Server.Events(5)
	require.Len(t, list, 256)
	require.Equal(t, uint64(301), list[255].Number)
	require.Equal(t, uint64(301-256-5), list[0].Missed)
	list = r.Server.Events(299)
	require.Len(t, list, 2)
	require.Zero(t, list[0].Missed)
}

func TestFailureIsAnEvent(t *testing.T) {
	var plan errdev.Plan
	r := newRunner(t, options(16<<10, 64), rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != rig.Store {
			return d
		}
		return plan.Wrap(d)
	}}).Rig
	plan.Inject(errdev.Fault{Kinds: errdev.Writes, Forever: true, Err: errors.New("gone")})
	_, err := r.Server.CreateSnapshot(1)
	require.ErrorIs(t, err, store.ErrFailed)
	list := r.Server.Events(1)
	require.Equal(t, []store.EventKind{store.EventFailed}, kinds(list))
	require.Contains(t, list[0].Text, "gone")
}
