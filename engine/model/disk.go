// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// Disk is the content of the origin, or of a snapshot, as it must be.
type Disk struct {
	name    string
	sectors []sector // those beyond the size too, as far as it has ever been
	size    int64    // in bytes
	sizes   []int64  // that a power cut may leave instead
}

// sector is one sector of a disk.
type sector struct {
	now   Stamp
	older []Stamp // what a power cut may leave instead, in no order
}

func newDisk(name string, size int64) *Disk {
	return &Disk{name: name, sectors: make([]sector, size/block.SectorSize), size: size}
}

// clone returns a copy that shares nothing that changes.
func (d *Disk) clone() *Disk {
	to := *d
	to.sectors, to.sizes = slices.Clone(d.sectors), slices.Clip(d.sizes)
	for i := range to.sectors {
		to.sectors[i].older = slices.Clip(to.sectors[i].older)
	}
	return &to
}

// frozen returns a disk with what d holds now, that no power cut changes.
func (d *Disk) frozen(name string) *Disk {
	to := newDisk(name, d.size)
	for i := range to.sectors {
		to.sectors[i].now = d.sectors[i].now
	}
	return to
}

// Size returns the disk's size in bytes.
func (d *Disk) Size() int64 { return d.size }

// span returns the numbers of the sectors of a range, as [first, end).
func span(off, n int64) (first, end int64) {
	return off / block.SectorSize, (off + n) / block.SectorSize
}

// Pattern says what a write leaves in each sector, by its number.
type Pattern func(sector int64) Stamp

// Writing announces a write of the n bytes at off.
func (d *Disk) Writing(off, n int64, p Pattern) {
	for no, end := span(off, n); no < end; no++ {
		d.sectors[no].older = append(d.sectors[no].older, p(no))
	}
}

// Wrote confirms a write: reads return it.
func (d *Disk) Wrote(off, n int64, p Pattern) {
	for no, end := span(off, n); no < end; no++ {
		s := &d.sectors[no]
		s.older = append(s.older, s.now)
		s.now = p(no)
	}
}

// Withdraw takes an announced write back: it failed before anything was written.
func (d *Disk) Withdraw(off, n int64) {
	for no, end := span(off, n); no < end; no++ {
		s := &d.sectors[no]
		s.older = s.older[: len(s.older)-1 : len(s.older)-1]
	}
}

// Flushed confirms a flush: a power cut leaves everything as it is now.
func (d *Disk) Flushed() {
	for i := range d.sectors {
		d.sectors[i].older = nil
	}
}

// Resizing announces another size, in bytes.
func (d *Disk) Resizing(size int64) { d.sizes = append(d.sizes, size) }

// Resized confirms another size: it is durable. What a disk that grows gets is what
// it held there when it was that large before, else zeroes.
func (d *Disk) Resized(size int64) {
	d.size, d.sizes = size, nil
	if n := size/block.SectorSize - int64(len(d.sectors)); n > 0 {
		d.sectors = append(d.sectors, make([]sector, n)...)
	}
}

// Check compares what was read from the disk at off.
func (d *Disk) Check(off int64, p []byte) error {
	if off+int64(len(p)) > d.size {
		return fmt.Errorf("%s: %d bytes at %d were read of %d", d.name, len(p), off, d.size)
	}
	for i, no := 0, off/block.SectorSize; i < len(p); i, no = i+block.SectorSize, no+1 {
		if got := p[i : i+block.SectorSize]; !d.sectors[no].now.Is(got) {
			return fmt.Errorf("%s: sector %d holds %v, want %v", d.name, no, StampIn(got), d.sectors[no].now)
		}
	}
	return nil
}

// Settle takes over what the n bytes at off turned out to be after a write of
// them failed: the old content or the new, sector by sector.
func (d *Disk) Settle(off int64, p []byte) error {
	for i, no := 0, off/block.SectorSize; i < len(p); i, no = i+block.SectorSize, no+1 {
		if err := d.sectors[no].settle(p[i : i+block.SectorSize]); err != nil {
			return fmt.Errorf("%s: sector %d %w", d.name, no, err)
		}
	}
	return nil
}

func (s *sector) settle(got []byte) error {
	if s.now.Is(got) {
		return nil
	}
	for _, old := range s.older {
		if old.Is(got) {
			s.older = append(s.older, s.now)
			s.now = old
			return nil
		}
	}
	return fmt.Errorf("holds %v, want %v or one of %v", StampIn(got), s.now, s.older)
}

// recover takes over what a power cut has left, whole. It is durable.
func (d *Disk) recover(p []byte) error {
	size := int64(len(p))
	if size != d.size && !slices.Contains(d.sizes, size) {
		return fmt.Errorf("%s: has %d bytes, want %d or one of %v", d.name, size, d.size, d.sizes)
	}
	d.Resized(size)
	if err := d.Settle(0, p); err != nil {
		return err
	}
	for i := size / block.SectorSize; i < int64(len(d.sectors)); i++ {
		if d.sectors[i].older != nil { // nobody can look
			d.sectors[i].now = Any
		}
	}
	d.Flushed()
	return nil
}
