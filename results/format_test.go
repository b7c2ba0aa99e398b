// SPDX-License-Identifier: Apache-2.0

package results

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func sample(mutate ...func(*Sample)) Sample {
	s := Sample{
		Experiment: "E6", Kind: Measured, N: 1000,
		Config: Conf("op", "firstwrite", "variant", "inline", "chunk", "65536", "qd", "32"),
		Values: map[string]float64{NsPerOp: 1234.5, IOPS: 810044.6, P99: 99000},
	}
	for _, m := range mutate {
		m(&s)
	}
	return s
}

func TestFormatIsTheGoBenchmarkFormat(t *testing.T) {
	var b bytes.Buffer
	second := sample(func(s *Sample) { s.Round = 1; s.Values = map[string]float64{MBPerSec: 12.5} })
	model := sample(func(s *Sample) { s.Kind = Modelled; s.Config = s.Config.With("model", "hdd") })
	require.NoError(t, WriteSamples(&b, []Pair{{"goos", "linux"}}, []Sample{sample(), second, model}))
	require.Equal(t, `Unit IOPS better=higher
Unit MB/s better=higher
# round 0
goos: linux
experiment: E6
kind: measured

BenchmarkE6/op=firstwrite/variant=inline/chunk=65536/qd=32 1000 1234.5 ns/op 810044.6 IOPS 99000 p99-ns
# round 1
BenchmarkE6/op=firstwrite/variant=inline/chunk=65536/qd=32 1000 12.5 MB/s
# round 0

kind: modelled

BenchmarkE6/op=firstwrite/variant=inline/chunk=65536/qd=32/model=hdd 1000 1234.5 ns/op 810044.6 IOPS 99000 p99-ns
`, b.String())
}

