// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// pick returns one of the choices.
func pick[T any](rng *rand.Rand, choices ...T) T { return choices[rng.IntN(len(choices))] }

// RandomOptions returns options for an origin of size bytes: any placement and
// chunk size, mostly with memory and room so small that every limit is met.
func RandomOptions(rng *rand.Rand, size int64) rig.Options {
	o := rig.Options{
		OriginSize: size,
		ChunkSize:  block.MinChunkSize << rng.IntN(5),
		Placement:  pick(rng, layout.PlacementInline, layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem),
		Separate:   rng.IntN(3) == 0,
		MetaSize:   64 << 20, JournalSize: pick[int64](rng, 300<<10, 1<<20),
		CacheBytes:      pick[int64](rng, 1, 20_000, 1<<20, 0),
		CheckpointBytes: pick[int64](rng, 1, 100_000, 1<<20, 0),
		StoreLeaseBytes: pick[int64](rng, 1, 100_000, 0),
		BatchBytes:      pick[int64](rng, 1, 64<<10, 1<<20, 0),
		AheadBytes:      pick[int64](rng, -1, 64<<10, 0),
		LeaseBytes:      pick[int64](rng, 1, 100_000, 1<<20, 0),
		SettledBytes:    pick[int64](rng, 1, 0),
		Background:      rng.IntN(4) == 0,
		Policy:          pick(rng, "", layout.PolicyDrop.String()),
	}
	if rng.IntN(20) == 0 {
		o.ChunkSize = block.MaxChunkSize
	}
	// Roomy, or so small that slots are used again and run out.
	chunks := (size + int64(o.ChunkSize) - 1) / int64(o.ChunkSize)
	slots := max(12, pick(rng, 40*chunks, 3*chunks, chunks+8, chunks/2+8))
	o.StoreSize = (slots*int64(o.ChunkSize+200) + 4<<20) / block.PageSize * block.PageSize
	return o
}

// generator makes operations that make sense one after another. What it knows of
// the snapshots is mostly right: some operations fail.
type generator struct {
	rng  *rand.Rand
	size int64
	live []block.Tag
	next block.Tag
	seq  int64 // where a sequential writer is

	parents map[block.Tag]block.Tag
	kept    map[block.Tag]bool // held or used
	open    map[block.Tag]bool // for writing
	small   bool               // the origin was resized
}

// weights of the operations that a generator makes.
var weights = []struct {
	weight int
	make   func(g *generator) Op
}{
	{40, (*generator).write},
	{5, func(g *generator) Op { return g.ranged(Zero) }},
	{3, func(g *generator) Op { return g.ranged(Discard) }},
	{6, func(g *generator) Op { return Op{Kind: Flush} }},
	{6, func(g *generator) Op { return g.ranged(Read) }},
	{10, (*generator).vector},
	{10, (*generator).snapshot},
	{8, (*generator).remove},
	{10, (*generator).readSnapshot},
	{5, (*generator).snapOf},
	{14, (*generator).writeSnapshot},
	{4, func(g *generator) Op { return Op{Kind: FlushSnap, Tag: g.known()} }},
	{3, func(g *generator) Op { return g.close(g.known()) }},
	{4, (*generator).change},
	{1, func(g *generator) Op { return Op{Kind: Scrub} }},
	{3, (*generator).resize},
	{2, func(g *generator) Op { return Op{Kind: ResizeSt, Len: g.storeSize()} }},
	{2, func(g *generator) Op { return Op{Kind: Revert, Tag: g.known()} }},
	{2, (*generator).merge},
	{3, func(g *generator) Op { return Op{Kind: Checkpoint} }},
	{6, func(g *generator) Op { return Op{Kind: Maintain} }},
	{2, func(g *generator) Op { return Op{Kind: Reopen} }},
	{3, (*generator).crash},
}

// RandomOps returns n operations on an origin of size bytes.
func RandomOps(rng *rand.Rand, size int64, n int) []Op {
	g := &generator{
		rng: rng, size: size, next: 1, parents: make(map[block.Tag]block.Tag), kept: make(map[block.Tag]bool), open: make(map[block.Tag]bool),
	}
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	ops := make([]Op, n)
	for i := range ops {
		at := rng.IntN(total)
		for _, w := range weights {
			if at -= w.weight; at < 0 {
				ops[i] = w.make(g)
				break
			}
		}
	}
	return ops
}

// ranged returns an operation on a random range, mostly a short one.
func (g *generator) ranged(k Kind) Op {
	limit := g.size / block.SectorSize
	n := 1 + g.rng.Int64N(pick[int64](g.rng, 8, 64, 512))
	off := g.rng.Int64N(limit)
	n = min(n, limit-off)
	return Op{Kind: k, Off: off * block.SectorSize, Len: n * block.SectorSize}
}

func (g *generator) write() Op {
	o := g.ranged(Write)
	o.Seed = g.rng.Uint64N(1 << 32)
	if g.rng.IntN(3) == 0 {
		o.Off = g.seq
		o.Len = min(o.Len, g.size-o.Off)
		g.seq = (o.Off + o.Len) % g.size
	}
	return o
}

