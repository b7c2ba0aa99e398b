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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// serverOf names the store of which the test's program, started again, is the server.
const serverOf = "ZUMASTOR_TEST_SERVER"

func TestMain(m *testing.M) {
	path := os.Getenv(serverOf)
	if path == "" {
		goleak.VerifyTestMain(m)
		return
	}
	cfg := Config{Paths: Paths{Store: path}, Serve: true, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startServer starts the server of a store in a process of its own.
func startServer(t *testing.T, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverOf+"="+path)
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
	const size = 8 << 20
	dir := t.TempDir()
	paths := Paths{Store: filepath.Join(dir, "store")}
	origin, err := device.OpenFile(filepath.Join(dir, "origin"), device.FileOptions{Create: size})
	require.NoError(t, err)
	defer origin.Close()
	file, err := device.OpenFile(paths.Store, device.FileOptions{Create: 512 << 20})
	require.NoError(t, err)
	_, err = store.Format(placement.Devices{Store: file}, store.FormatOptions{OriginSize: size, ChunkSize: 16 << 10})
	require.NoError(t, err)
	require.NoError(t, file.Close())

	srv := startServer(t, paths.Store)
	clients, err := Socket(paths.Store, ClientsSuffix)
	require.NoError(t, err)
	devs, err := OpenDevices(paths, Access{Role: device.Origin})
	require.NoError(t, err)
	defer devs.Close()
	require.NoError(t, devs.StoreFile.TakeByte(device.FirstSnapshotByte))
	c := dialServer(t, clients, devs.StoreFile.HeldByte())
	v, err := volume.OpenOrigin(c, origin, devs.Devices, volume.Options{})
	require.NoError(t, err)
	take := func(tag uint32) { takeSnapshot(t, paths.Store, tag) }
	take(0)
	source := volume.SnapshotSource{Server: c, Origin: origin, Store: devs.Devices, ChunkSize: 16 << 10, DataOffset: devs.Superblock().DataOffset}
	snap, err := volume.OpenSnapshotRef(source, wire.SnapshotRef{Tag: 0}, true)
	require.NoError(t, err)

	var stop atomic.Bool
	var load sync.WaitGroup
	var ops atomic.Int64
	contents := [2][]byte{make([]byte, size), make([]byte, size)}
	for i, d := range []device.Device{v, snap} {
		load.Go(func() { churn(t, d, contents[i], &stop, &ops, uint64(i)) })
	}
	kills := 50
	if testing.Short() {
		kills = 5
	}
	taken := map[uint32][]byte{}
	for n := range kills {
		had := ops.Load()
		require.Eventually(t, func() bool { return ops.Load() > had+100 || t.Failed() }, time.Minute, time.Millisecond, "nothing goes on")
		if n%10 == 9 { // one that does not answer is no better than none
			require.NoError(t, srv.Process.Signal(syscall.SIGSTOP))
			time.Sleep(20 * time.Millisecond)
		}
		killServer(t, srv)
		srv = startServer(t, paths.Store)
		if n%10 == 3 {
			tag := uint32(100 + n)
			take(tag)
			s, err := volume.OpenSnapshotRef(source, wire.SnapshotRef{Tag: block.Tag(tag)}, false)
			require.NoError(t, err)
			taken[tag] = whole(t, s)
			require.NoError(t, s.Close())
		}
	}
	stop.Store(true)
	load.Wait()
	require.True(t, bytes.Equal(contents[0], whole(t, v)), "origin")
	require.True(t, bytes.Equal(contents[1], whole(t, snap)), "snapshot")
	for tag, want := range taken {
		s, err := volume.OpenSnapshotRef(source, wire.SnapshotRef{Tag: block.Tag(tag)}, false)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, whole(t, s)), "snapshot %d", tag)
		require.NoError(t, s.Close())
	}
	t.Logf("%d kills, %d requests, %d snapshots", kills, ops.Load(), len(taken))
	require.NoError(t, snap.Close())
	require.NoError(t, v.Close())
	require.NoError(t, c.Close())
	require.NoError(t, srv.Process.Signal(syscall.SIGKILL))
	_ = srv.Wait() // it was killed
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
// be starting, or wait for its client.
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
		if err != nil && !errors.Is(err, store.ErrExists) && !strings.Contains(err.Error(), "away") {
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

// churn writes to a device, and reads back what it wrote.
func churn(t *testing.T, d device.Device, content []byte, stop *atomic.Bool, ops *atomic.Int64, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	for !stop.Load() {
		off := rng.IntN(len(content)/512-64) * 512
		p := content[off : off+512*(1+rng.IntN(64))]
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		if _, err := d.WriteAt(p, int64(off)); err != nil {
			t.Errorf("writing: %v", err)
			return
		}
		if rng.IntN(16) == 0 {
			if err := d.Flush(); err != nil {
				t.Errorf("flushing: %v", err)
				return
			}
		}
		at := rng.IntN(len(content)/512) * 512
		got := make([]byte, 512)
		if _, err := d.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, content[at:at+512]) {
			t.Errorf("sector %d is wrong: %v", at/512, err)
			return
		}
		ops.Add(3)
	}
}
