// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/model"
)

const size = 4 * block.SectorSize

// sectors returns the bytes of stamps.
func sectors(stamps ...model.Stamp) []byte {
	p := make([]byte, len(stamps)*block.SectorSize)
	for i, s := range stamps {
		model.Same(s).Fill(p[i*block.SectorSize:(i+1)*block.SectorSize], 0)
	}
	return p
}

func write(v *model.Volume, sector int64, s model.Stamp) {
	v.Writing(sector*block.SectorSize, block.SectorSize, model.Same(s))
	v.Wrote(sector*block.SectorSize, block.SectorSize, model.Same(s))
}

func TestReadsReturnTheLastWrite(t *testing.T) {
	v := model.New(size)
	require.NoError(t, v.CheckOrigin(0, sectors(0, 0, 0, 0)))
	write(v, 1, 5)
	write(v, 1, 6)
	require.NoError(t, v.CheckOrigin(512, sectors(6, 0)))
	require.ErrorContains(t, v.CheckOrigin(512, sectors(5)), "sector 1 holds 0000000000000005, want 0000000000000006")
	write(v, 2, model.Any)
	require.NoError(t, v.CheckOrigin(1024, sectors(99)))
	torn := sectors(6)
	torn[300]++
	require.Error(t, v.CheckOrigin(512, torn))
}

func TestSnapshotsKeepWhatTheOriginHeld(t *testing.T) {
	v := model.New(size)
	write(v, 0, 1)
	v.Creating(7)
	v.Created(7)
	write(v, 0, 2)
	require.NoError(t, v.CheckSnapshot(7, 0, sectors(1, 0, 0, 0)))
	require.Error(t, v.CheckSnapshot(7, 0, sectors(2)))
	require.NoError(t, v.CheckLive([]block.Tag{7}))
	v.Deleting(7)
	v.Deleted(7)
	require.Error(t, v.CheckSnapshot(7, 0, sectors(1)))
	require.Error(t, v.CheckLive([]block.Tag{7}))
}

func TestPowerCuts(t *testing.T) {
	base := model.New(size)
	write(base, 0, 1)
	base.Flushed()
	write(base, 0, 2)
	write(base, 0, 3)
	write(base, 1, 4)
	base.Creating(1)
	base.Created(1) // makes all durable
	write(base, 2, 5)
	base.Writing(3*512, 512, model.Same(6)) // under way
	base.Creating(2)
	base.Deleting(1)

	for _, c := range []struct {
		what   string
		live   []block.Tag
		origin []byte
		broken string
	}{
		{"all survives", []block.Tag{1, 2}, sectors(3, 4, 5, 6), ""},
		{"what is under way is lost", []block.Tag{1}, sectors(3, 4, 0, 0), ""},
		{"it is torn", []block.Tag{2}, sectors(3, 4, 0, 6), ""},
		{"what was flushed is lost", []block.Tag{1}, sectors(2, 4, 5, 0), "sector 0 holds"},
		{"something else is there", []block.Tag{1}, sectors(3, 4, 5, 7), "sector 3 holds"},
		{"a snapshot that nobody made", []block.Tag{1, 3}, sectors(3, 4, 5, 6), "live snapshots are [1 3]"},
	} {
		v := base.Clone()
		err := v.Recover(c.live, c.origin)
		if c.broken != "" {
			require.ErrorContains(t, err, c.broken, c.what)
			continue
		}
		require.NoError(t, err, c.what)
		require.NoError(t, v.CheckOrigin(0, c.origin), c.what)
		require.NoError(t, v.Recover(c.live, c.origin), "%s: what is left is durable", c.what)
		require.Error(t, v.Recover(c.live, sectors(3, 4, 99, 0)), c.what)
		for _, tag := range c.live {
			want := sectors(3, 4, 0, 0)
			if tag == 2 {
				want = sectors(3, 4, 5, 0)
			}
			require.NoError(t, v.CheckSnapshot(tag, 0, want), c.what)
		}
	}
	require.NoError(t, base.CheckOrigin(0, sectors(3, 4, 5, 0)), "clones share nothing that changes")
}

func TestDurableSnapshotsAreNotLost(t *testing.T) {
	v := model.New(size)
	v.Creating(1)
	v.Created(1)
	require.ErrorContains(t, v.Clone().Recover(nil, sectors(0, 0, 0, 0)), "snapshot 1 is lost")
	v.Deleting(1)
	v.Deleted(1)
	require.ErrorContains(t, v.Recover([]block.Tag{1}, sectors(0, 0, 0, 0)), "live snapshots are [1], want []", "and deleted ones stay so")
}

func TestFailedWritesSettle(t *testing.T) {
	v := model.New(size)
	v.Writing(0, size, model.Written(8))
	p := make([]byte, size)
	model.Written(8).Fill(p[:1024], 0) // half of it was written
	require.NoError(t, v.Settle(0, p))
	require.NoError(t, v.CheckOrigin(0, p))
	require.Error(t, v.Settle(0, sectors(1)))

	v.Writing(0, 512, model.Same(9))
	v.Withdraw(0, 512)
	require.Error(t, v.Settle(0, sectors(9)))
}

func FuzzStampsAreTold(f *testing.F) {
	f.Add(uint64(1), int64(2))
	f.Fuzz(func(t *testing.T, seed uint64, no int64) {
		p := make([]byte, block.SectorSize)
		model.Written(seed).Fill(p, no)
		s := model.Written(seed)(no)
		require.True(t, s.Is(p))
		require.Equal(t, s, model.StampIn(p))
		require.NotEqual(t, model.Zero, s)
		require.NotEqual(t, model.Any, s)
		p[511]++
		require.False(t, s.Is(p))
	})
}
