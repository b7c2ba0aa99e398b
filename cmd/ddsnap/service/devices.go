// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"io"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
)

// Paths name what a store lies on; Meta and Journal may be empty.
type Paths struct {
	Store, Meta, Journal string
}

// Access says how devices are opened.
type Access struct {
	ReadOnly bool        // beside other readers, and without the right to write
	Direct   bool        // past the page cache, where the file system can
	Role     device.Role // with whom the devices are shared
	// Unclaimed leaves the store device to be claimed by the kernel's targets.
	Unclaimed bool
	// Placement is that of a store which is to be made. Zero means to look what
	// the store that is there has.
	Placement layout.Placement
}

// Devices are the open devices of a store.
type Devices struct {
	placement.Devices
	StoreFile *device.File
	closers   []io.Closer
}

// patience is how long who is to write waits for those who look: "ddsnap status" of a
// store without a server, say, at the moment at which the server starts.
const patience = 5 * time.Second

// OpenDevices opens a store's devices, and locks them until Close. The error wraps
// device.ErrInUse when another process has one; for one that only reads, it comes after
// some seconds.
func OpenDevices(p Paths, a Access) (*Devices, error) {
	d := &Devices{}
	err := d.open(p, a)
	if err == nil {
		err = d.checkKernel(a.Role)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Devices) open(p Paths, a Access) error {
	file := device.FileOptions{ReadOnly: a.ReadOnly, Direct: a.Direct, Role: a.Role}
	if !a.ReadOnly {
		file.Patience = patience
	}
	unclaimed := file
	unclaimed.Unclaimed = a.Unclaimed
	f, err := d.file(p.Store, unclaimed)
	if err != nil {
		return err
	}
	d.Store, d.StoreFile = f, f
	if p.Meta != "" {
		if d.Meta, err = d.file(p.Meta, file); err != nil {
			return err
		}
	}
	if p.Journal == "" {
		return nil
	}
	where := a.Placement
	if sb := d.Superblock(); where == 0 && sb != nil {
		where = sb.Placement
	}
	if where == layout.PlacementPMem && !a.ReadOnly {
		return d.region(p.Journal)
	}
	f, err = d.file(p.Journal, file)
	if err != nil {
		return err
	}
	d.Journal = journal.OnDevice{Device: f}
	if where == layout.PlacementPMem {
		d.Journal = unaligned{f}
	}
	return nil
}

func (d *Devices) file(path string, o device.FileOptions) (*device.File, error) {
	f, err := device.OpenFile(path, o)
	if err == nil {
		d.closers = append(d.closers, f)
	}
	return f, err
}

func (d *Devices) region(path string) error {
	r, err := device.OpenRegion(path)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, r)
	d.Journal = r
	return nil
}

// Superblock returns the newest valid superblock, or nil where there is none, which
// opening the store will complain about.
func (d *Devices) Superblock() *layout.Superblock {
	var newest *layout.Superblock
	page := device.Buffer(block.PageSize)
	for i := range int64(layout.Superblocks) {
		if _, err := d.MetaDevice().ReadAt(page, i*block.PageSize); err != nil {
			continue
		}
		sb, err := layout.DecodeSuperblock(page[:layout.SuperblockSize])
		if err == nil && (newest == nil || sb.Checkpoint > newest.Checkpoint) {
			newest = sb
		}
	}
	return newest
}

// Checked returns the devices as package check reads them.
func (d *Devices) Checked() check.Devices {
	c := check.Devices{Store: d.Store}
	if d.Meta != nil {
		c.Meta = d.Meta
	}
	if d.Journal != nil {
		c.Journal = d.Journal
	}
	return c
}

// Close closes the devices and lets go of their locks.
func (d *Devices) Close() error {
	var errs []error
	for _, c := range d.closers {
		if err := c.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing a device: %w", err))
		}
	}
	d.closers = nil
	return errors.Join(errs...)
}
