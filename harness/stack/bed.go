// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/nvramsim"
)

// Bed is where stacks stand: an origin device, and a device with room for their
// stores.
type Bed struct {
	origin  device.Device
	stores  device.Device
	virtual *nvramsim.Clock // of a modelled bed; else nil
	disk    *nvramsim.Model // of a modelled bed; else nil
	began   time.Time
	nvram   string // a battery-backed block device, "" to simulate one
	pmem    string // a mapped file or device, "" to simulate one
	notes   []string
	closers []func() error // in the order in which things were opened
}

// Size is how large the parts of a bed are, in bytes.
type Size struct{ Origin, Stores int64 }

// Options say what a bed of real devices is made of.
type Options struct {
	// Dir is where files are made. It must exist.
	Dir string
	// Device, if not "", is a block device or file to be overwritten in place of
	// files in Dir.
	Device string
	// NVRAM and PMem name a block device and a mapping for the placements of
	// those names; "" simulates them in memory.
	NVRAM, PMem string
	// Force overwrites Device, NVRAM and PMem though something is on them.
	Force bool
}

// Open makes a bed of files or of a block device and fills it, so that reads find
// blocks and writes need none to be allocated. Its files have no names: they are
// gone after Close, and when the process ends.
func Open(o Options, size Size) (*Bed, error) {
	for _, path := range []string{o.Device, o.NVRAM, o.PMem} {
		if path == "" || o.Force {
			continue
		}
		if err := device.CheckUnused(path); err != nil {
			return nil, fmt.Errorf("%w (--force overwrites it all the same)", err)
		}
	}
	b := &Bed{began: time.Now(), nvram: o.NVRAM, pmem: o.PMem}
	build := b.openFiles
	if o.Device != "" {
		build = b.openDevice
	}
	err := build(o, size)
	if err == nil {
		err = b.fill()
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bed) openFiles(o Options, size Size) error {
	if err := b.checkFileSystem(o.Dir, size); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.Dir, "zbench-")
	if err != nil {
		return fmt.Errorf("making files for devices: %w", err)
	}
	if b.origin, err = b.create(filepath.Join(dir, "origin"), size.Origin); err == nil {
		b.stores, err = b.create(filepath.Join(dir, "stores"), size.Stores)
	}
	return errors.Join(err, os.RemoveAll(dir)) // open files live on, and end with the process however that ends
}

func (b *Bed) create(path string, size int64) (device.Device, error) {
	f, err := device.OpenFile(path, device.FileOptions{Create: size, Direct: true})
	if err != nil {
		return nil, err
	}
	b.onClose(f.Close)
	if ok, why := f.Direct(); !ok {
		b.note("no O_DIRECT: the page cache is in the figures (%s)", why)
	}
	return f, nil
}

// checkFileSystem refuses what would fill the file system.
func (b *Bed) checkFileSystem(dir string, size Size) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("asking for the free space of %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC {
		b.note("the files are in memory (tmpfs): name a directory on a disk with --dir")
	}
	free, need := int64(fs.Bavail)*fs.Bsize, size.Origin+size.Stores
	if free-free/20 < need {
		return fmt.Errorf("%s has %d MiB free, the experiments need %d MiB: name a directory on a larger file system with --dir, or fewer experiments",
			dir, free>>20, need>>20)
	}
	return nil
}

func (b *Bed) openDevice(o Options, size Size) error {
	f, err := device.OpenFile(o.Device, device.FileOptions{Direct: true})
	if err != nil {
		return err
	}
	b.onClose(f.Close)
	if ok, why := f.Direct(); !ok {
		b.note("no O_DIRECT: the page cache is in the figures (%s)", why)
	}
	if f.Size() < size.Origin+size.Stores {
		return fmt.Errorf("%s has %d MiB, the experiments need %d MiB: choose fewer or a smaller suite",
			o.Device, f.Size()>>20, (size.Origin+size.Stores)>>20)
	}
	b.origin = &section{under: f, size: size.Origin}
	b.stores = &section{under: f, off: size.Origin, size: size.Stores}
	return nil
}