// vector returns writes and reads of disjoint ranges.
func (g *generator) vector() Op {
	v := Op{Kind: Vector}
	for range 1 + g.rng.IntN(12) {
		o := g.write()
		if g.rng.IntN(6) == 0 {
			o = Op{Kind: Read, Off: o.Off, Len: o.Len}
		}
		overlaps := slices.ContainsFunc(v.Ops, func(p Op) bool { return p.Off < o.Off+o.Len && o.Off < p.Off+p.Len })
		if !overlaps {
			v.Ops = append(v.Ops, o)
		}
	}
	return v
}

func (g *generator) snapshot() Op {
	tag := g.next
	g.next++
	if g.rng.IntN(20) == 0 {
		tag = block.Tag(g.rng.Uint32N(uint32(g.next))) // perhaps one that exists
	}
	if !slices.Contains(g.live, tag) {
		g.live = append(g.live, tag)
	}
	return Op{Kind: Snapshot, Tag: tag}
}

// known returns the tag of a snapshot, in rare cases of one that may not exist.
func (g *generator) known() block.Tag {
	if len(g.live) == 0 || g.rng.IntN(20) == 0 {
		return block.Tag(g.rng.Uint32N(uint32(g.next) + 1))
	}
	return pick(g.rng, g.live...)
}

// remove deletes a snapshot, mostly after what keeps it from being deleted.
func (g *generator) remove() Op {
	tag := g.known()
	under := g.under(tag)
	if g.rng.IntN(4) > 0 {
		for _, t := range under {
			switch {
			case g.kept[t]:
				delete(g.kept, t)
				return Op{Kind: Change, Tag: t}
			case g.open[t]:
				return g.close(t)
			}
		}
	}
	o := Op{Kind: Delete, Tag: tag}
	if len(under) > 1 || g.rng.IntN(8) == 0 {
		o.Kind = pick(g.rng, DeleteAll, DeleteAll, Delete)
	}
	if len(under) == 1 || o.Kind == DeleteAll {
		g.live = slices.DeleteFunc(g.live, func(t block.Tag) bool { return slices.Contains(under, t) })
	}
	return o
}

// under returns a snapshot and all that were made of it.
func (g *generator) under(tag block.Tag) []block.Tag {
	list := []block.Tag{tag}
	for i := 0; i < len(list); i++ {
		for _, t := range g.live {
			if of, ok := g.parents[t]; ok && of == list[i] && !slices.Contains(list, t) {
				list = append(list, t)
			}
		}
	}
	return list
}

func (g *generator) snapOf() Op {
	parent := g.known()
	o := g.snapshot()
	if o.Tag == parent {
		return o
	}
	g.parents[o.Tag] = parent
	return Op{Kind: SnapOf, Tag: o.Tag, Of: parent}
}

// resize returns a resize of the origin, every other one to what it was at first, so
// that there are snapshots of its size.
func (g *generator) resize() Op {
	size := g.size
	if g.small = !g.small; g.small {
		size = (g.size/2 + g.rng.Int64N(g.size*3/4)) / block.SectorSize * block.SectorSize
	}
	return Op{Kind: Resize, Len: size}
}

// storeSize returns a size that a store may have, or be too large for.
func (g *generator) storeSize() int64 {
	return (8<<20 + g.rng.Int64N(24*g.size)) / block.PageSize * block.PageSize
}

func (g *generator) merge() Op {
	o := g.remove()
	switch {
	case o.Kind == DeleteAll:
		o.Kind = Delete
	case o.Kind == Delete:
		o.Kind = Merge
	}
	return o
}

func (g *generator) change() Op {
	o := Op{Kind: Change, Tag: g.known()}
	switch g.rng.IntN(4) {
	case 0:
		o.Attrs.Held = true
	case 1:
		o.Attrs.UseCount = g.rng.Uint32N(3)
	case 2:
		o.Attrs.Name = fmt.Sprintf("n%d", g.rng.IntN(20))
	}
	o.Attrs.Priority = int8(g.rng.IntN(5) - 2)
	g.kept[o.Tag] = o.Attrs.Held || o.Attrs.UseCount > 0
	return o
}

func (g *generator) writeSnapshot() Op {
	o := g.ranged(WriteSnap)
	o.Tag, o.Seed = g.known(), g.rng.Uint64N(1<<32)
	g.open[o.Tag] = true
	return o
}

func (g *generator) close(tag block.Tag) Op {
	delete(g.open, tag)
	return Op{Kind: CloseSnap, Tag: tag}
}

func (g *generator) readSnapshot() Op {
	o := g.ranged(ReadSnap)
	o.Tag = g.known()
	return o
}

func (g *generator) crash() Op {
	return Op{Kind: Crash, Seed: g.rng.Uint64N(1 << 32), Fate: memdev.RandomFate(g.rng)}
}
