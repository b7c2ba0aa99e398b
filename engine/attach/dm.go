// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
)

// DM is the way by the kernel's own targets, of module dm-ddsnap, that talk to the
// metadata server of their store. They need no process: see [MapTarget]. It is none of
// [Backends], for it makes no [device.Device] a block device.
const DM Backend = "dm"

// ddsnapNode is the module's device.
const ddsnapNode = "/dev/ddsnap"

// probeDM says whether the kernel has the targets, and this machine what makes them.
func probeDM() error {
	loadModule("dm-ddsnap", ddsnapNode)
	if _, err := os.Stat(ddsnapNode); err != nil {
		return fmt.Errorf("dm %w: the kernel's module dm-ddsnap: %w", ErrNotSupported, err)
	}
	if _, err := exec.LookPath("dmsetup"); err != nil {
		return fmt.Errorf("dm %w: %w", ErrNotSupported, err)
	}
	return nil
}

// Target is a block device that one of the kernel's targets is.
type Target struct {
	UUID     string // of the store, 32 hexadecimal digits
	Origin   bool
	Tag      block.Tag // of the snapshot, if it is not the origin
	Writable bool
	Path     string // below /dev/mapper
	Node     string // the same as /dev/dm-N
}

// Table is what a target consists of. Devices are paths of block devices.
type Table struct {
	Target
	OriginDevice, StoreDevice string
	Size                      int64 // bytes
	ChunkSize                 int   // bytes
	DataOffset                int64 // of slot 0 on the store device, bytes; of snapshots
	Features                  []string
}

// line is the table as device-mapper reads it.
func (t *Table) line() string {
	f := []string{"0", strconv.FormatInt(t.Size/block.SectorSize, 10)}
	chunk := strconv.Itoa(t.ChunkSize / block.SectorSize)
	if t.Origin {
		f = append(f, "ddsnap-origin", t.UUID, t.OriginDevice, t.StoreDevice, "-", chunk)
		if len(t.Features) > 0 {
			f = append(f, strconv.Itoa(len(t.Features)))
			f = append(f, t.Features...)
		}
		return strings.Join(f, " ")
	}
	mode := "ro"
	if t.Writable {
		mode = "rw"
	}
	f = append(f, "ddsnap-snapshot", t.UUID, strconv.FormatUint(uint64(t.Tag), 10), mode, t.OriginDevice, t.StoreDevice, chunk,
		strconv.FormatInt(t.DataOffset/block.SectorSize, 10))
	return strings.Join(f, " ")
}

// parseTable reads the devices out of the line of a target, as the kernel prints it.
func parseTable(line string) (t Table, err error) {
	f := strings.Fields(line)
	bad := fmt.Errorf("the table %q is not one of dm-ddsnap", line)
	if len(f) < 4 {
		return t, bad
	}
	sectors, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return t, bad
	}
	t.Size, t.UUID = sectors*block.SectorSize, f[3]
	chunk := ""
	switch {
	case f[2] == "ddsnap-origin" && len(f) >= 8:
		t.Origin, t.OriginDevice, t.StoreDevice, chunk = true, f[4], f[5], f[7]
		t.Features = f[min(len(f), 9):]
	case f[2] == "ddsnap-snapshot" && len(f) == 10:
		t.OriginDevice, t.StoreDevice, chunk = f[6], f[7], f[8]
		t.Writable = f[5] == "rw"
	default:
		return t, bad
	}
	n, err := strconv.Atoi(chunk)
	if err != nil {
		return t, bad
	}
	t.ChunkSize = n * block.SectorSize
	return t, nil
}

// Names of the targets' devices begin with mapperName, and their identifiers, by which
// they are found, with mapperID.
const (
	mapperName = "ddsnap-"
	mapperID   = "DDSNAP-"
	originName = "origin"
)

func compactUUID(uuid string) string { return strings.ReplaceAll(uuid, "-", "") }

// which is the last part of a target's name and identifier.
func (t Target) which() string {
	if t.Origin {
		return originName
	}
	return strconv.FormatUint(uint64(t.Tag), 10)
}

// name is that of the device: short, for a store is likely to have another beginning
// than all others.
func (t Target) name() string { return mapperName + compactUUID(t.UUID)[:8] + "-" + t.which() }

func (t Target) id() string { return mapperID + compactUUID(t.UUID) + "-" + t.which() }

