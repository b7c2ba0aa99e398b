// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// processOf says, in JSON, as what the test's program was started again.
const processOf = "ZUMASTOR_TEST_PROCESS"

// process is what a child is.
type process struct {
	Store, Origin string
	Role          string // server, origin or snapshots
	Listen        string // where the last two serve NBD
	Quiet         time.Duration
}

// runChild runs the process that text describes, until SIGTERM.
func runChild(text string) error {
	var p process
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	return p.run()
}

// run is the child until SIGTERM.
func (p process) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := Config{Paths: Paths{Store: p.Store}, Quiet: p.Quiet, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	switch p.Role {
	case "server":
		cfg.Serve = true
		return Run(ctx, cfg)
	case "origin":
		cfg.Join, cfg.Origin, cfg.Listen = true, p.Origin, Address{"unix", p.Listen}
		return Run(ctx, cfg)
	}
	return p.serveSnapshots(ctx)
}

// scene is a store and an origin, and the processes that have them open.
type scene struct {
	t             *testing.T
	store, origin string
	quiet         time.Duration
}

const (
	sceneSize  = 8 << 20
	sceneChunk = 16 << 10
)

// newScene makes an origin with a store of so many bytes.
func newScene(t *testing.T, storeSize int64) *scene {
	dir := t.TempDir()
	sc := &scene{t: t, store: filepath.Join(dir, "store"), origin: filepath.Join(dir, "origin")}
	origin, err := device.OpenFile(sc.origin, device.FileOptions{Create: sceneSize})
	require.NoError(t, err)
	require.NoError(t, origin.Close())
	file, err := device.OpenFile(sc.store, device.FileOptions{Create: storeSize})
	require.NoError(t, err)
	_, err = store.Format(placement.Devices{Store: file}, store.FormatOptions{OriginSize: sceneSize, ChunkSize: sceneChunk, Policy: layout.PolicyDrop})
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return sc
}

// child is a process of a scene.
type child struct {
	*exec.Cmd
	t      *testing.T
	listen string
	gone   bool
}

// awaitServer returns when a server takes clients.
func (sc *scene) awaitServer() {
	require.Eventually(sc.t, func() bool {
		nc, err := net.Dial("unix", sc.store+ClientsSuffix)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	}, time.Minute, time.Millisecond)
}

// start starts a process, which ends with the test at the latest.
func (sc *scene) start(role string) *child {
	if role != "server" {
		sc.awaitServer()
	}
	c := &child{Cmd: exec.Command(os.Args[0]), t: sc.t, listen: sc.store + "." + role + ".nbd"}
	text, err := json.Marshal(process{Store: sc.store, Origin: sc.origin, Role: role, Listen: c.listen, Quiet: sc.quiet})
	require.NoError(sc.t, err)
	c.Env = append(os.Environ(), processOf+"="+string(text))
	c.Stderr = os.Stderr
	require.NoError(sc.t, c.Start())
	sc.t.Cleanup(func() {
		if !c.gone {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
	return c
}

// kill ends the process as only the kernel can.
func (c *child) kill() {
	require.NoError(c.t, c.Process.Kill())
	var exit *exec.ExitError
	c.gone = true
	require.ErrorAs(c.t, c.Wait(), &exit)
	require.True(c.t, exit.Sys().(syscall.WaitStatus).Signaled(), "it had ended by itself: %v", exit)
}

// end ends the process in order.
func (c *child) end() {
	c.signal(syscall.SIGTERM)
	c.gone = true
	require.NoError(c.t, c.Wait())
}

func (c *child) signal(s syscall.Signal) { require.NoError(c.t, c.Process.Signal(s)) }

// awaitStopped returns when the process is stopped.
func (c *child) awaitStopped() {
	require.Eventually(c.t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		require.NoError(c.t, err)
		return strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " T")
	}, time.Minute, time.Millisecond)
}

// dial attaches an export of the process, which may still be starting.
func (c *child) dial(export string) *nbdclient.Client {
	var dev *nbdclient.Client
	require.Eventually(c.t, func() (ok bool) {
		var err error
		dev, err = nbdclient.Dial("unix", c.listen, export, nbdclient.Options{})
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	c.t.Cleanup(func() { _ = dev.Close() })
	return dev
}

// mustBeClean fails the test unless the store is whole, and nothing leaks.
func (sc *scene) mustBeClean() {
	devs, err := OpenDevices(Paths{Store: sc.store}, Access{ReadOnly: true})
	require.NoError(sc.t, err)
	defer devs.Close()
	checktest.MustBeClean(sc.t, devs.Checked())
}

// often returns how often a test does what it is for.
func often(usually, soak int) int {
	if os.Getenv("ZUMASTOR_SOAK") != "" {
		return soak
	}
	return usually
}

// load is a churn under way.
type load struct {
	*pattern.Churn
	ledger *pattern.Ledger
	stop   context.CancelFunc
	result chan error
}

// run loads a device in the background.
func (l *load) run(d pattern.Device) {
	ctx, stop := context.WithCancel(context.Background())
	l.stop, l.result = stop, make(chan error, 1)
	go func() { l.result <- l.Run(ctx, d) }()
}

// end ends it, and returns what the run did.
func (l *load) end() error {
	l.stop()
	return <-l.result
}

// loaded begins a load of a device of zeroes.
func loaded(d pattern.Device, size int64, seed uint64) *load {
	l := &load{ledger: pattern.NewLedger(pattern.Zeroes(seed+1, size), nil)}
	l.Churn = pattern.NewChurn(l.ledger, pattern.Options{Workers: 2, Seed: seed, Align: 4096})
	l.run(d)
	return l
}

// goOn waits until so many more requests have succeeded.
func (l *load) goOn(t *testing.T, n int64) {
	had := l.Ops()
	require.Eventually(t, func() bool { return l.Ops() >= had+n || len(l.result) > 0 }, time.Minute, time.Millisecond, "nothing goes on")
	select {
	case err := <-l.result:
		l.result <- err // for end
		require.Failf(t, "the load has ended", "%v", err)
	default:
	}
}
