// SPDX-License-Identifier: Apache-2.0

package change

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// series draws n values a level, each spread by a relative standard deviation.
func series(seed uint64, spread float64, n int, levels ...float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 7))
	var out []float64
	for _, level := range levels {
		for range n {
			out = append(out, level*(1+spread*rng.NormFloat64()))
		}
	}
	return out
}

func indices(points []Point) []int {
	var out []int
	for _, p := range points {
		out = append(out, p.Index)
	}
	return out
}

func TestKnownChangePoints(t *testing.T) {
	outlier := series(3, 0.01, 40, 100)
	outlier[17] = 1000
	for name, tc := range map[string]struct {
		values []float64
		want   []int
	}{
		"none":              {series(1, 0.02, 40, 100), nil},
		"up":                {series(1, 0.02, 20, 100, 110), []int{20}},
		"down":              {series(2, 0.02, 20, 100, 90), []int{20}},
		"up and down":       {series(1, 0.02, 20, 100, 120, 100), []int{20, 40}},
		"a staircase":       {series(4, 0.01, 15, 100, 110, 121, 133), []int{15, 30, 45}},
		"below the effect":  {series(1, 0.005, 30, 100, 103), nil},
		"a single outlier":  {outlier, nil},
		"the last five":     {append(series(1, 0.01, 20, 100), series(2, 0.01, 5, 110)...), []int{20}},
		"too few":           {[]float64{1, 2, 3}, nil},
		"three and three":   {[]float64{1, 1, 1, 2, 2, 2}, nil}, // one of ten ways to divide them: chance
		"empty":             {nil, nil},
		"constant":          {slices.Repeat([]float64{7}, 50), nil},
		"zero, then more":   {append(make([]float64, 20), slices.Repeat([]float64{3}, 20)...), []int{20}},
		"of negative value": {series(1, 0.02, 20, -100, -120), []int{20}},
	} {
		t.Run(name, func(t *testing.T) {
			points := Detect(tc.values, Defaults())
			require.Equal(t, tc.want, indices(points), "%+v", points)
			for _, p := range points {
				require.LessOrEqual(t, p.P, Defaults().Alpha)
			}
		})
	}
}

// TestFalseAlarms draws series without a change: of noise as even as the normal
// distribution's and as uneven as the log-normal's, which has outliers. The effect is
// left out, so that the test is of the permutations alone.
func TestFalseAlarms(t *testing.T) {
	const trials = 600
	for name, noise := range map[string]func(*rand.Rand) float64{
		"normal":    func(r *rand.Rand) float64 { return 100 + r.NormFloat64() },
		"lognormal": func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) },
		"two modes": func(r *rand.Rand) float64 { return float64(100 + 20*r.IntN(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 5))
			alarms := 0
			for range trials {
				values := make([]float64, 20)
				for i := range values {
					values[i] = noise(rng)
				}
				if len(Detect(values, Options{Alpha: 0.05, Seed: rng.Uint64()})) > 0 {
					alarms++
				}
			}
			// The expected rate is 5 %; 7.7 % is three standard deviations more.
			require.Less(t, float64(alarms)/trials, 0.077)
			require.Positive(t, alarms, "a test that never alarms tests nothing")
		})
	}
}

// TestPower draws series with a change of 10 % and noise of 3 %.
func TestPower(t *testing.T) {
	const trials = 100
	found := 0
	for i := range uint64(trials) {
		points := Detect(series(i, 0.03, 12, 100, 110), Defaults())
		if len(points) == 1 && math.Abs(float64(points[0].Index-12)) <= 2 {
			found++
		}
	}
	require.GreaterOrEqual(t, found, 90)
}

// TestProperties: what is found does not depend on unit and origin of the values but
// for the effect, mirrors with them, and repeats.
func TestProperties(t *testing.T) {
	for seed := range uint64(30) {
		values := series(seed, 0.03, 8+int(seed%5), 100, 100+float64(seed%4)*8, 100)
		o := Options{Alpha: 0.01, Effect: 0, Seed: seed}
		want := indices(Detect(values, o))
		require.Equal(t, want, indices(Detect(values, o)), "repeats")
		require.True(t, slices.IsSorted(want))

		moved, mirrored := make([]float64, len(values)), make([]float64, len(values))
		for i, v := range values {
			moved[i], mirrored[i] = 1000*v, -v
		}
		require.Equal(t, want, indices(Detect(moved, o)), "of scale")
		require.Equal(t, want, indices(Detect(mirrored, o)), "of sign")
		for i, p := range Detect(values, o) {
			require.Equal(t, want[i], p.Index)
			require.True(t, p.Index >= shortest && p.Index <= len(values)-shortest)
		}
	}
}

// TestStatistic computes the energy distance of all divisions as it is defined.
func TestStatistic(t *testing.T) {
	values := []float64{3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 97}
	mean := func(a, b []float64, pairs float64) float64 {
		sum := 0.0
		for _, v := range a {
			for _, w := range b {
				sum += math.Abs(v - w)
			}
		}
		return sum / pairs
	}
	wantAt, want := 0, math.Inf(-1)
	for at := shortest; at <= len(values)-shortest; at++ {
		a, b := values[:at], values[at:]
		n, m := float64(len(a)), float64(len(b))
		q := n * m / (n + m) * (2*mean(a, b, n*m) - mean(a, a, n*(n-1)) - mean(b, b, m*(m-1)))
		if q > want {
			wantAt, want = at, q
		}
	}
	at, got := best(values)
	require.Equal(t, wantAt, at)
	require.InEpsilon(t, want, got, 1e-12)
}

func TestSteps(t *testing.T) {
	require.Empty(t, Steps(nil, 0))
	require.Empty(t, Steps([]float64{5, 5, 5}, 0))
	require.Equal(t, []Point{{Index: 1, Before: 5, After: 6}, {Index: 3, Before: 6, After: 5}}, Steps([]float64{5, 6, 6, 5}, 0))
	require.Equal(t, []Point{{Index: 1, Before: 0, After: 1}}, Steps([]float64{0, 1}, 0.001))
	// A drift in steps below the tolerance is seen when it adds up.
	require.Equal(t, []Point{{Index: 3, Before: 10000, After: 10012}}, Steps([]float64{10000, 10004, 10008, 10012, 10016}, 0.001))
	require.True(t, math.IsInf(Steps([]float64{0, 1}, 0)[0].Ratio(), 1))
	require.Equal(t, 1.0, Point{}.Ratio())
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte{1, 2, 3, 100, 101, 102, 99, 98}, uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		values := make([]float64, min(len(data), 40))
		for i := range values {
			values[i] = float64(data[i])
		}
		last := 0
		for _, p := range Detect(values, Options{Alpha: 0.05, Effect: 0.05, Seed: seed}) {
			if p.Index <= last || p.Index >= len(values) || p.P > 0.05 || relative(p) < 0.05 {
				t.Fatalf("%+v of %v", p, values)
			}
			last = p.Index
		}
	})
}

func TestEnough(t *testing.T) {
	require.False(t, Enough(0, 1))
	require.False(t, Enough(6, 0.01), "2 of 20 ways")
	require.True(t, Enough(10, 0.01), "2 of 252 ways")
	require.False(t, Enough(10, 0.001))
	clear := []float64{1, 1, 1, 1, 1, 2, 2, 2, 2, 2}
	require.Equal(t, []int{5}, indices(Detect(clear, Defaults())))
}