// MapTarget makes the target a block device, and returns its path. The kernel waits for
// the store's server only with the first request that needs it. The devices stay claimed
// until [UnmapTarget].
func MapTarget(t Table) (string, error) {
	if err := probeDM(); err != nil {
		return "", err
	}
	args := []string{"create", t.name(), "--uuid", t.id(), "--table", t.line()}
	if !t.Origin && !t.Writable {
		args = append(args, "--readonly")
	}
	if _, err := dmsetup(args...); err != nil {
		return "", err
	}
	path := "/dev/mapper/" + t.name()
	if err := awaitNode(path); err != nil {
		_, undo := dmsetup("remove", t.name())
		return "", errors.Join(err, undo)
	}
	return path, nil
}

// awaitNode waits for the block device at path.
func awaitNode(path string) (err error) {
	for range 100 {
		var st unix.Stat_t
		if err = unix.Stat(path, &st); err == nil {
			if st.Mode&unix.S_IFMT == unix.S_IFBLK {
				return nil
			}
			err = errors.New("is no block device")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// dmsetup runs the command, and returns what it prints. Where there is no udev it makes
// the nodes itself.
func dmsetup(args ...string) (string, error) {
	cmd := exec.Command("dmsetup", args...)
	if _, err := os.Stat("/run/udev/control"); err != nil {
		cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		text := strings.Join(strings.Fields(errs.String()), " ")
		return "", fmt.Errorf("dmsetup %s: %w: %s; the kernel's log may say more", strings.Join(args, " "), err, text)
	}
	return strings.TrimSpace(string(out)), nil
}

// Targets returns the targets of a store that are block devices, the origin first. It
// finds those that [MapTarget] made, in this process or another.
func Targets(uuid string) ([]Target, error) { return targetsBelow("/sys", compactUUID(uuid)) }

// targetsBelow is Targets where sysfs is mounted at sys; no uuid stands for all.
func targetsBelow(sys, uuid string) (list []Target, err error) {
	files, err := filepath.Glob(filepath.Join(sys, "block/dm-*/dm/uuid"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		id, err1 := os.ReadFile(file)
		name, err2 := os.ReadFile(filepath.Join(dir, "name"))
		ro, err3 := os.ReadFile(filepath.Join(filepath.Dir(dir), "ro"))
		if errors.Join(err1, err2, err3) != nil {
			continue // gone meanwhile
		}
		of, which, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(id)), mapperID), "-")
		if !ok || !strings.HasPrefix(string(id), mapperID) || uuid != "" && of != uuid {
			continue
		}
		t := Target{UUID: of, Origin: which == originName, Writable: strings.TrimSpace(string(ro)) == "0",
			Path: "/dev/mapper/" + strings.TrimSpace(string(name)), Node: "/dev/" + filepath.Base(filepath.Dir(dir))}
		if !t.Origin {
			tag, err := strconv.ParseUint(which, 10, 32)
			if err != nil {
				continue // another's
			}
			t.Tag = block.Tag(tag)
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b Target) int {
		if a.Origin != b.Origin {
			return map[bool]int{true: -1, false: 1}[a.Origin]
		}
		return int(int64(a.Tag) - int64(b.Tag))
	})
	return list, nil
}

// Table asks the kernel what a target consists of.
func (t Target) Table() (Table, error) {
	line, err := dmsetup("table", filepath.Base(t.Path))
	if err != nil {
		return Table{}, err
	}
	table, err := parseTable(line)
	table.Target.Path, table.Target.Node, table.Tag = t.Path, t.Node, t.Tag
	return table, err
}

// Node returns the path of a block device that a table names, by its number or a path.
func Node(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return name, nil
	}
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + name)
	if err != nil {
		return "", fmt.Errorf("finding block device %s: %w", name, err)
	}
	return "/dev/" + strings.ReplaceAll(filepath.Base(dir), "!", "/"), nil
}

// UnmapTarget removes the block device. One that is mounted, held or open stays, and the
// error wraps device.ErrInUse; with force it fails all requests from then on, and goes
// when it is closed.
func UnmapTarget(t Target, force bool) error {
	args := []string{"remove", "--retry", filepath.Base(t.Path)}
	if force {
		args = []string{"remove", "--force", "--deferred", filepath.Base(t.Path)}
	} else if err := checkUnused(t.Node); err != nil {
		return fmt.Errorf("detaching: %w", err)
	}
	_, err := dmsetup(args...)
	return err
}

// ResizeTarget gives a target another size, in bytes: requests wait for a moment.
func ResizeTarget(t Target, size int64) error {
	table, err := t.Table()
	if err != nil {
		return err
	}
	name := filepath.Base(t.Path)
	table.Size = size
	if _, err := dmsetup("load", name, "--table", table.line()); err != nil {
		return err
	}
	if _, err := dmsetup("suspend", name); err != nil {
		_, undo := dmsetup("clear", name)
		return errors.Join(err, undo)
	}
	_, err = dmsetup("resume", name)
	return err
}
