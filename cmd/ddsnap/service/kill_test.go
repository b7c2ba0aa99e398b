// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// serverOf names the store of which the test's program, started again, is the server,
// and takingOver says that it is to take the place of the one that runs.
const (
	serverOf   = "ZUMASTOR_TEST_SERVER"
	takingOver = "ZUMASTOR_TEST_TAKEOVER"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(processOf); text != "" {
		if err := runChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	path := os.Getenv(serverOf)
	if path == "" {
		goleak.VerifyTestMain(m)
		return
	}
	cfg := Config{Paths: Paths{Store: path}, Serve: true, TakeOver: os.Getenv(takingOver) != "", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startServer starts the server of a store in a process of its own.
func startServer(t *testing.T, path string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), serverOf+"="+path), env...)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return cmd
}

// killServer ends it as only the kernel can.
func killServer(t *testing.T, cmd *exec.Cmd) {
	require.NoError(t, cmd.Process.Kill())
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.True(t, exit.Sys().(syscall.WaitStatus).Signaled(), "the server had ended by itself: %v", exit)
}

// The server's process is killed 50 times under an origin and a snapshot that are
// written to and read back, and stopped now and then: no request fails, and no byte is
// wrong, nor in the snapshots that are taken in between.
func TestServerProcessIsKilled(t *testing.T) {
	b := newVolumeBed(t)
	defer b.close()
	kills := 50
	if testing.Short() {
		kills = 5
	}
	for n := range kills {
		b.goesOn()
		if n%10 == 9 { // one that does not answer is no better than none
			require.NoError(t, b.server.Process.Signal(syscall.SIGSTOP))
			time.Sleep(20 * time.Millisecond)
		}
		killServer(t, b.server)
		b.server = startServer(t, b.paths.Store)
		if n%10 == 3 {
			b.take(uint32(100 + n))
		}
	}
	b.check()
}

// The origin grows and shrinks beside a load, while the server that does so is killed:
// its size is the old or the new one, its client follows, no request of the load fails,
// and no byte is wrong, in snapshots of any size neither.
func TestResizesOfAKilledServer(t *testing.T) {
	b := newVolumeBed(t)
	defer b.close()
	small, large := b.volume.Size(), b.volume.Size()+4<<20
	require.NoError(t, os.Truncate(b.origin.Path(), large))
	end := bytes.Repeat([]byte{7}, 1<<20)
	rounds := 12
	if testing.Short() {
		rounds = 2
	}
	for n := range rounds {
		b.goesOn()
		b.resizeTo(large, n%2 == 0)
		_, err := b.volume.WriteAt(end, large-int64(len(end)))
		require.NoError(t, err)
		if n%3 == 0 {
			takeSnapshot(t, b.paths.Store, uint32(100+n))
			require.Equal(t, end, b.read(uint32(100 + n))[large-int64(len(end)):])
			b.ends = append(b.ends, uint32(100+n))
		}
		b.resizeTo(small, n%2 == 1)
	}
	b.check()
	for _, tag := range b.ends {
		require.Equal(t, end, b.read(tag)[large-int64(len(end)):], "snapshot %d", tag)
	}
}

// resizeTo resizes the origin, and kills the server meanwhile if it is to.
func (b *volumeBed) resizeTo(size int64, kill bool) {
	control, err := Socket(b.paths.Store, ControlSuffix)
	require.NoError(b.t, err)
	for b.volume.Size() != size {
		done := make(chan error, 1)
		go func() {
			c, err := admin.Dial(context.Background(), control)
			if err == nil {
				_, err = c.Do(context.Background(), admin.Request{Verb: admin.VerbResize, Resize: &admin.Resize{Origin: size}})
				_ = c.Close()
			}
			done <- err
		}()
		if kill {
			time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
			killServer(b.t, b.server)
			b.server = startServer(b.t, b.paths.Store)
			kill = false
		}
		if err := <-done; err != nil { // there was no server, or it died
			time.Sleep(time.Millisecond)
		}
	}
}

// volumeBed is an origin and a snapshot under load, clients of a server in a process of
// its own.
type volumeBed struct {
	t        *testing.T
	paths    Paths
	origin   *device.File
	devs     *Devices
	server   *exec.Cmd
	client   *client.Client
	volume   *volume.Origin
	snapshot *volume.Snapshot
	source   volume.SnapshotSource
	loads    []*load                   // of the volume and the snapshot, while they go on
	taken    map[uint32]pattern.Bounds // contents of snapshots by tag
	ends     []uint32                  // tags of snapshots whose ends are known
}

