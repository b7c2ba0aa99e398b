// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// tools are the real clients that the conformance tests run, with the Debian
// package of each.
var tools = map[string]string{
	"qemu-img": "qemu-utils",
	"qemu-io":  "qemu-utils",
	"nbdinfo":  "libnbd-bin",
	"nbdcopy":  "libnbd-bin",
	"fio":      "fio",
}

// tool returns a runner of a real client, or skips the test.
func tool(t *testing.T, name string) func(args ...string) string {
	pkg, ok := tools[name]
	require.True(t, ok, "%s is not in the list of tools", name)
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (package %s)", name, pkg)
	}
	return func(args ...string) string {
		cmd := exec.Command(path, args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
		return string(out)
	}
}

// uri returns how real clients call an export of ts.
func (ts *testServer) uri(export string) string {
	return fmt.Sprintf("nbd+unix:///%s?socket=%s", export, ts.addr)
}

// patterned is a server with an export "vol" of 64 MiB: 8 MiB of pattern, zeroes
// that base:allocation calls a hole, a last MiB of pattern, and a dirty bitmap
// "monday" of the second MiB; and "blank", as large.
func patterned(t *testing.T) (ts *testServer, image string) {
	d := memdev.New(testSize)
	pattern := bytes.Repeat([]byte("zumastor"), 1<<17)
	for _, at := range []int64{0, 1, 2, 3, 4, 5, 6, 7, 63} {
		_, err := d.WriteAt(pattern, at<<20)
		require.NoError(t, err)
	}
	runs := func(es ...Extent) StatusFunc {
		return func(off, n int64, _ bool) (part []Extent, err error) {
			for _, e := range es {
				if rest := e.Length - off; rest > 0 {
					part = append(part, Extent{Length: rest, Flags: e.Flags})
				}
				off = max(off-e.Length, 0)
			}
			return part, nil
		}
	}
	const hole = wire.StateHole | wire.StateZero
	ts = start(t, Config{}, map[string]*Export{
		"vol": {Device: d, FastZero: true, Description: "test volume", Contexts: map[string]StatusFunc{
			wire.ContextAllocation: runs(Extent{8 << 20, 0}, Extent{55 << 20, hole}, Extent{1 << 20, 0}),
			DirtyContext("monday"): runs(Extent{1 << 20, 0}, Extent{1 << 20, wire.StateDirty}, Extent{62 << 20, 0}),
		}},
		"blank": {Device: memdev.New(testSize), FastZero: true},
		"ro":    {Device: d, ReadOnly: true},
	})
	content := make([]byte, testSize)
	_, err := d.ReadAt(content, 0)
	require.NoError(t, err)
	image = filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(image, content, 0o600))
	return ts, image
}