func TestFormatRoundTrip(t *testing.T) {
	word := rapid.StringMatching(`[a-z0-9._+]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		var in []Sample
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			s := Sample{
				Experiment: rapid.StringMatching(`[A-Z][a-z0-9]{0,4}`).Draw(t, "experiment"),
				Kind:       rapid.SampledFrom([]Kind{Measured, Modelled}).Draw(t, "kind"),
				Round:      rapid.IntRange(0, 9).Draw(t, "round"),
				N:          rapid.IntRange(1, math.MaxInt32).Draw(t, "iterations"),
				Values: rapid.MapOfN(rapid.SampledFrom([]string{NsPerOp, IOPS, MBPerSec, P99, "B/exception", "ns"}),
					rapid.Float64Range(-1e18, 1e18), 1, 6).Draw(t, "values"),
			}
			for _, key := range rapid.SliceOfNDistinct(word, 0, 4, rapid.ID).Draw(t, "keys") {
				s.Config = append(s.Config, Pair{key, word.Draw(t, "value")})
			}
			if s.Validate() == nil {
				in = append(in, s)
			}
		}
		var b bytes.Buffer
		require.NoError(t, WriteSamples(&b, nil, in))
		out, err := ReadSamples(b.Bytes(), "samples.txt")
		require.NoError(t, err)
		require.Equal(t, in, out)
	})
}

func TestValidateRefuses(t *testing.T) {
	for name, m := range map[string]func(*Sample){
		"no kind":                 func(s *Sample) { s.Kind = "" },
		"lower-case experiment":   func(s *Sample) { s.Experiment = "e6" },
		"no experiment":           func(s *Sample) { s.Experiment = "" },
		"space in experiment":     func(s *Sample) { s.Experiment = "E 6" },
		"negative round":          func(s *Sample) { s.Round = -1 },
		"no operations":           func(s *Sample) { s.N = 0 },
		"no values":               func(s *Sample) { s.Values = nil },
		"not a number":            func(s *Sample) { s.Values[IOPS] = math.NaN() },
		"infinite":                func(s *Sample) { s.Values[IOPS] = math.Inf(1) },
		"unit with space":         func(s *Sample) { s.Values["ns op"] = 1 },
		"slash in value":          func(s *Sample) { s.Config = s.Config.With("file", "a/b") },
		"line feed in value":      func(s *Sample) { s.Config = s.Config.With("file", "a\nb") },
		"empty value":             func(s *Sample) { s.Config = s.Config.With("file", "") },
		"key twice":               func(s *Sample) { s.Config = append(s.Config, Pair{"op", "read"}) },
		"reserved key":            func(s *Sample) { s.Config = s.Config.With("experiment", "E1") },
		"name ends as GOMAXPROCS": func(s *Sample) { s.Config = s.Config.With("trace", "linux-6") },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, sample().Validate())
			require.ErrorIs(t, sample(m).Validate(), ErrSample)
		})
	}
}

func TestReadSamplesNamesTheBadLine(t *testing.T) {
	const head = "kind: measured\n"
	for name, tc := range map[string]struct{ text, want string }{
		"no unit":     {head + "BenchmarkE1/a=b 1 2\n", "samples.txt:2"},
		"no kind":     {"BenchmarkE1/a=b 1 2 ns/op\n", "neither measured nor modelled"},
		"bad name":    {head + "BenchmarkE1/a 1 2 ns/op\n", "not key=value"},
		"round":       {head + "# round x\n", "samples.txt:2"},
		"not finite":  {head + "BenchmarkE1/a=b 1 NaN ns/op\n", "not finite"},
		"unit twice":  {head + "BenchmarkE1/a=b 1 2 ns/op 3 ns/op\n", "twice"},
		"long line":   {head + "BenchmarkE1/a=" + strings.Repeat("b", 1<<17) + " 1 2 ns/op\n", "too long"},
		"no sample N": {head + "BenchmarkE1/a=b 0 2 ns/op\n", "must be positive"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadSamples([]byte(tc.text), "samples.txt")
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func FuzzReadSamples(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, WriteSamples(&b, []Pair{{"goos", "linux"}}, []Sample{sample(), sample(func(s *Sample) { s.Round = 3 })}))
	f.Add(b.Bytes())
	f.Add([]byte("kind: modelled\n# round 7\nBenchmarkE1 1 0 ns/op -1e300 MB/s\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		samples, err := ReadSamples(data, "fuzz")
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		var text bytes.Buffer
		require.NoError(t, WriteSamples(&text, nil, samples))
		again, err := ReadSamples(text.Bytes(), "again")
		require.NoError(t, err)
		require.Equal(t, samples, again)
	})
}

func TestSetHoldsOneKind(t *testing.T) {
	model := sample(func(s *Sample) { s.Kind = Modelled })
	_, err := NewSet(Measured, sample(), model)
	require.ErrorIs(t, err, ErrKind)
	set, err := NewSet(Modelled, model)
	require.NoError(t, err)
	require.Equal(t, Modelled, set.Kind())
	require.Equal(t, Modelled, set.Filter(func(Sample) bool { return false }).Kind())
}

func TestHigherIsBetter(t *testing.T) {
	for unit, want := range map[string]bool{NsPerOp: false, IOPS: true, MBPerSec: true, P99: false, AllocsPerOp: false, "B/s": true, "of-xdelta3-speed": true, "kills": true, "records": false} {
		require.Equal(t, want, HigherIsBetter(unit), unit)
	}
}

func TestPercentiles(t *testing.T) {
	s := sample(func(s *Sample) { s.Latency = NewLatency(); s.Values = nil })
	s.SetPercentiles()
	require.Empty(t, s.Values)
	for i := range int64(1000) {
		require.NoError(t, s.Latency.RecordValue((i+1)*1000))
	}
	s.SetPercentiles()
	require.InEpsilon(t, 500_000, s.Values[P50], 0.01)
	require.InEpsilon(t, 990_000, s.Values[P99], 0.01)
	require.InEpsilon(t, 999_000, s.Values[P999], 0.01)
}
