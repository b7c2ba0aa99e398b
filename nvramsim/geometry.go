// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"math"
	"sort"

	"zumastor.org/zumastor/engine/block"
)

// zones is into how many zones of equally many tracks a disk is cut. Within one
// every track has as many sectors.
const zones = 32

// geometry says where on the platters a sector is. Tracks are numbered from the
// outside, all surfaces of a cylinder before the next cylinder. All arithmetic
// is in whole nanoseconds and sectors, so that it is the same everywhere; the
// square root is correctly rounded by IEEE 754.
type geometry struct {
	rev, skew int64 // ns: a revolution; from a track's end to the next one's start
	heads     int64
	perZone   int64       // tracks
	zone      [zones]zone // the last one takes what is left over
	seekA     float64     // a seek of d cylinders takes A + B*sqrt(d) ns
	seekB     float64
}

type zone struct {
	first int64 // its first sector
	spt   int64 // sectors per track
}

// place is a sector's track, its number on the track and how many sectors that
// track has.
type place struct{ track, sector, spt int64 }

func newGeometry(p HDDParams) geometry {
	g := geometry{
		rev:   60e9 / int64(p.RPM),
		skew:  int64(p.TrackToTrack),
		heads: int64(p.Heads),
	}
	spt := func(i int64) int64 {
		rate := p.OuterRate - (p.OuterRate-p.InnerRate)*i/(zones-1)
		return rate * ((g.rev + g.skew) / 1000) / 1e6 / block.SectorSize
	}
	var perTrackOfEach int64
	for i := range int64(zones) {
		perTrackOfEach += spt(i)
	}
	sectors := p.Size / block.SectorSize
	g.perZone = max(1, (sectors+perTrackOfEach-1)/perTrackOfEach)
	first := int64(0)
	for i := range int64(zones) {
		g.zone[i] = zone{first: first, spt: spt(i)}
		first += g.perZone * spt(i)
	}
	cylinders := max(4, g.perZone*zones/g.heads)
	far := math.Sqrt(float64(cylinders - 1))
	g.seekB = float64(p.FullStroke-p.TrackToTrack) / (far - 1)
	g.seekA = float64(p.TrackToTrack) - g.seekB
	return g
}

// at returns the place of the sector that holds byte off.
func (g *geometry) at(off int64) place {
	s := off / block.SectorSize
	z := sort.Search(zones, func(i int) bool { return g.zone[i].first > s }) - 1
	s -= g.zone[z].first
	return place{int64(z)*g.perZone + s/g.zone[z].spt, s % g.zone[z].spt, g.zone[z].spt}
}

// angle returns at which time of each revolution the place is under its head.
func (g *geometry) angle(p place) int64 {
	return (p.sector*g.rev/p.spt + p.track*g.skew) % g.rev
}

// seek returns the time to move from one track to another.
func (g *geometry) seek(from, to int64) int64 {
	d := from/g.heads - to/g.heads
	switch {
	case from == to:
		return 0
	case d == 0: // another surface of the cylinder
		return g.skew
	case d < 0:
		d = -d
	}
	return int64(g.seekA + float64(g.seekB*math.Sqrt(float64(d)))) // the conversion forbids fusing
}

// pass returns how long n sectors from p on take to pass under the heads, and
// the track that the last one is on.
func (g *geometry) pass(off, n int64) (ns, track int64) {
	for {
		p := g.at(off)
		part := min(n, (p.spt-p.sector)*block.SectorSize)
		end := p.sector + part/block.SectorSize
		ns += end*g.rev/p.spt - p.sector*g.rev/p.spt
		off, n = off+part, n-part
		if n == 0 {
			return ns, p.track
		}
		ns += g.skew
	}
}

// within returns how many whole bytes from off on pass in ns, at most limit.
func (g *geometry) within(off, limit, ns int64) int64 {
	sectors := sort.Search(int(limit/block.SectorSize), func(i int) bool {
		took, _ := g.pass(off, int64(i+1)*block.SectorSize)
		return took > ns
	})
	return int64(sectors) * block.SectorSize
}
