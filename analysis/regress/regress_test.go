// SPDX-License-Identifier: Apache-2.0

package regress

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

func set(t *testing.T, kind results.Kind, unit string, values map[string][]float64) results.Set {
	t.Helper()
	var all []results.Sample
	for _, op := range []string{"read", "write", "rewrite"} {
		for round, v := range values[op] {
			all = append(all, results.Sample{
				Experiment: "E6", Kind: kind, Round: round, N: 1,
				Config: results.Conf("op", op), Values: map[string]float64{unit: v},
			})
		}
	}
	s, err := results.NewSet(kind, all...)
	require.NoError(t, err)
	return s
}

func TestMeasuredVerdicts(t *testing.T) {
	base := []float64{100, 101, 99, 100.5, 99.5, 100.2}
	scale := func(f float64) []float64 {
		out := make([]float64, len(base))
		for i, v := range base {
			out[i] = v * f
		}
		return out
	}
	for name, tc := range map[string]struct {
		unit string
		new  []float64
		want Verdict
	}{
		"slower":            {results.NsPerOp, scale(1.2), Worse},
		"faster":            {results.NsPerOp, scale(0.8), Better},
		"lower rate":        {results.IOPS, scale(0.8), Worse},
		"higher rate":       {results.IOPS, scale(1.2), Better},
		"equal":             {results.NsPerOp, scale(1), Same},
		"real but small":    {results.NsPerOp, scale(1.03), Same},
		"too noisy":         {results.NsPerOp, []float64{60, 150, 100, 90, 130, 70}, Unknown},
		"too few to decide": {results.NsPerOp, []float64{150, 151}, Unknown},
		"just enough":       {results.NsPerOp, []float64{150, 151, 149}, Worse},
		"one":               {results.NsPerOp, []float64{150}, Unknown},
		"all zero":          {results.NsPerOp, []float64{0, 0, 0}, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			old := set(t, results.Measured, tc.unit, map[string][]float64{"read": base})
			r, err := Compare(old, set(t, results.Measured, tc.unit, map[string][]float64{"read": tc.new}), tc.unit, Defaults())
			require.NoError(t, err)
			require.Len(t, r.Rows, 1)
			require.Equal(t, tc.want, r.Rows[0].Verdict, "%+v", r.Rows[0])
			require.Equal(t, tc.want == Worse, len(r.Worse()) == 1)
		})
	}
}

func TestModelledComparesExactly(t *testing.T) {
	old := set(t, results.Modelled, results.NsPerOp, map[string][]float64{"read": {100}, "write": {100}, "rewrite": {5, 5}})
	new := set(t, results.Modelled, results.NsPerOp, map[string][]float64{"read": {100}, "write": {100.0001}, "rewrite": {4, 5}})
	r, err := Compare(old, new, results.NsPerOp, Defaults())
	require.NoError(t, err)
	require.Equal(t, []Verdict{Same, Worse, Unknown}, []Verdict{r.Rows[0].Verdict, r.Rows[1].Verdict, r.Rows[2].Verdict})
}

func TestKindsDoNotMix(t *testing.T) {
	a := set(t, results.Modelled, results.NsPerOp, map[string][]float64{"read": {1}})
	b := set(t, results.Measured, results.NsPerOp, map[string][]float64{"read": {1}})
	_, err := Compare(a, b, results.NsPerOp, Defaults())
	require.ErrorIs(t, err, results.ErrKind)
}

func TestMissingSettingsAreNamed(t *testing.T) {
	old := set(t, results.Measured, results.NsPerOp, map[string][]float64{"read": {1}, "write": {1}})
	new := set(t, results.Measured, results.NsPerOp, map[string][]float64{"read": {1}, "rewrite": {1}})
	r, err := Compare(old, new, results.NsPerOp, Defaults())
	require.NoError(t, err)
	require.Equal(t, []string{"E6/op=write"}, r.OnlyOld)
	require.Equal(t, []string{"E6/op=rewrite"}, r.OnlyNew)
}
