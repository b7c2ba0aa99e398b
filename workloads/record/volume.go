// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/trace"
)

// inMountNamespace runs f on a thread whose mounts nobody else sees and which
// vanish with it. Programs that f starts see them.
func inMountNamespace(f func() error) error {
	isolated := func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("%w: making a mount namespace: %w", ErrNotSupported, err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("%w: making mounts private: %w", ErrNotSupported, err)
		}
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- isolated()
	}()
	return <-done
}

// volume is a loop device over a sparse image with an ext4 file system. It is
// detached when the last descriptor of it closes.
type volume struct {
	imagePath string
	name      string // loopN
	dev       uint32 // as the kernel numbers devices in tracepoints
	blockSize int
	fua       bool // the device has FUA
	file      *os.File
}

// mkfsOptions leave no initialisation for later, which would mix with what is
// recorded.
var mkfsOptions = []string{"-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"}

func newVolume(ctx context.Context, imagePath string, size int64) (*volume, error) {
	image, err := os.OpenFile(imagePath, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	if err := image.Truncate(size); err != nil {
		return nil, err
	}
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", append(mkfsOptions, imagePath)...)
	if out, err := mkfs.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	v := &volume{imagePath: imagePath}
	if err := v.attach(image); err != nil {
		return nil, fmt.Errorf("%w: attaching a loop device: %w", ErrNotSupported, err)
	}
	return v, nil
}

// attach binds image to a free loop device; another process may take the one
// that the kernel names, so it tries more than once.
func (v *volume) attach(image *os.File) error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	for range 10 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return err
		}
		name := "loop" + strconv.Itoa(n)
		f, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(f.Fd()), &config)
		if err == nil {
			v.name, v.file = name, f
			return v.identify()
		}
		f.Close()
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return errors.New("every free loop device was taken by another process first")
}

func (v *volume) identify() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(v.file.Fd()), &st); err != nil {
		return err
	}
	v.dev = unix.Major(st.Rdev)<<20 | unix.Minor(st.Rdev)
	fua, err := os.ReadFile(filepath.Join("/sys/block", v.name, "queue/fua"))
	if err != nil {
		return err
	}
	v.fua = strings.TrimSpace(string(fua)) == "1"
	v.blockSize, err = unix.IoctlGetInt(int(v.file.Fd()), unix.BLKSSZGET)
	return err
}

func (v *volume) close() error { return v.file.Close() }

// settleTime bounds the wait for a loop device to come to rest.
const settleTime = 30 * time.Second

// settle waits until nothing is under way on the device and returns its counts.
func (v *volume) settle(ctx context.Context) (DeviceStat, error) {
	deadline := time.Now().Add(settleTime)
	for {
		before, err := readDeviceStat(v.name)
		if err != nil {
			return before, err
		}
		select {
		case <-ctx.Done():
			return before, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
		after, err := readDeviceStat(v.name)
		if err != nil || after == before && after.inFlight == 0 {
			return after, err
		}
		if time.Now().After(deadline) {
			return after, fmt.Errorf("%w: %s is still busy after %v", ErrInexact, v.name, settleTime)
		}
	}
}

// DeviceStat is what the kernel counts for a block device, independently of its
// tracepoints: /sys/block/NAME/stat. Sectors are of 512 bytes.
type DeviceStat struct {
	Reads, ReadSectors       int64
	Writes, WriteSectors     int64 // zeroing, and empty writes that only ask for a flush, included
	Discards, DiscardSectors int64
	Flushes                  int64
	inFlight                 int64
}

func readDeviceStat(name string) (DeviceStat, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", name, "stat"))
	if err != nil {
		return DeviceStat{}, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 17 {
		return DeviceStat{}, fmt.Errorf("%w: the statistics of %s lack flushes; Linux 5.5 has them", ErrNotSupported, name)
	}
	var n [17]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return DeviceStat{}, fmt.Errorf("statistics of %s: %w", name, err)
		}
	}
	return DeviceStat{
		Reads: n[0], ReadSectors: n[2], Writes: n[4], WriteSectors: n[6], inFlight: n[8],
		Discards: n[11], DiscardSectors: n[13], Flushes: n[15],
	}, nil
}

func (s DeviceStat) minus(t DeviceStat) DeviceStat {
	return DeviceStat{
		Reads: s.Reads - t.Reads, ReadSectors: s.ReadSectors - t.ReadSectors,
		Writes: s.Writes - t.Writes, WriteSectors: s.WriteSectors - t.WriteSectors,
		Discards: s.Discards - t.Discards, DiscardSectors: s.DiscardSectors - t.DiscardSectors,
		Flushes: s.Flushes - t.Flushes,
	}
}

// agrees returns an error unless the recorded figures, and empty writes beside
// them, are the kernel's.
func (s DeviceStat) agrees(in trace.Info, empty int64) error {
	sectors := func(k workloads.Kind) int64 { return in.Bytes[k] / workloads.SectorSize }
	recorded := DeviceStat{
		Reads: in.Ops[workloads.Read], ReadSectors: sectors(workloads.Read),
		Writes:       in.Ops[workloads.Write] + in.Ops[workloads.Zero] + empty,
		WriteSectors: sectors(workloads.Write) + sectors(workloads.Zero),
		Discards:     in.Ops[workloads.Discard], DiscardSectors: sectors(workloads.Discard),
		Flushes: in.Ops[workloads.Flush],
	}
	if recorded != s {
		return fmt.Errorf("%w: recorded %+v, the kernel counted %+v", ErrInexact, recorded, s)
	}
	return nil
}
