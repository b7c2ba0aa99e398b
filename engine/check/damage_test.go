// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

// closed returns a store with a past that was closed in order, and of which every
// test may damage a copy.
func closed(t testing.TB, s shape) *rig {
	r := newRig(t, s)
	r.fill()
	r.close()
	return r
}

// copied returns the rig with devices of its own.
func (r *rig) copied() *rig { return r.crash(memdev.Fate{Keep: 1}) }

func (r *rig) page(p int64) []byte {
	buf := make([]byte, block.PageSize)
	_, err := r.metadata().ReadAt(buf, p*block.PageSize)
	require.NoError(r.t, err)
	return buf
}

func (r *rig) setPage(p int64, buf []byte) {
	_, err := r.metadata().WriteAt(buf, p*block.PageSize)
	require.NoError(r.t, err)
}

// superblock returns the newest.
func (r *rig) superblock() *layout.Superblock {
	a, aerr := layout.DecodeSuperblock(r.page(0)[:layout.SuperblockSize])
	b, berr := layout.DecodeSuperblock(r.page(1)[:layout.SuperblockSize])
	if aerr != nil || berr == nil && b.Checkpoint > a.Checkpoint {
		return b
	}
	return a
}

// editSuperblock changes the newest superblock.
func (r *rig) editSuperblock(change func(*layout.Superblock)) {
	sb := r.superblock()
	at := int64(sb.Checkpoint % 2)
	change(sb)
	r.setPage(at, sb.Encode())
}

// leftmost returns the address of the leftmost page of a level.
func leftmost[E any](r *rig, c layout.EntryCodec[E], kind, level uint8) block.Page {
	sb := r.superblock()
	p := sb.Roots[kind-1].Page
	for l := sb.Roots[kind-1].Level; l > level; l-- {
		page, err := layout.DecodePage(c, layout.PageHeader{Kind: kind, Level: l, Page: p, Identity: sb.UUID}, r.page(int64(p)))
		require.NoError(r.t, err)
		p = page.Children[0]
	}
	return p
}

// edit changes the leftmost page of a level and seals it again.
func edit[E any](r *rig, c layout.EntryCodec[E], kind, level uint8, change func(*layout.TreePage[E])) {
	p := leftmost(r, c, kind, level)
	h := layout.PageHeader{Kind: kind, Level: level, Page: p, Identity: r.superblock().UUID}
	page, err := layout.DecodePage(c, h, r.page(int64(p)))
	require.NoError(r.t, err)
	change(&page)
	buf := make([]byte, block.PageSize)
	require.NoError(r.t, layout.EncodePage(c, page.PageHeader, page.Entries, page.Children, buf))
	r.setPage(int64(p), buf)
}

type exceptionPage = layout.TreePage[layout.Exception]

func (r *rig) editExceptions(level uint8, change func(*exceptionPage)) {
	edit(r, layout.ExceptionCodec{}, layout.KindExceptions, level, change)
}

func (r *rig) editChanges(change func(*layout.TreePage[layout.Change])) {
	edit(r, layout.ChangeCodec{}, layout.KindChanges, 0, change)
}

func (r *rig) editSlots(change func(*layout.TreePage[layout.SlotWord])) {
	edit(r, layout.SlotWordCodec{}, layout.KindSlots, 0, change)
}

func (r *rig) editSnapshots(change func(*layout.TreePage[layout.Snapshot])) {
	edit(r, layout.SnapshotCodec{}, layout.KindSnapshots, 0, change)
}

func (r *rig) setLeases(runs ...layout.SlotRun) {
	setTree(r, layout.LeaseCodec{}, layout.KindLeases, runs)
}

func (r *rig) setDigests(sums ...layout.DigestSum) {
	setTree(r, layout.DigestCodec{}, layout.KindDigests, sums)
}

// setTree makes the last tree page, which must be free, a tree that was empty.
func setTree[E any](r *rig, codec layout.EntryCodec[E], kind uint8, entries []E) {
	sb := r.superblock()
	p := sb.TreePages.End() - 1
	buf := make([]byte, block.PageSize)
	h := layout.PageHeader{Kind: kind, Page: p, Identity: sb.UUID}
	require.NoError(r.t, layout.EncodePage(codec, h, entries, nil, buf))
	r.setPage(int64(p), buf)
	r.editSuperblock(func(sb *layout.Superblock) {
		sb.Roots[kind-1] = layout.Root{Page: p, Entries: uint64(len(entries))}
	})
}

