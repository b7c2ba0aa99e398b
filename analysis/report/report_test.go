// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/results"
)

var keep = flag.String("keep", "", "folder to make the sample run in, for looking at it")

// maker invents a run with every experiment.
type maker struct {
	rng     *rand.Rand
	round   int
	samples []results.Sample
}

// add records a time an operation with noise of the given part, exact if modelled.
func (m *maker) add(kind results.Kind, experiment string, ns float64, conf ...string) *results.Sample {
	if kind == results.Measured {
		ns *= 1 + 0.02*m.rng.NormFloat64()
	}
	s := results.Sample{
		Experiment: experiment, Kind: kind, Round: m.round, N: 1000, Config: results.Conf(conf...),
		Values: map[string]float64{results.NsPerOp: ns, results.IOPS: 1e9 / ns, results.P50: 0.9 * ns},
	}
	m.samples = append(m.samples, s)
	return &m.samples[len(m.samples)-1]
}

func (m *maker) latency(s *results.Sample, ns float64) {
	s.Latency = results.NewLatency()
	for range 500 {
		_ = s.Latency.RecordValue(int64(ns * (0.5 + m.rng.ExpFloat64())))
	}
	s.SetPercentiles()
}

func (m *maker) measured() {
	const k = results.Measured
	for i, held := range []string{"0", "1", "4", "16", "64"} {
		m.add(k, "E1", 1e5, "variant", "raw", "snapshots", held)
		m.add(k, "E1", 2e5, "variant", "copybound", "chunk", "16384", "snapshots", held)
		m.add(k, "E1", 2.2e5+float64(i)*1e3, "variant", "inline", "chunk", "16384", "snapshots", held)
	}
	m.add(k, "E2", 2e4, "op", "firstwrite", "variant", "raw", "qd", "32")
	for i, chunk := range []string{"4096", "16384", "65536", "262144", "1048576"} {
		for j, v := range []string{"copybound", "inline", "disk"} {
			m.add(k, "E2", 5e4*float64(1+i*i)*(1+0.2*float64(j)), "op", "firstwrite", "variant", v, "chunk", chunk, "qd", "32")
		}
	}
	for i, v := range []string{"inline", "disk", "nvram", "pmem"} {
		m.add(k, "E3", []float64{101e3, 220e3, 100e3, 98e3}[i], "op", "firstwrite", "variant", v, "chunk", "65536", "qd", "32")
	}
	for _, held := range []string{"0", "64", "1000"} {
		m.add(k, "E4", 1e4, "op", "read", "variant", "raw", "qd", "32", "snapshots", held)
		m.add(k, "E4", 1.003e4, "op", "read", "variant", "inline", "qd", "32", "snapshots", held)
	}
	for i, op := range []string{"read-shared", "read-stored", "write-chunk"} {
		for _, qd := range []string{"1", "32"} {
			m.add(k, "E7", 1e4, "op", op, "variant", "raw", "chunk", "65536", "qd", qd)
			m.add(k, "E7", 1.02e4+500*float64(i), "op", op, "variant", "inline", "chunk", "65536", "qd", qd)
		}
	}
	for _, op := range []string{"firstwrite", "rewrite"} {
		for _, qd := range []string{"1", "32"} {
			m.add(k, "E8", 1e4, "op", op, "variant", "inline", "chunk", "65536", "qd", qd)
			m.add(k, "E8", 1.01e4, "op", op, "variant", "inline-server", "chunk", "65536", "qd", qd)
		}
	}
	m.add(k, "E9", 1e10, "exceptions", "10000000", "op", "check", "snapshots", "1000").Values[goals.PeakBytes] = 1e8
	m.add(k, "E9", 5e8, "exceptions", "10000000", "op", "recovery", "snapshots", "1000")
	m.add(k, "E9", 1e4, "exceptions", "10000000", "op", "foreground", "snapshots", "1000", "deleting", "no")
	m.add(k, "E9", 1.01e4, "exceptions", "10000000", "op", "foreground", "snapshots", "1000", "deleting", "yes").Values[goals.FreedPerSecond] = 1200
	for _, held := range []string{"100", "1000"} {
		m.add(k, "E9", 5e8, "exceptions", "10000000", "op", "delete", "snapshots", held).Values[goals.FreedExceptions] = 1e5
	}
	for _, op := range []string{"resize-the-origin", "resize-the-store", "revert", "merge", "delete", "delete-recursively", "drop", "squash", "group-snapshot"} {
		m.add(k, "E10", 1e7, "op", op).Values[goals.Crashes] = 1200
	}
	killed := m.add(k, "E11", 1e8, "op", "kill", "snapshots", "10").Values
	killed[goals.Kills], killed[goals.FailedRequests], killed[goals.WrongContents] = 50, 0, 0
	for i, held := range []string{"1", "10", "100", "1000", "10000"} {
		m.add(k, "E5", 1e6+float64(i)*3e4, "op", "create", "variant", "inline", "snapshots", held).Values[goals.BeyondFlush] = 2e5
		s := m.add(k, "E5", 1e5, "op", "firstwrite", "variant", "inline", "snapshots", held)
		s.Values[results.BytesPerException], s.Values[goals.CacheUse] = 11.5, 0.8
		m.add(k, "E5", 4e4+float64(i)*2e3, "op", "read", "variant", "inline", "snapshots", held)
		m.add(k, "E5", 5e6, "op", "delete", "variant", "inline", "snapshots", held)
	}
	for _, qd := range []string{"1", "4", "32"} {
		for i, v := range []string{"raw", "copybound", "inline"} {
			conf := []string{"op", "firstwrite", "variant", v, "qd", qd}
			if v == "inline" {
				conf = append(conf, "chunk", "65536")
			}
			ns := []float64{2e4, 9e4, 10.5e4}[i]
			m.latency(m.add(k, "E6", ns, conf...), ns)
			conf[1] = "rewrite"
			s := m.add(k, "E6", 2e4+float64(i)*200, conf...)
			s.Values[results.AllocsPerOp] = 0
			m.latency(s, 2e4)
		}
	}
	for _, op := range []string{"firstwrite", "rewrite"} {
		m.add(k, "PEER", 9e4, "op", op, "variant", "inline", "qd", "32")
		m.add(k, "PEER", 1.2e5, "op", op, "variant", "qcow2", "qd", "32")
	}
}