// NewModel makes a bed on one modelled disk, the origin in front of the stores,
// with a clock of its own. What is on it reads as zeroes until it is written.
func NewModel(name string, size Size) (*Bed, error) {
	clock := new(nvramsim.Clock)
	var disk *nvramsim.Model
	switch name {
	case "hdd":
		disk = nvramsim.NewHDD(clock, nvramsim.TypicalHDD())
	case "ssd":
		disk = nvramsim.NewFlash(clock, nvramsim.TypicalSATASSD())
	case "nvme":
		disk = nvramsim.NewFlash(clock, nvramsim.TypicalNVMe())
	default:
		return nil, fmt.Errorf("no disk model %q: there are hdd, ssd and nvme", name)
	}
	b := &Bed{virtual: clock, disk: disk}
	var err error
	if b.origin, err = disk.Partition(0, memdev.New(size.Origin)); err != nil {
		return nil, err
	}
	if b.stores, err = disk.Partition(size.Origin, memdev.New(size.Stores)); err != nil {
		return nil, err
	}
	return b, nil
}

// NewMemory makes a bed in memory, which takes no more of it than is written.
func NewMemory(size Size) *Bed {
	return &Bed{began: time.Now(), origin: memdev.New(size.Origin), stores: memdev.New(size.Stores)}
}

// Now returns the time since the bed was made: virtual on a modelled one.
func (b *Bed) Now() time.Duration {
	if b.virtual != nil {
		return b.virtual.Now()
	}
	return time.Since(b.began)
}

// Modelled reports whether time on the bed is virtual.
func (b *Bed) Modelled() bool { return b.virtual != nil }

// Traffic returns what a modelled bed's disk was asked and what it did, since it was
// made; zero on other beds. The journals of placements are not on it.
func (b *Bed) Traffic() nvramsim.Stats {
	if b.disk == nil {
		return nvramsim.Stats{}
	}
	return b.disk.Stats()
}

// Notes returns what a reader of the figures must know about the bed.
func (b *Bed) Notes() []string { return slices.Clone(b.notes) }

func (b *Bed) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

func (b *Bed) onClose(f func() error) { b.closers = append(b.closers, f) }

// Close takes the bed down. The stacks on it must have been closed.
func (b *Bed) Close() error {
	var errs []error
	for _, f := range slices.Backward(b.closers) {
		errs = append(errs, f())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// OpenPaths makes a bed of two files or devices that exist. Close leaves them.
func OpenPaths(origin, stores string) (*Bed, error) {
	b := &Bed{began: time.Now()}
	for path, to := range map[string]*device.Device{origin: &b.origin, stores: &b.stores} {
		f, err := device.OpenFile(path, device.FileOptions{Direct: true})
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.onClose(f.Close)
		*to = f
	}
	return b, nil
}

// BuildAll builds a stack that takes the whole bed.
func (b *Bed) BuildAll(variant string, chunk int64) (*Stack, error) {
	return b.Build(Config{Variant: variant, ChunkSize: chunk, Origin: b.origin.Size(), StoreSize: b.stores.Size()})
}

// OpenAll opens the store that takes all the room for stores, as it is: of placement
// inline, for an origin that begins where the bed's does.
func (b *Bed) OpenAll() (*Stack, error) {
	s := &Stack{bed: b, Config: Config{Variant: "inline", StoreSize: b.stores.Size()}, origin: b.origin}
	s.devs.Store = b.stores
	if err := s.openEngine(); err != nil {
		return nil, fmt.Errorf("opening a store: %w", errors.Join(err, s.Close()))
	}
	s.Origin, s.ChunkSize = s.volume.Size(), int64(s.server.Geometry().ChunkSize())
	return s, nil
}
