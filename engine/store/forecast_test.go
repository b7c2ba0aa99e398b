// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRate(t *testing.T) {
	const second = int64(time.Second)
	steady := func(from, until int64, each float64) *rate {
		r := newRate(from)
		for now := from + second; now <= until; now += second {
			r.add(now, each)
		}
		return &r
	}
	t.Run("nothing was taken", func(t *testing.T) {
		r := newRate(7)
		for _, now := range []int64{-5, 0, 7, 8, 7 + second, math.MaxInt64} {
			require.Zero(t, r.perSecond(now), now)
		}
	})
	t.Run("a steady rate is known early and late", func(t *testing.T) {
		for _, until := range []int64{60, 600, 3600, 10 * 3600} {
			r := steady(1e18, 1e18+until*second, 100)
			require.InEpsilon(t, 100, r.perSecond(1e18+until*second), 0.02, until)
		}
	})
	t.Run("at once", func(t *testing.T) {
		r := newRate(0)
		r.add(0, 50)
		require.InEpsilon(t, 5, r.perSecond(0), 0.02, "as if it had taken ten seconds")
	})
	t.Run("the last minutes count when they are busier", func(t *testing.T) {
		r := steady(0, 3600*second, 1)
		for now := 3601 * second; now <= 4200*second; now += second {
			r.add(now, 100)
		}
		require.Greater(t, r.perSecond(4200*second), 80.0)
	})
	t.Run("and the hour when they are not", func(t *testing.T) {
		r := steady(0, 3600*second, 100)
		all, since := 1-math.Exp(-1.0), 1-math.Exp(-7.0/6)
		require.InEpsilon(t, 100*math.Exp(-1.0/6)*all/since, r.perSecond(4200*second), 0.02)
		require.Less(t, r.perSecond(24*3600*second), 1.0)
	})
	t.Run("a clock that is set back", func(t *testing.T) {
		r := steady(1000*second, 2000*second, 10)
		want := r.perSecond(2000 * second)
		require.Equal(t, want, r.perSecond(0))
		r.add(500*second, 10)
		require.InEpsilon(t, want, r.perSecond(500*second), 0.02)
	})
	t.Run("a clock that is set far ahead", func(t *testing.T) {
		r := steady(0, 100*second, 10)
		r.add(math.MaxInt64, 10)
		require.False(t, math.IsNaN(r.perSecond(math.MaxInt64)))
	})
}

func TestFillForecast(t *testing.T) {
	cases := []struct {
		used, free uint64
		rate       float64
		want       Fill
	}{
		{0, 0, 0, Fill{UntilFull: 0}},
		{10, 0, 1, Fill{Used: 10 << 12, Rate: 1 << 12, UntilFull: 0}},
		{10, 30, 0, Fill{Used: 10 << 12, Free: 30 << 12, UntilFull: Never}},
		{10, 30, 0.5, Fill{Used: 10 << 12, Free: 30 << 12, Rate: 1 << 11, UntilFull: time.Minute}},
		{0, 10800, 1, Fill{Free: 10800 << 12, Rate: 1 << 12, UntilFull: 3 * time.Hour}},
		{1, 1 << 40, 1e-9, Fill{Used: 1 << 12, Free: 1 << 52, Rate: 4096e-9, UntilFull: Never}},
	}
	for _, c := range cases {
		require.Equal(t, c.want, fillOf(c.used, c.free, 4096, c.rate))
	}
}
