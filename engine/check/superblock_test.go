// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

func itoa[N ~uint64](n N) string { return fmt.Sprint(uint64(n)) }

// A crash leaves both superblocks whole. One that is not, or has become zeroes, may
// have been the newer.
func TestOneDamagedSuperblockIsFound(t *testing.T) {
	whole := closed(t, shape{layout.PlacementInline, true})
	for p := range int64(2) {
		for name, damage := range map[string]func(page []byte){
			"bit":    func(page []byte) { page[200] ^= 1 },
			"zeroes": func(page []byte) { clear(page) },
		} {
			r := whole.copied()
			page := r.page(p)
			damage(page)
			r.setPage(p, page)
			found := checktest.Violations(r.checked(), check.Damage)
			require.NotEmpty(t, found, name)
			require.Equal(t, check.BadSuperblock, found[0].Code, name)
			require.Equal(t, fmt.Sprintf("superblock %d", p), found[0].Structure, name)
			require.Contains(t, found[0].Meaning, "the store is refused", name)
		}
	}
}

func TestSuperblocksThatContradictAreFound(t *testing.T) {
	whole := closed(t, shape{layout.PlacementInline, true})
	newest := int64(whole.superblock().Checkpoint % 2)
	for name, damage := range map[string]func(r *rig){
		"both in one place": func(r *rig) { r.setPage(1-newest, r.page(newest)) },
		"older bytes": func(r *rig) {
			sb := r.superblock()
			sb.Checkpoint -= 3
			r.setPage(1-newest, sb.Encode())
		},
		"another store": func(r *rig) {
			sb := r.superblock()
			sb.Checkpoint--
			sb.UUID[0]++
			r.setPage(1-newest, sb.Encode())
		},
		"another shape": func(r *rig) {
			sb := r.superblock()
			sb.Checkpoint--
			sb.Control.Len--
			r.setPage(1-newest, sb.Encode())
		},
	} {
		r := whole.copied()
		damage(r)
		found := checktest.Violations(r.checked(), check.Leak)
		require.Len(t, found, 1, "%s:\n%s", name, checktest.Format(found))
		require.Equal(t, check.BadSuperblock, found[0].Code, name)
		require.Equal(t, (1-newest)*block.PageSize, found[0].Offset, name)
	}
}

func TestNoStoreIsFound(t *testing.T) {
	r := closed(t, shape{layout.PlacementInline, false})
	r.setPage(0, make([]byte, block.PageSize))
	r.setPage(1, make([]byte, block.PageSize))
	require.Equal(t, sorted(check.NoStore), names(r.find(check.Options{}), check.Note))

	require.Equal(t, sorted(check.NoStore), names(collect(check.Devices{Store: memdev.New(block.SectorSize)}), check.Note))
	require.Empty(t, collect(check.Devices{}))
}

func collect(d check.Devices) []check.Violation {
	var found []check.Violation
	for v := range check.Check(d, check.Options{Data: true}) {
		found = append(found, v)
	}
	return found
}

// cut is a device that ends early.
type cut struct {
	device.Device
	size int64
}

func (c cut) Size() int64 { return c.size }

func TestTruncatedDevicesAreFound(t *testing.T) {
	for _, s := range []shape{{layout.PlacementInline, false}, {layout.PlacementNVRAM, true}} {
		r := closed(t, s)
		sb := r.superblock()
		d := r.checked()
		d.Store = cut{r.data, sb.DataOffset + chunkSize}
		require.Equal(t, sorted(check.BadGeometry, check.Unreadable), names(collect(d), check.Leak))
		if s.separate {
			d = r.checked()
			d.Meta = cut{r.meta, 8 * block.PageSize}
			require.Subset(t, names(collect(d), check.Leak), sorted(check.BadGeometry, check.Unreadable))
			d = r.checked()
			d.Journal = cut{r.nvram, 8 * block.PageSize}
			require.Equal(t, sorted(check.BadGeometry), names(collect(d), check.Leak))
		}
	}
}

// Devices of two stores, in the wrong places, or left out.
func TestMixedDevicesAreFound(t *testing.T) {
	s := shape{layout.PlacementNVRAM, true}
	a, b := closed(t, s).checked(), closed(t, s).checked()
	for name, test := range map[string]struct {
		devices check.Devices
		device  string
		want    []check.Code
	}{
		"data of another":       {check.Devices{Store: b.Store, Meta: a.Meta, Journal: a.Journal}, "store", sorted(check.BadLabel)},
		"journal of another":    {check.Devices{Store: a.Store, Meta: a.Meta, Journal: b.Journal}, "journal", sorted(check.BadLabel)},
		"metadata of another":   {check.Devices{Store: a.Store, Meta: b.Meta, Journal: a.Journal}, "store", sorted(check.BadLabel)},
		"no journal":            {check.Devices{Store: a.Store, Meta: a.Meta}, "journal", sorted(check.BadLabel)},
		"journal as store":      {check.Devices{Store: a.Journal, Meta: a.Meta, Journal: a.Journal}, "store", sorted(check.BadGeometry, check.BadLabel)},
		"store without its own": {check.Devices{Store: a.Store, Journal: a.Journal}, "store", sorted(check.NoStore)},
		"metadata as the store": {check.Devices{Store: a.Meta, Journal: a.Journal}, "store", sorted(check.BadGeometry)},
	} {
		t.Run(name, func(t *testing.T) {
			found := collect(test.devices)
			require.Equal(t, test.want, names(found, check.Leak), checktest.Format(found))
			require.Equal(t, test.device, found[0].Device)
		})
	}
}

// What a lost label costs is said, and all else is checked.
func TestLostLabelIsFound(t *testing.T) {
	r := closed(t, shape{layout.PlacementPMem, true})
	r.pmem[40] = 1
	found := checktest.Violations(r.checked(), check.Leak)
	require.Len(t, found, 1)
	require.Equal(t, check.BadLabel, found[0].Code)
	require.Equal(t, "journal", found[0].Device)
}
