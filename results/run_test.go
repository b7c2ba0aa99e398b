// SPDX-License-Identifier: Apache-2.0

package results

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func create(t *testing.T) *Run {
	t.Helper()
	r, err := Create(t.TempDir(), Manifest{Suite: "quick", Settings: map[string]string{"chunks": "65536"}})
	require.NoError(t, err)
	return r
}

func withLatency(round int, ns ...int64) Sample {
	s := sample(func(s *Sample) { s.Round = round; s.Latency = NewLatency() })
	for _, v := range ns {
		_ = s.Latency.RecordValue(v)
	}
	return s
}

func TestRunSurvivesReopening(t *testing.T) {
	r := create(t)
	require.NoError(t, r.SetEnvironment(Environment{Kernel: "Linux 6.12", CPUs: 2}))
	require.NoError(t, r.Append(withLatency(0, 1000, 2000), sample(func(s *Sample) { s.Kind = Modelled })))
	require.NoError(t, r.Append(withLatency(1, 5000)))
	require.NoError(t, r.Complete("E6"))
	require.NoError(t, r.Complete("E6"))
	require.NoError(t, r.Warn("no O_DIRECT"))
	require.NoError(t, r.Warn("no O_DIRECT"))

	again, err := Open(r.Dir())
	require.NoError(t, err)
	require.Equal(t, r.Manifest(), again.Manifest())
	require.Equal(t, []string{"E6"}, again.Manifest().Completed)
	require.Equal(t, []string{"no O_DIRECT"}, again.Manifest().Warnings)
	require.True(t, again.Manifest().End.IsZero())
	require.Equal(t, 2, again.Measured().Len())
	require.Equal(t, 1, again.Modelled().Len())
	require.Equal(t, 2, again.Rounds("E6"))
	var counts []int64
	for s := range again.Measured().All() {
		counts = append(counts, s.Latency.TotalCount())
	}
	require.Equal(t, []int64{2, 1}, counts)
	env, err := again.Environment()
	require.NoError(t, err)
	require.Equal(t, 2, env.CPUs)

	require.NoError(t, again.Finish())
	last, err := Open(r.Dir())
	require.NoError(t, err)
	require.False(t, last.Manifest().End.IsZero())
}

// Samples of a series that is measured again take the place of what there was; others stay.
func TestSupersede(t *testing.T) {
	other := func(s *Sample) { s.Experiment = "E7" }
	r := create(t)
	require.NoError(t, r.Append(sample(), sample(func(s *Sample) { s.Round = 1 }), sample(other)))
	require.ErrorIs(t, r.Supersede(sample(func(s *Sample) { s.N = 0 })), ErrSample)
	require.Equal(t, 2, r.Rounds("E6"))
	require.NoError(t, r.Supersede(sample()))
	again, err := Open(r.Dir())
	require.NoError(t, err)
	require.Equal(t, 1, again.Rounds("E6"))
	require.Equal(t, 1, again.Rounds("E7"))
}

func TestAppendIsAllOrNothing(t *testing.T) {
	r := create(t)
	require.NoError(t, r.Append(sample()))
	require.ErrorIs(t, r.Append(sample(), sample(func(s *Sample) { s.N = 0 })), ErrSample)
	require.Equal(t, 1, r.Measured().Len())
	again, err := Open(r.Dir())
	require.NoError(t, err)
	require.Equal(t, 1, again.Measured().Len())
	leftovers, err := filepath.Glob(filepath.Join(r.Dir(), ".*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

// A crash between the two files of an Append leaves histograms without samples.
func TestHistogramsWithoutSamplesAreIgnored(t *testing.T) {
	r := create(t)
	require.NoError(t, r.Append(sample()))
	packed, err := encodeHistograms([]Sample{withLatency(7, 1000)})
	require.NoError(t, err)
	require.NoError(t, r.WriteFile(histogramsFile, packed))
	again, err := Open(r.Dir())
	require.NoError(t, err)
	require.Equal(t, 1, again.Measured().Len())
}

func TestLatestAndFind(t *testing.T) {
	root := t.TempDir()
	start := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	a, err := Create(root, Manifest{Suite: "smoke", Start: start})
	require.NoError(t, err)
	require.Equal(t, "20261122-130000-smoke", a.Manifest().ID)
	b, err := Create(root, Manifest{ID: "b", Suite: "smoke"})
	require.NoError(t, err)
	for name, want := range map[string]*Run{"": b, "latest": b, "b": b, a.Manifest().ID: a, a.Dir(): a} {
		dir, err := Find(root, name)
		require.NoError(t, err, name)
		got, err := Open(dir)
		require.NoError(t, err)
		require.Equal(t, want.Manifest().ID, got.Manifest().ID)
	}
	_, err = Find(root, "c")
	require.ErrorContains(t, err, `run "c"`)
	for _, id := range []string{"b", "latest", "../b", "a/b", ".b"} {
		_, err = Create(root, Manifest{ID: id})
		require.Error(t, err, id)
	}
	target, err := os.Readlink(filepath.Join(root, Latest))
	require.NoError(t, err)
	require.Equal(t, "b", target)
}

func TestOpenRefusesDamage(t *testing.T) {
	for name, tc := range map[string]struct{ file, content string }{
		"manifest":     {manifestFile, "{"},
		"version":      {manifestFile, `{"format": 99}`},
		"samples":      {samplesFile, "BenchmarkE1 x\n"},
		"histograms":   {histogramsFile, "not zstd"},
		"no histogram": {histogramsFile, "\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00\x7b"},
	} {
		t.Run(name, func(t *testing.T) {
			r := create(t)
			require.NoError(t, r.Append(withLatency(0, 1000)))
			require.NoError(t, os.WriteFile(filepath.Join(r.Dir(), tc.file), []byte(tc.content), 0o644))
			_, err := Open(r.Dir())
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}

func TestWriteFileStaysInside(t *testing.T) {
	r := create(t)
	require.NoError(t, r.WriteFile("figures/e6.svg", []byte("<svg/>")))
	require.Error(t, r.WriteFile("../e6.svg", nil))
	require.Error(t, r.WriteFile("/e6.svg", nil))
}

func FuzzDecodeHistograms(f *testing.F) {
	packed, err := encodeHistograms([]Sample{withLatency(0, 1000, 50_000)})
	require.NoError(f, err)
	f.Add(packed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeHistograms(data); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

func FuzzDecodeHistogram(f *testing.F) {
	text, err := withLatency(0, 1000, 50_000).Latency.EncodeV2()
	require.NoError(f, err)
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := decodeHistogram(text); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

// Two runs that began in the same second had the same name, and the second failed.
func TestRunsOfOneSecondHaveTheirOwnNames(t *testing.T) {
	root := t.TempDir()
	m := Manifest{Suite: "smoke", Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for _, want := range []string{"20260102-030405-smoke", "20260102-030405-smoke-2", "20260102-030405-smoke-3"} {
		r, err := Create(root, m)
		require.NoError(t, err)
		require.Equal(t, want, r.Manifest().ID)
	}
	m.ID = "20260102-030405-smoke"
	_, err := Create(root, m)
	require.ErrorIs(t, err, fs.ErrExist, "a name that was asked for is not changed")
}
