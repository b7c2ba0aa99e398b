// SPDX-License-Identifier: Apache-2.0

package fio_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/fio"
)

// TestParseRecordedOutput reads what fio 3.33 wrote about a randrw job with
// fsync over NBD.
func TestParseRecordedOutput(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "mixed.json"))
	require.NoError(t, err)
	defer f.Close()
	r, err := fio.Parse(f)
	require.NoError(t, err)
	require.Equal(t, int64(1018), r.ByKind[workloads.Read].Ops)
	require.Equal(t, int64(4169728), r.ByKind[workloads.Read].Bytes)
	require.Equal(t, int64(1030), r.ByKind[workloads.Write].Ops)
	require.Equal(t, int64(4218880), r.ByKind[workloads.Write].Bytes)
	require.Equal(t, int64(100), r.ByKind[workloads.Flush].Ops)
	require.Equal(t, 26*time.Millisecond, r.Elapsed)
	reads := r.ByKind[workloads.Read].Latency
	require.Equal(t, int64(1018), reads.TotalCount())
	require.InEpsilon(t, 81956, reads.Mean(), 0.02, "fio's own mean")
	require.InEpsilon(t, 4143393, reads.Max(), 0.02, "fio's own maximum")
}

func TestParseRefuses(t *testing.T) {
	for text, complaint := range map[string]string{
		"":                                      "reading fio's output",
		"fio: no such file":                     "reading fio's output",
		`{"jobs": []}`:                          "no jobs",
		`{"jobs": [{"jobname":"x","error":5}]}`: "x ended with error 5",
		`{"jobs": [{"jobname":"x","read":{"total_ios":3}}]}`:                                               "no latency bins",
		`{"jobs": [{"jobname":"x","write":{"total_ios":-3}}]}`:                                             "-3 ops",
		`{"jobs": [{"jobname":"x","read":{"total_ios":3,"clat_ns":{"bins":{"soon":3}}}}]}`:                 `bin "soon"`,
		`{"jobs": [{"jobname":"x","read":{"total_ios":3,"clat_ns":{"bins":{"99":-1}}}}]}`:                  "count -1",
		`{"jobs": [{"jobname":"x","read":{"total_ios":1,"clat_ns":{"bins":{"99999999999999999999":1}}}}]}`: "latency bin",
	} {
		_, err := fio.Parse(strings.NewReader(text))
		require.ErrorContains(t, err, complaint, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jobs":[{"jobname":"x","job_runtime":5,"read":{"total_ios":3,"io_bytes":1536,"clat_ns":{"bins":{"99":3}}}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := fio.Parse(bytes.NewReader(b)); err == nil {
			require.GreaterOrEqual(t, r.Ops(), int64(0))
		}
	})
}

func TestJobFile(t *testing.T) {
	j := fio.Job{Name: "mix-1", RW: "randrw", BlockSize: 4096, Depth: 8, Range: 1 << 20, Seed: 7, Reads: 70, SyncEvery: 16, Runtime: 1500 * time.Millisecond}
	text, err := j.File(fio.UnixURI("/run/a b.sock", "vol"))
	require.NoError(t, err)
	require.Equal(t, `[mix-1]
ioengine=nbd
uri=nbd+unix:///vol?socket=%2Frun%2Fa%20b.sock
rw=randrw
bs=4096
iodepth=8
size=1048576
randseed=7
rwmixread=70
fsync=16
time_based=1
runtime=1500ms
`, text)
}

func TestJobRefuses(t *testing.T) {
	good := fio.Job{Name: "x", RW: "read", BlockSize: 4096, Depth: 1, Range: 1 << 20}
	for complaint, spoil := range map[string]func(*fio.Job){
		"job name":        func(j *fio.Job) { j.Name = "x]\nioengine=sync" },
		"unknown pattern": func(j *fio.Job) { j.RW = "read write" },
		"block size":      func(j *fio.Job) { j.BlockSize = 1 << 21 },
		"queue depth 0":   func(j *fio.Job) { j.Depth = 0 },
		"101 % reads":     func(j *fio.Job) { j.Reads = 101 },
	} {
		j := good
		spoil(&j)
		_, err := j.File("nbd://localhost")
		require.ErrorContains(t, err, complaint)
	}
	_, err := good.File("nbd://localhost\nrw=write")
	require.ErrorContains(t, err, "line breaks")
}

// TestRunOverNBD issues the standard jobs to nbdkit's memory export.
func TestRunOverNBD(t *testing.T) {
	if err := fio.Supported(t.Context()); err != nil {
		t.Skip(err)
	}
	const size = 4 << 20
	uri := serveMemory(t, size)
	for _, j := range fio.Standard(size, 4096, 4) {
		r, err := fio.Run(t.Context(), uri, j)
		require.NoError(t, err, j.Name)
		kind := workloads.Write
		if strings.Contains(j.RW, "read") {
			kind = workloads.Read
		}
		require.Equal(t, int64(size), r.ByKind[kind].Bytes, j.Name)
		require.Equal(t, size/j.BlockSize, r.ByKind[kind].Ops, j.Name)
		require.Equal(t, r.ByKind[kind].Ops, r.ByKind[kind].Latency.TotalCount())
	}
}

func TestRunTellsWhatFioSaid(t *testing.T) {
	if err := fio.Supported(t.Context()); err != nil {
		t.Skip(err)
	}
	r, err := fio.Run(t.Context(), fio.UnixURI(filepath.Join(t.TempDir(), "nobody"), ""), fio.Standard(1<<20, 4096, 1)[0])
	require.ErrorContains(t, err, "nbd_connect")
	require.Equal(t, apply.Result{}, r)
}

// serveMemory exports size bytes of memory until the test ends.
func serveMemory(t *testing.T, size int64) (uri string) {
	t.Helper()
	nbdkit, err := exec.LookPath("nbdkit")
	if err != nil {
		t.Skip("needs an NBD server: nbdkit is not installed")
	}
	dir := t.TempDir()
	socket, pid := filepath.Join(dir, "s"), filepath.Join(dir, "pid")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, nbdkit, "-f", "-U", socket, "-P", pid, "memory", strconv.FormatInt(size, 10))
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	require.Eventually(t, func() bool { _, err := os.Stat(pid); return err == nil }, 10*time.Second, 10*time.Millisecond)
	return fio.UnixURI(socket, "")
}