func TestNbdinfo(t *testing.T) {
	run := tool(t, "nbdinfo")
	ts, _ := patterned(t)
	var info struct {
		Exports []struct {
			Name        string   `json:"export-name"`
			Description string   `json:"description"`
			Contexts    []string `json:"contexts"`
			Size        int64    `json:"export-size"`
			ReadOnly    bool     `json:"is_read_only"`
			FastZero    bool     `json:"can_fast_zero"`
			MultiConn   bool     `json:"can_multi_conn"`
			Min         int      `json:"block_size_minimum"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(run("--json", "--list", ts.uri(""))), &info))
	require.Len(t, info.Exports, 3)
	ro, vol := info.Exports[1], info.Exports[2]
	require.Equal(t, "vol", vol.Name)
	require.Equal(t, []string{wire.ContextAllocation, DirtyContext("monday")}, vol.Contexts)
	require.EqualValues(t, testSize, vol.Size)
	require.Equal(t, 512, vol.Min)
	require.NoError(t, json.Unmarshal([]byte(run("--json", ts.uri("vol"))), &info))
	require.Equal(t, "test volume", info.Exports[0].Description)
	require.True(t, vol.MultiConn && vol.FastZero && !vol.ReadOnly && ro.ReadOnly)

	require.Equal(t, [][3]int64{{0, 8 << 20, 0}, {8 << 20, 55 << 20, 3}, {63 << 20, 1 << 20, 0}}, nbdMap(t, run("--map", "--json", ts.uri("vol"))))
	require.Equal(t, [][3]int64{{0, 1 << 20, 0}, {1 << 20, 1 << 20, 1}, {2 << 20, 62 << 20, 0}},
		nbdMap(t, run("--map="+DirtyContext("monday"), "--json", ts.uri("vol"))))
}

// nbdMap reads nbdinfo's map as offset, length and flags.
func nbdMap(t *testing.T, out string) (extents [][3]int64) {
	var m []struct{ Offset, Length, Type int64 }
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	for _, e := range m {
		extents = append(extents, [3]int64{e.Offset, e.Length, e.Type})
	}
	return extents
}

func TestNbdcopy(t *testing.T) {
	run := tool(t, "nbdcopy")
	ts, image := patterned(t)
	want, err := os.ReadFile(image)
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	run("--connections=4", ts.uri("vol"), out)
	requireSame(t, want, out)
	run("--connections=4", "--flush", ts.uri("vol"), ts.uri("blank"))
	run("--synchronous", ts.uri("blank"), out)
	requireSame(t, want, out)
}

func requireSame(t *testing.T, want []byte, path string) {
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "copy differs")
}

func TestQemuImg(t *testing.T) {
	run := tool(t, "qemu-img")
	ts, image := patterned(t)
	require.Contains(t, run("compare", "-f", "raw", "-F", "raw", ts.uri("vol"), image), "identical")
	out := filepath.Join(t.TempDir(), "out")
	run("convert", "-f", "raw", "-O", "qcow2", ts.uri("vol"), out)
	run("convert", "-n", "-f", "qcow2", "-O", "raw", out, ts.uri("blank"))
	require.Contains(t, run("compare", "-f", "raw", "-F", "raw", ts.uri("blank"), image), "identical")

	var m []struct {
		Start, Length int64
		Zero, Data    bool
	}
	require.NoError(t, json.Unmarshal([]byte(run("map", "--output=json", "-f", "raw", ts.uri("vol"))), &m))
	require.Len(t, m, 3)
	require.True(t, m[1].Zero && !m[1].Data && m[1].Start == 8<<20 && m[1].Length == 55<<20)

	// A dirty bitmap shows as data where it is clean, by qemu's own convention.
	bitmap := fmt.Sprintf("driver=nbd,server.type=unix,server.path=%s,export=vol,x-dirty-bitmap=%s", ts.addr, DirtyContext("monday"))
	require.NoError(t, json.Unmarshal([]byte(run("map", "--output=json", "--image-opts", bitmap)), &m))
	require.Len(t, m, 3)
	require.True(t, !m[1].Data && m[1].Start == 1<<20 && m[1].Length == 1<<20)

	for _, args := range [][]string{{}, {"-w"}, {"-w", "--flush-interval", "64"}} {
		run(append(append([]string{"bench", "-f", "raw", "-t", "none", "-c", "2000", "-d", "32", "-S", "4096"}, args...), ts.uri("blank"))...)
	}
}

func TestQemuIO(t *testing.T) {
	run := tool(t, "qemu-io")
	ts, _ := patterned(t)
	script := []string{"-f", "raw"}
	for _, c := range []string{
		"write -P 5 0 1M", "write -f -P 6 1M 64k", "read -P 5 0 1M", "read -P 6 1M 64k",
		"write -z 4k 8k", "read -P 0 4k 8k", "write -z -u 16k 8k", "read -P 0 16k 8k", "write -z -u -n 16k 8k",
		"discard 32k 64k", "flush", "write -P 7 100 50", "read -P 7 100 50", "write -P 9 60M 4M", "read -P 9 60M 4M",
		"aio_write -P 1 0 4k", "aio_write -P 2 8k 4k", "aio_read 0 64k", "aio_flush", "read -P 1 0 4k",
	} {
		script = append(script, "-c", c)
	}
	out := run(append(script, ts.uri("blank"))...)
	require.NotContains(t, out, "failed")
	require.NotContains(t, out, "Pattern verification")
}

func TestFio(t *testing.T) {
	run := tool(t, "fio")
	if !strings.Contains(run("--enghelp"), "nbd") {
		t.Skip("fio is built without the nbd engine")
	}
	ts, _ := patterned(t)
	run("--name=verify", "--ioengine=nbd", "--uri="+ts.uri("blank"), "--rw=randwrite", "--bsrange=512-64k", "--size=16M",
		"--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--fsync=64", "--trim_percentage=5", "--trim_verify_zero=0")
}

// TestTLSOfRealClients has libnbd's and qemu's TLS attach with certificates.
func TestTLSOfRealClients(t *testing.T) {
	info := tool(t, "nbdinfo")
	dir := certificateDir(t)
	server, err := LoadTLS(dir, true)
	require.NoError(t, err)
	ts := start(t, Config{TLS: server, TLSMode: TLSRequired}, map[string]*Export{"": {Device: memdev.New(testSize)}})
	uri := fmt.Sprintf("nbds+unix:///?socket=%s&tls-certificates=%s&tls-hostname=localhost", ts.addr, dir)
	require.Contains(t, info("--size", uri), fmt.Sprint(testSize))

	qemu := tool(t, "qemu-img")
	out := qemu("info", "--object", "tls-creds-x509,id=tls0,endpoint=client,dir="+dir, "--image-opts",
		fmt.Sprintf("driver=nbd,server.type=unix,server.path=%s,tls-creds=tls0,tls-hostname=localhost", ts.addr))
	require.Contains(t, out, "64 MiB")
}
