// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// deviceSizes are the sizes of the devices in bytes.
type deviceSizes struct {
	store, origin, meta, journal int64
}

// sized is a device of which only the size counts.
type sized struct {
	device.Device
	bytes int64
}

// Size implements device.Device.
func (s sized) Size() int64 { return s.bytes }

// plan works out what would be made.
func (i *initialization) plan() (*layout.Superblock, *deviceSizes, error) {
	s, err := i.sizes()
	if err != nil {
		return nil, nil, err
	}
	i.options = store.FormatOptions{
		OriginSize: s.origin, ChunkSize: int(i.chunk), Placement: i.where,
		JournalSize: s.journal, Policy: i.options.Policy, Created: time.Now().UnixNano(),
	}
	devs := placement.Devices{Store: sized{bytes: s.store}}
	if s.meta > 0 {
		devs.Meta = sized{bytes: s.meta}
	}
	if s.journal > 0 {
		devs.Journal = journal.OnDevice{Device: sized{bytes: s.journal}}
	}
	sb, err := store.Plan(devs, i.options)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", i.paths.Store, err)
	}
	return sb, s, nil
}

// sizes returns the sizes of the devices, that of the store as it will be.
func (i *initialization) sizes() (s *deviceSizes, err error) {
	s = &deviceSizes{store: int64(i.size)}
	_, statErr := os.Stat(i.paths.Store)
	switch exists := !errors.Is(statErr, os.ErrNotExist); {
	case exists && i.size != 0:
		return nil, refusal{fmt.Errorf("%s exists already: --size is for a new file", i.paths.Store)}
	case !exists && i.size == 0:
		return nil, codeError{fmt.Errorf("%s does not exist: name a device, or make a file with --size", i.paths.Store), exitWrong}
	case i.size%block.SectorSize != 0:
		return nil, fmt.Errorf("%w: --size %d is not a multiple of %d", block.ErrGeometry, i.size, block.SectorSize)
	case exists:
		if s.store, err = sizeOf(i.paths.Store); err != nil {
			return nil, err
		}
	}
	if s.origin, err = sizeOf(i.origin); err != nil {
		return nil, err
	}
	if i.paths.Meta != "" {
		if s.meta, err = sizeOf(i.paths.Meta); err != nil {
			return nil, err
		}
	}
	if i.paths.Journal == "" {
		return s, nil
	}
	if s.journal, err = sizeOf(i.paths.Journal); err != nil {
		return nil, err
	}
	if int64(i.journalSize) > s.journal {
		return nil, fmt.Errorf("%w: --journalsize is %s, and %s has %s", block.ErrGeometry, &i.journalSize, i.paths.Journal, formatSize(s.journal))
	}
	if i.journalSize != 0 {
		s.journal = int64(i.journalSize)
	}
	return s, nil
}

// sizeOf returns the size of a regular file or block device.
func sizeOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, codeError{fmt.Errorf("%s does not exist", path), exitWrong}
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() && !isBlock(info) {
		return 0, codeError{fmt.Errorf("%s is neither a regular file nor a block device", path), exitWrong}
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", path, err)
	case n == 0:
		return 0, fmt.Errorf("%w: %s is empty", block.ErrGeometry, path)
	}
	return n, nil
}

func isBlock(info os.FileInfo) bool {
	return info.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice
}

// sameDevice reports whether both are the same block device, perhaps by different
// nodes.
func sameDevice(a, b os.FileInfo) bool {
	return isBlock(a) && isBlock(b) && a.Sys().(*syscall.Stat_t).Rdev == b.Sys().(*syscall.Stat_t).Rdev
}

// region is a part of a device in a plan.
type region struct {
	Name   string `json:"name"`
	Device string `json:"device"`
	Offset int64  `json:"offset_bytes"`
	Size   int64  `json:"size_bytes"`
}

// regions lists what the superblock divides the devices into.
func (i *initialization) regions(sb *layout.Superblock) []region {
	meta := i.paths.Store
	list := []region{}
	if sb.Separate {
		meta = i.paths.Meta
		list = append(list, region{"label", i.paths.Store, 0, layout.LabelSize})
	}
	pages := func(name string, e layout.Extent) {
		if e.Len > 0 {
			list = append(list, region{name, meta, int64(e.First) * block.PageSize, int64(e.Len) * block.PageSize})
		}
	}
	pages("superblocks", layout.Extent{Len: layout.Superblocks})
	pages("snapshot records", sb.Control)
	pages("journal", sb.Journal)
	pages("trees", sb.TreePages)
	list = append(list, region{"copied chunks", i.paths.Store, sb.DataOffset, int64(sb.Slots << sb.ChunkShift)})
	if sb.JournalSize > 0 {
		list = append(list,
			region{"label", i.paths.Journal, 0, layout.LabelSize},
			region{"journal", i.paths.Journal, layout.LabelSize, sb.JournalSize})
	}
	return list
}

// printPlan prints what would be made.
func (i *initialization) printPlan(sb *layout.Superblock, s *deviceSizes) error {
	geo, err := block.NewGeometry(sb.OriginSize, 1<<sb.ChunkShift)
	if err != nil {
		return err
	}
	regions := i.regions(sb)
	if i.app.json {
		return i.app.printJSON(struct {
			OriginSize int64    `json:"origin_size_bytes"`
			ChunkSize  int      `json:"chunk_size_bytes"`
			Chunks     uint64   `json:"chunks"`
			Placement  string   `json:"placement"`
			Policy     string   `json:"policy"`
			Slots      uint64   `json:"slots"`
			Regions    []region `json:"regions"`
		}{sb.OriginSize, geo.ChunkSize(), geo.Chunks(), sb.Placement.String(), sb.Policy.String(), sb.Slots, regions})
	}
	err = printFields(i.app.Out, [][2]string{
		{"Origin", fmt.Sprintf("%s, %s (%s chunks of %s)", i.origin, formatSize(s.origin), formatCount(geo.Chunks()), formatSize(int64(geo.ChunkSize())))},
		{"Store", fmt.Sprintf("%s, %s", i.paths.Store, formatSize(s.store))},
		{"Room for", fmt.Sprintf("%s copied chunks, %.0f %% of the origin", formatCount(sb.Slots), 100*float64(sb.Slots)/float64(geo.Chunks()))},
		{"Placement", sb.Placement.String()},
		{"When full", sb.Policy.String()},
	})
	if err != nil {
		return err
	}
	rows := make([][]string, len(regions))
	for k, r := range regions {
		rows[k] = []string{r.Name, r.Device, fmt.Sprint(r.Offset), formatSize(r.Size)}
	}
	fmt.Fprintln(i.app.Out)
	if err := printTable(i.app.Out, 2, []string{"REGION", "DEVICE", "OFFSET", "SIZE"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(i.app.Out, "\nnothing was made (--dry-run)")
	return nil
}