func newVolumeBed(t *testing.T) *volumeBed {
	const size = 8 << 20
	dir := t.TempDir()
	b := &volumeBed{t: t, paths: Paths{Store: filepath.Join(dir, "store")}, taken: make(map[uint32]pattern.Bounds)}
	var err error
	b.origin, err = device.OpenFile(filepath.Join(dir, "origin"), device.FileOptions{Create: size})
	require.NoError(t, err)
	file, err := device.OpenFile(b.paths.Store, device.FileOptions{Create: 512 << 20})
	require.NoError(t, err)
	_, err = store.Format(placement.Devices{Store: file}, store.FormatOptions{OriginSize: size, ChunkSize: 16 << 10})
	require.NoError(t, err)
	require.NoError(t, file.Close())

	b.server = startServer(t, b.paths.Store)
	clients, err := Socket(b.paths.Store, ClientsSuffix)
	require.NoError(t, err)
	b.devs, err = OpenDevices(b.paths, Access{Role: device.Origin})
	require.NoError(t, err)
	require.NoError(t, b.devs.StoreFile.TakeByte(device.FirstSnapshotByte))
	b.client = dialServer(t, clients, b.devs.StoreFile.HeldByte())
	b.volume, err = volume.OpenOrigin(b.client, b.origin, b.devs.Devices, volume.Options{})
	require.NoError(t, err)
	takeSnapshot(t, b.paths.Store, 0)
	b.source = volume.SnapshotSource{Server: b.client, Origin: b.origin, Store: b.devs.Devices, ChunkSize: 16 << 10, DataOffset: b.devs.Superblock().DataOffset}
	b.snapshot, err = volume.OpenSnapshotRef(b.source, wire.SnapshotRef{Tag: 0}, true)
	require.NoError(t, err)
	b.loads = []*load{loaded(b.volume, size, 1), loaded(b.snapshot, size, 3)}
	return b
}

// goesOn waits until requests of both have been served.
func (b *volumeBed) goesOn() {
	for _, l := range b.loads {
		l.goOn(b.t, 30)
	}
}

// take takes a snapshot, which is to be what the volume was meanwhile, and remembers
// its content.
func (b *volumeBed) take(tag uint32) {
	during, _ := b.loads[0].ledger.During(func() error { takeSnapshot(b.t, b.paths.Store, tag); return nil })
	b.taken[tag] = b.checked(tag, during)
}

// checked returns the content of a snapshot, which is to be within bounds.
func (b *volumeBed) checked(tag uint32, within pattern.Bounds) pattern.Bounds {
	s, err := volume.OpenSnapshotRef(b.source, wire.SnapshotRef{Tag: block.Tag(tag)}, false)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, s.Close()) }()
	found, err := within.Check(s)
	require.NoError(b.t, err, "snapshot %d", tag)
	return found
}

func (b *volumeBed) read(tag uint32) []byte {
	s, err := volume.OpenSnapshotRef(b.source, wire.SnapshotRef{Tag: block.Tag(tag)}, false)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, s.Close()) }()
	return whole(b.t, s)
}

// check ends the loads and compares every byte.
func (b *volumeBed) check() {
	loads := b.loads
	b.loads = nil
	for i, d := range []device.Device{b.volume, b.snapshot} {
		require.NoError(b.t, loads[i].end())
		_, err := loads[i].ledger.Present().Check(d)
		require.NoError(b.t, err)
	}
	for tag, content := range b.taken {
		b.checked(tag, content)
	}
	b.t.Logf("%d and %d requests, %d snapshots", loads[0].Ops(), loads[1].Ops(), len(b.taken))
}

func (b *volumeBed) close() {
	for _, l := range b.loads {
		_ = l.end() // the test has failed already
	}
	require.NoError(b.t, b.snapshot.Close())
	require.NoError(b.t, b.volume.Close())
	require.NoError(b.t, b.client.Close())
	require.NoError(b.t, b.devs.Close())
	require.NoError(b.t, b.origin.Close())
	require.NoError(b.t, b.server.Process.Signal(syscall.SIGKILL))
	_ = b.server.Wait() // it was killed
}

// dialServer connects to a server that may still be starting.
func dialServer(t *testing.T, path string, lock uint32) *client.Client {
	var c *client.Client
	require.Eventually(t, func() (ok bool) {
		var err error
		c, err = client.Dial(t.Context(), path, client.Options{Lock: lock})
		return err == nil
	}, time.Minute, time.Millisecond)
	return c
}

// takeSnapshot takes a snapshot through the control socket of a server that may still
// be starting, or wait for its client, or have found it late on a busy machine.
func takeSnapshot(t *testing.T, path string, tag uint32) {
	control, err := Socket(path, ControlSuffix)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		c, err := admin.Dial(t.Context(), control)
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.Do(t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: block.Tag(tag)}})
		later := err != nil && (strings.Contains(err.Error(), "away") || strings.Contains(err.Error(), "no answer within"))
		if err != nil && !errors.Is(err, store.ErrExists) && !later {
			t.Errorf("taking snapshot %d: %v", tag, err)
			return true
		}
		return err == nil || errors.Is(err, store.ErrExists)
	}, time.Minute, 5*time.Millisecond)
}

func whole(t *testing.T, d device.Device) []byte {
	p := make([]byte, d.Size())
	_, err := d.ReadAt(p, 0)
	require.NoError(t, err)
	return p
}
