// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
)

// waitForEvents is far more than an event takes to come.
const waitForEvents = 30 * time.Second

// attach attaches or skips the test with the reason.
func attach(t *testing.T, o Options) *Session {
	if os.Geteuid() != 0 {
		t.Skip("loading eBPF programs needs root")
	}
	s, err := Attach(o)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// run runs a program or skips the test.
func run(t *testing.T, name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Skipf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop makes a loop device of a new file.
func loop(t *testing.T, size int64) string {
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	path := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	name := run(t, "losetup", "--find", "--show", path)
	t.Cleanup(func() { exec.Command("losetup", "--detach", name).Run() })
	return name
}

func openDirect(t *testing.T, name string) *os.File {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func mustFind(t *testing.T, name string) Device {
	d, err := FindDevice(name)
	require.NoError(t, err)
	return d
}

// TestBlockCountsExactly does a known sequence of operations on a loop device and
// compares every count, size and distance; so the kernel's arithmetic of slots is compared
// with ours as well.
func TestBlockCountsExactly(t *testing.T) {
	name := loop(t, 8<<20)
	dev := mustFind(t, name)
	f := openDirect(t, name)
	p := device.Buffer(512 << 10)
	_, err := f.ReadAt(p[:4096], 0) // udev and the like have looked at it
	require.NoError(t, err)
	s := attach(t, Options{Block: true, Devices: []Device{dev}})
	before, err := s.Read()
	require.NoError(t, err)

	var writes, distance Histogram
	end := uint64(0)
	for i, n := range []int{512, 1024, 4096, 4096, 12288, 65536, 36864, 131072} {
		sector := uint64(i) * 2048
		if i == 3 {
			sector = end // sequential
		}
		_, err := f.WriteAt(p[:n], int64(sector*512))
		require.NoError(t, err)
		writes.Add(uint64(n))
		if i > 0 {
			distance.Add(max(sector, end) - min(sector, end))
		}
		end = sector + uint64(n)/512
	}
	require.NoError(t, f.Sync())
	discard := [2]uint64{0, 1 << 20}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&discard)))
	_, err = f.ReadAt(p[:8192], 0)
	require.NoError(t, err)
	distance.Add(end)

	r, err := s.Read()
	require.NoError(t, err)
	r = r.Since(before)
	require.Zero(t, r.Lost)
	got := r.Find("block", dev.String(), "write", "size")
	require.Equal(t, writes.Slots, got.Slots)
	require.Equal(t, writes.Sum, got.Sum)
	require.Equal(t, writes.Count, r.Find("block", dev.String(), "write", "latency").Count)
	if reads := r.Find("block", dev.String(), "read", "size"); reads.Count > 1 {
		t.Skip("something else reads loop devices here, such as udev: the rest is not ours alone")
	} else {
		require.EqualValues(t, 8192, reads.Sum)
	}
	require.EqualValues(t, 1, r.Find("block", dev.String(), "flush", "latency").Count)
	if errno == 0 { // where the file's file system can
		require.EqualValues(t, 1<<20, r.Find("block", dev.String(), "discard", "size").Sum)
	}
	got = r.Find("block", dev.String(), "any", "distance")
	require.Equal(t, distance.Sum, got.Sum)
	require.Equal(t, distance.Slots, got.Slots)
	require.Equal(t, r.Find("block", dev.String(), "any", "depth").Count,
		writes.Count+1+1+r.Find("block", dev.String(), "discard", "latency").Count, "each operation has a depth")
	require.Zero(t, r.InFlight[dev.String()])
}

// TestBlockOtherDevicesAreLeftOut has one of two devices chosen.
func TestBlockOtherDevicesAreLeftOut(t *testing.T) {
	one, other := loop(t, 1<<20), loop(t, 1<<20)
	s := attach(t, Options{Block: true, Devices: []Device{mustFind(t, one)}})
	_, err := openDirect(t, other).WriteAt(device.Buffer(4096), 0)
	require.NoError(t, err)
	r, err := s.Read()
	require.NoError(t, err)
	for _, series := range r.Series {
		require.NotEqual(t, filepath.Base(other), series.Subject)
	}
}

// ram makes a zram disk, which has bios and no requests.
func ram(t *testing.T, size int) string {
	if os.Geteuid() != 0 {
		t.Skip("zram disks need root")
	}
	const control = "/sys/class/zram-control/"
	id, err := os.ReadFile(control + "hot_add")
	if err != nil {
		t.Skip(err)
	}
	number := strings.TrimSpace(string(id))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(control+"hot_remove", []byte(number), 0)) })
	require.NoError(t, os.WriteFile("/sys/block/zram"+number+"/disksize", []byte(strconv.Itoa(size)), 0))
	path := "/dev/zram" + number
	if _, err := os.Stat(path); err != nil {
		t.Skip(err)
	}
	return path
}

// TestBlockWithoutRequests sees a device that has bios only, as those of device-mapper.
func TestBlockWithoutRequests(t *testing.T) {
	name := ram(t, 4<<20)
	d := mustFind(t, name)
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer f.Close() // before the disk goes
	s := attach(t, Options{Block: true, Devices: []Device{d}})
	before, err := s.Read()
	require.NoError(t, err)
	p := device.Buffer(64 << 10)
	for i := range int64(10) {
		_, err := f.WriteAt(p, i*128<<10)
		require.NoError(t, err)
	}
	r, err := s.Read()
	require.NoError(t, err)
	r = r.Since(before)
	require.EqualValues(t, 640<<10, r.Find("block", d.String(), "write", "size").Sum)
	require.EqualValues(t, 10, r.Find("block", d.String(), "write", "latency").Count)
	require.Zero(t, r.InFlight[d.String()])
}

func TestBlockTimeline(t *testing.T) {
	name := loop(t, 4<<20)
	var mu sync.Mutex
	var all []Event
	s := attach(t, Options{Block: true, Devices: []Device{mustFind(t, name)}, SampleEvery: 1, Event: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, e)
	}})
	f := openDirect(t, name)
	p := device.Buffer(4096)
	for i := range int64(20) {
		_, err := f.WriteAt(p, i*8192)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, e := range all {
			if e.Kind == "write" && e.Bytes == 4096 && e.Sector == uint64(n)*16 && e.Depth == 1 && e.Took > 0 {
				n++
			}
		}
		return n == 20
	}, waitForEvents, waitForEvents/1000)
	require.NoError(t, s.Close())
}

func TestFindDevice(t *testing.T) {
	_, err := FindDevice("/dev/null")
	require.ErrorContains(t, err, "not a block device")
	_, err = FindDevice("no-such-disk")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = DeviceOf("/proc")
	require.ErrorIs(t, err, ErrUnavailable, "it is on no device")
	require.Len(t, blockPoints(nil), 4, "any device may have no requests")
	require.Equal(t, Device{259, 17}, deviceOf(Device{259, 17}.number()))
	require.Equal(t, "4095:77", Device{4095, 77}.String(), "one that is not there")
}