// names returns the codes found, of at least the severity, without repetition.
func names(found []check.Violation, least check.Severity) []check.Code {
	var codes []check.Code
	for _, v := range found {
		if v.Severity >= least && !slices.Contains(codes, v.Code) {
			codes = append(codes, v.Code)
		}
	}
	slices.Sort(codes)
	return codes
}

// sorted returns codes in order.
func sorted(codes ...check.Code) []check.Code {
	slices.Sort(codes)
	return codes
}

// Structures whose checksums are right and that contradict others: exactly the
// right violations are found.
func TestContradictionsAreFound(t *testing.T) {
	whole := closed(t, shape{layout.PlacementInline, false})
	require.EqualValues(t, 1, whole.superblock().Roots[0].Level)
	free := block.Slot(whole.superblock().Slots - 1)
	for name, test := range map[string]struct {
		damage func(r *rig)
		want   []check.Code
	}{
		"exception in another's slot": {
			func(r *rig) { r.editExceptions(0, func(p *exceptionPage) { p.Entries[3].Slot = p.Entries[7].Slot }) },
			sorted(check.SharedSlot, check.LeakedSlot, check.BadData),
		},
		"exception in a free slot": {
			func(r *rig) { r.editExceptions(0, func(p *exceptionPage) { p.Entries[3].Slot = free }) },
			sorted(check.FreeSlot, check.LeakedSlot), // both slots hold zeroes
		},
		"exception in no slot": {
			func(r *rig) { r.editExceptions(0, func(p *exceptionPage) { p.Entries[3].Slot = free + 1 }) },
			sorted(check.BadException, check.LeakedSlot),
		},
		"exception of the future": {
			func(r *rig) {
				r.editExceptions(0, func(p *exceptionPage) {
					i := slices.IndexFunc(p.Entries[1:], func(e layout.Exception) bool { return e.Chunk > p.Entries[0].Chunk })
					p.Entries[i].Generation = 100
				})
			},
			sorted(check.BadException, check.MissingChange, check.DanglingChange),
		},
		"exception that is lost": {
			func(r *rig) {
				r.editExceptions(0, func(p *exceptionPage) { p.Entries = slices.Delete(p.Entries, 3, 4) })
			},
			sorted(check.BadCount, check.LeakedSlot, check.DanglingChange),
		},
		"exception with another checksum": {
			func(r *rig) { r.editExceptions(0, func(p *exceptionPage) { p.Entries[3].Sum++ }) },
			sorted(check.BadData),
		},
		"change that is lost": {
			func(r *rig) {
				r.editChanges(func(p *layout.TreePage[layout.Change]) { p.Entries = slices.Delete(p.Entries, 3, 4) })
			},
			sorted(check.BadCount, check.MissingChange),
		},
		"change of a wrong chunk": {
			func(r *rig) {
				r.editChanges(func(p *layout.TreePage[layout.Change]) {
					for i, e := range p.Entries[1:] {
						if e.Generation == p.Entries[i].Generation && e.Chunk > p.Entries[i].Chunk+1 {
							p.Entries[i].Chunk++
							return
						}
					}
				})
			},
			sorted(check.MissingChange, check.DanglingChange),
		},
		"slot map with a slot too many": {
			func(r *rig) {
				r.editSlots(func(p *layout.TreePage[layout.SlotWord]) {
					p.Entries = append(p.Entries, layout.SlotWord{Index: uint64(free) / 64, Bits: 1 << (free % 64)})
				})
			},
			sorted(check.BadCount, check.BadSlots, check.LeakedSlot),
		},
		"slot map with a slot too few": {
			func(r *rig) {
				r.editSlots(func(p *layout.TreePage[layout.SlotWord]) { p.Entries[0].Bits &= p.Entries[0].Bits - 1 })
			},
			sorted(check.BadSlots, check.FreeSlot),
		},
		"slot map beyond the store": {
			func(r *rig) {
				r.editSlots(func(p *layout.TreePage[layout.SlotWord]) { p.Entries[len(p.Entries)-1].Index = uint64(free)/64 + 1 })
			},
			sorted(check.BadSlots, check.FreeSlot),
		},
		"snapshots with one tag": {
			func(r *rig) {
				r.editSnapshots(func(p *layout.TreePage[layout.Snapshot]) { p.Entries[1].Tag = p.Entries[0].Tag })
			},
			sorted(check.BadSnapshot),
		},
		"snapshot of the future": {
			func(r *rig) {
				r.editSnapshots(func(p *layout.TreePage[layout.Snapshot]) { p.Entries[len(p.Entries)-1].Generation += 5 })
			},
			sorted(check.BadSnapshot, check.NeedlessCopy),
		},
		"snapshot without a size": {
			func(r *rig) { r.editSnapshots(func(p *layout.TreePage[layout.Snapshot]) { p.Entries[1].Size = 0 }) },
			sorted(check.BadSnapshot),
		},
		"snapshot that is lost": {
			func(r *rig) {
				r.editSnapshots(func(p *layout.TreePage[layout.Snapshot]) { p.Entries = slices.Delete(p.Entries, 1, 2) })
			},
			sorted(check.BadCount, check.NeedlessCopy),
		},
		"page with two parents": {
			func(r *rig) { r.editExceptions(1, func(p *exceptionPage) { p.Children[1] = p.Children[0] }) },
			sorted(check.SharedPage),
		},
		"children in wrong order": {
			func(r *rig) {
				r.editExceptions(1, func(p *exceptionPage) { p.Children[0], p.Children[1] = p.Children[1], p.Children[0] })
			},
			sorted(check.BadOrder),
		},
		"child outside the tree pages": {
			func(r *rig) { r.editExceptions(1, func(p *exceptionPage) { p.Children[0] = 3 }) },
			sorted(check.BadPage),
		},
		"child of another tree": {
			func(r *rig) {
				other := r.superblock().Roots[layout.KindSnapshots-1].Page
				r.editExceptions(1, func(p *exceptionPage) { p.Children[0] = other })
			},
			sorted(check.SharedPage),
		},
		"roots in wrong order": {
			func(r *rig) {
				r.editSuperblock(func(sb *layout.Superblock) { sb.Roots[0], sb.Roots[1] = sb.Roots[1], sb.Roots[0] })
			},
			sorted(check.BadPage),
		},
		"root of another height": {
			func(r *rig) { r.editSuperblock(func(sb *layout.Superblock) { sb.Roots[0].Level++ }) },
			sorted(check.BadPage),
		},
		"root that is lost": {
			func(r *rig) { r.editSuperblock(func(sb *layout.Superblock) { sb.Roots[1] = layout.Root{} }) },
			sorted(check.MissingChange),
		},
		"lease of free slots": {
			func(r *rig) {
				r.setLeases(layout.SlotRun{First: free, Len: 1})
				r.editSuperblock(func(sb *layout.Superblock) { sb.Clean = false })
			},
			sorted(check.BadLease),
		},
		"leases in a closed store": {
			func(r *rig) {
				var used block.Slot
				r.editExceptions(0, func(p *exceptionPage) { used = p.Entries[0].Slot })
				r.setLeases(layout.SlotRun{First: used, Len: 1})
			},
			sorted(check.BadLease, check.FreeSlot),
		},
		"lease of slots that are not there": {
			func(r *rig) {
				r.setLeases(layout.SlotRun{First: free, Len: 1 << 62})
				r.editSuperblock(func(sb *layout.Superblock) { sb.Clean = false })
			},
			sorted(check.BadLease),
		},
		"digest of a node that is not there": {
			func(r *rig) { r.setDigests(layout.DigestSum{Level: 4, Index: 256, Generation: 1}) },
			sorted(check.BadDigest),
		},
		"digest of what is to come": {
			func(r *rig) { r.setDigests(layout.DigestSum{Generation: 1}, layout.DigestSum{Generation: 1000}) },
			sorted(check.BadDigest),
		},
		"count of allocated slots": {
			func(r *rig) { r.editSuperblock(func(sb *layout.Superblock) { sb.Allocated-- }) },
			sorted(check.BadSlots),
		},
		"regions that overlap": {
			func(r *rig) { r.editSuperblock(func(sb *layout.Superblock) { sb.DataOffset = 64 << 10 }) },
			sorted(check.BadSuperblock, check.BadGeometry, check.BadData),
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := whole.copied()
			test.damage(r)
			found := r.find(check.Options{Data: true})
			require.Equal(t, test.want, names(found, check.Leak), checktest.Format(found))
		})
	}
}