func (m *maker) modelled() {
	const k = results.Modelled
	for i, held := range []string{"0", "1", "4", "16", "64"} {
		m.add(k, "E1", 1e7, "variant", "raw", "snapshots", held, "model", "hdd")
		m.add(k, "E1", 3.05e7, "variant", "inline", "chunk", "16384", "snapshots", held, "model", "hdd")
		m.add(k, "E1", 6e7+1e6*float64(i), "variant", "disk", "chunk", "16384", "snapshots", held, "model", "hdd")
	}
	for i, model := range []string{"hdd", "ssd", "nvme"} {
		for j, v := range []string{"inline", "disk", "nvram", "pmem"} {
			ns := 1e7 / []float64{1, 20, 100}[i] * []float64{1.02, 2.5 - 0.5*float64(i), 1, 0.99}[j]
			m.add(k, "E3", ns, "op", "firstwrite", "variant", v, "chunk", "65536", "qd", "32", "model", model)
		}
	}
}

func sampleRun(t *testing.T, rounds int) *results.Run {
	t.Helper()
	root := *keep
	if root == "" {
		root = t.TempDir()
	}
	run, err := results.Create(root, results.Manifest{
		Suite: "quick", Settings: map[string]string{"chunks": "4096,65536"}, Warnings: []string{"no O_DIRECT here"},
		ID: fmt.Sprintf("sample-%s", strings.ToLower(t.Name()[4:])), Start: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
	})
	require.NoError(t, err)
	m := &maker{rng: rand.New(rand.NewPCG(1, 2))}
	for m.round = range rounds {
		m.measured()
	}
	if rounds > 0 {
		m.round = 0
		m.modelled()
	}
	require.NoError(t, run.Append(m.samples...))
	require.NoError(t, run.SetEnvironment(results.Environment{
		Kernel: "Linux 6.12", CPU: `A "fast" <CPU>`, CPUs: 2, Go: "go1.26", MemoryBytes: 8 << 30, LoadStart: "0.1 0.2 0.3",
		Storage: results.Storage{FileSystem: "ext4", Direct: true}, Tools: map[string]string{"fio": "fio-3.33"},
	}))
	return run
}

func read(t *testing.T, run *results.Run, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(run.Dir(), name))
	require.NoError(t, err)
	return string(data)
}