// A lost change with a right count: its exception is named.
func TestExceptionWithoutChangeIsNamed(t *testing.T) {
	r := closed(t, shape{layout.PlacementInline, false})
	var gone layout.Change
	r.editChanges(func(p *layout.TreePage[layout.Change]) {
		gone = p.Entries[3]
		p.Entries = slices.Delete(p.Entries, 3, 4)
	})
	r.editSuperblock(func(sb *layout.Superblock) { sb.Roots[layout.KindChanges-1].Entries-- })
	found := checktest.Violations(r.checked(), check.Leak)
	require.Len(t, found, 1, checktest.Format(found))
	require.Equal(t, check.MissingChange, found[0].Code)
	require.Contains(t, found[0].Structure, "chunk "+itoa(gone.Chunk))
}

// Every tree page, flipped, zeroed, or overwritten by another: the page is named.
func TestDamagedTreePagesAreFound(t *testing.T) {
	whole := closed(t, shape{layout.PlacementDisk, true})
	for kind, p := range map[uint8]block.Page{
		layout.KindExceptions: leftmost(whole, layout.ExceptionCodec{}, layout.KindExceptions, 0),
		layout.KindChanges:    leftmost(whole, layout.ChangeCodec{}, layout.KindChanges, 0),
		layout.KindSlots:      leftmost(whole, layout.SlotWordCodec{}, layout.KindSlots, 0),
		layout.KindSnapshots:  leftmost(whole, layout.SnapshotCodec{}, layout.KindSnapshots, 0),
	} {
		for name, damage := range map[string]func(r *rig, page []byte) []byte{
			"flip":    func(_ *rig, page []byte) []byte { page[100] ^= 4; return page },
			"zero":    func(_ *rig, _ []byte) []byte { return make([]byte, block.PageSize) },
			"swap":    func(r *rig, _ []byte) []byte { return r.page(int64(p) + 1) },
			"foreign": func(r *rig, _ []byte) []byte { return r.page(0) },
		} {
			r := whole.copied()
			r.setPage(int64(p), damage(r, r.page(int64(p))))
			found := r.find(check.Options{Data: true})
			i := slices.IndexFunc(found, func(v check.Violation) bool { return v.Code == check.BadPage })
			require.GreaterOrEqual(t, i, 0, "%s of tree %d", name, kind)
			v := found[i]
			require.Equal(t, check.Damage, v.Severity)
			require.Equal(t, "metadata", v.Device)
			require.EqualValues(t, int64(p)*block.PageSize, v.Offset)
			require.Contains(t, v.Structure, "page "+itoa(p))
		}
	}
}

func TestDamagedDataIsFound(t *testing.T) {
	for _, s := range shapes() {
		r := closed(t, s)
		var e layout.Exception
		r.editExceptions(0, func(p *exceptionPage) { e = p.Entries[5] })
		off := r.superblock().DataOffset + int64(e.Slot)*chunkSize
		sector := make([]byte, block.SectorSize)
		_, err := r.data.ReadAt(sector, off)
		require.NoError(t, err)
		sector[17] ^= 1
		_, err = r.data.WriteAt(sector, off)
		require.NoError(t, err)

		require.Empty(t, r.find(check.Options{}), "data was not asked for")
		found := r.find(check.Options{Data: true})
		require.Len(t, found, 1, checktest.Format(found))
		require.Equal(t, check.BadData, found[0].Code)
		require.Equal(t, "store", found[0].Device)
		require.Equal(t, off, found[0].Offset)
	}
}