func TestReport(t *testing.T) {
	run := sampleRun(t, 6)
	require.NoError(t, Write(run))
	html := read(t, run, File)
	require.Empty(t, regexp.MustCompile(`(src|href|url|import)\s*[=(]\s*["']?(https?:)?//`).FindAllString(html, -1), "no request leaves the page")
	require.NotContains(t, html, "ZgotmplZ", "template refused a value")
	require.NotContains(t, html, "NaN")
	require.Contains(t, html, "&lt;CPU&gt;")
	require.Contains(t, html, "prefers-color-scheme: dark")
	wellFormed(t, html)
	require.NotContains(t, read(t, run, "figures/e1-nsnaps-chunk16384-measured.svg"), "3.2x", "no modelled goal in a measured figure")
	require.Contains(t, read(t, run, "figures/e1-nsnaps-chunk16384-modelhdd-modelled.svg"), "3.2x")
	measured, modelled, found := strings.Cut(html, "<h2>Modelled</h2>")
	require.True(t, found)
	for _, e := range []string{"E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "PEER"} {
		require.Contains(t, measured, "<h3>"+e+" ·", "section %s", e)
	}
	require.Contains(t, modelled, "<h3>E3 ·")
	require.NotContains(t, modelled, "<h3>E6 ·")
	for _, name := range []string{"figures/e2-chunk-qd32-measured.svg", "figures/e3-placement-chunk65536-modelled.png",
		"figures/e6-latency-firstwrite-qd32-measured.svg", "tables/e1-nsnaps-chunk16384-modelhdd-modelled.md"} {
		require.NotEmpty(t, read(t, run, name))
	}
	var s goals.Summary
	require.NoError(t, run.ReadJSON(results.SummaryFile, &s))
	require.Len(t, s.Goals, len(goals.All()))
	for _, r := range s.Goals { // those of the kernel's targets, of deltas and of the gate are of runs of their own, that of probes needs root
		elsewhere := strings.HasPrefix(r.Name, "dm-") || strings.HasPrefix(r.Name, "delta-") || strings.HasPrefix(r.Name, "changelist") || strings.HasPrefix(r.Name, "replication-") || strings.HasPrefix(r.Name, "gate-") || strings.HasPrefix(r.Name, "probe-")
		require.Equal(t, elsewhere, r.Status == goals.NotMeasured, r.Name)
	}
}

// wellFormed checks that all elements are closed, in order.
func wellFormed(t *testing.T, html string) {
	t.Helper()
	html = regexp.MustCompile(`(?s)<script>.*?</script>`).ReplaceAllString(html, "") // HTML does not parse what is in it
	d := xml.NewDecoder(strings.NewReader(html))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "img"}, xml.HTMLEntity
	depth := 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			require.Zero(t, depth)
			return
		}
		require.NoError(t, err)
		switch tok.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}
}

func TestEnvironmentSaysWhoseRevision(t *testing.T) {
	e := results.Environment{Commit: "abc"}
	require.Contains(t, properties(e), property{"Commit", "abc"})
	e.RevisionSource = results.FromWorktree
	require.Contains(t, properties(e), property{"Commit", e.Revision()})
	require.NotEqual(t, "abc", e.Revision())
}

func TestReportOfNothing(t *testing.T) {
	run := sampleRun(t, 0)
	require.NoError(t, Write(run))
	html := read(t, run, File)
	require.Contains(t, html, "<b>0</b> goals met")
	require.Contains(t, html, "not measured")
	require.NotContains(t, html, "<h2>Measured</h2>")
}

func TestReportSaysWhatItCannotShow(t *testing.T) {
	run := sampleRun(t, 0)
	mixed := (&maker{rng: rand.New(rand.NewPCG(1, 2))})
	mixed.add(results.Measured, "E6", 1, "op", "rewrite", "variant", "inline", "qd", "1", "chunk", "4096")
	mixed.add(results.Measured, "E6", 1, "op", "rewrite", "variant", "inline", "qd", "1", "chunk", "65536")
	require.NoError(t, run.Append(mixed.samples...))
	require.NoError(t, Write(run))
	html := read(t, run, File)
	require.Contains(t, html, "one point has samples of several settings")
	require.NoError(t, Write(run))
	require.Equal(t, html, read(t, run, File), "the same record gives the same report")
}

func TestReportOfTheKernelTarget(t *testing.T) {
	run := sampleRun(t, 0)
	m := &maker{rng: rand.New(rand.NewPCG(1, 2))}
	for m.round = range 6 {
		for _, v := range []string{"snapshot", "ddsnap", "ublk"} {
			for _, n := range []string{"1", "4"} {
				m.add(results.Measured, "LAB", 100, "op", "firstwrite", "variant", v, "snapshots", n, "device", "ssd", "engine", "libaio", "qd", "1")
			}
		}
		for _, v := range []string{"linear", "ddsnap"} {
			m.add(results.Measured, "LAB", 100, "op", "rewrite", "variant", v, "device", "brd", "engine", "io_uring", "qd", "16")
			m.add(results.Measured, "LAB", 100, "op", "nsnaps", "variant", v, "device", "hdd")
		}
	}
	require.NoError(t, run.Append(m.samples...))
	require.NoError(t, Write(run))
	html := read(t, run, File)
	require.Contains(t, html, "<h3>LAB ·")
	require.NotRegexp(t, "warnings?</summary>", html)
	require.NotEmpty(t, read(t, run, "figures/lab-rewrite-qd16-measured.svg"))
	table := read(t, run, "tables/lab-firstwrite-devicessd-qd1-measured.txt")
	require.Contains(t, table, "ddsnap")
	require.Contains(t, table, "ublk")
	wellFormed(t, html)
}
