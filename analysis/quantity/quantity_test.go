// SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/analysis/stats"
)

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.1234: "0.123", 0.98765: "0.988", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 1234.5: "1234",
		10000: "10,000", 1234567: "1,234,567", -12345.6: "-12,346", 3e12: "3e+12", 0.0000123: "1.23e-05",
		math.NaN(): None, math.Inf(1): None, 64: "64", 99.96: "100.0",
	} {
		require.Equal(t, want, Number(v))
	}
}

func TestValue(t *testing.T) {
	for _, tc := range []struct {
		v    float64
		unit string
		want string
	}{
		{1.25e6, "ns/op", "1.25 ms/op"}, {999, "ns", "999 ns"}, {2.5e9, "p99-ns", "2.50 s"}, {1500, "p50-ns", "1.50 µs"}, {256 << 20, "peak-B", "256 MiB"},
		{123456, "IOPS", "123 k IOPS"}, {9000, "IOPS", "9000 IOPS"}, {24, "B/exception", "24 B/exception"},
		{3 << 20, "B", "3 MiB"}, {0.973, "x", "0.973 x"}, {math.NaN(), "x", None}, {0, "allocs/op", "0 allocs/op"},
	} {
		require.Equal(t, tc.want, Value(tc.v, tc.unit))
	}
}

func TestEstimate(t *testing.T) {
	for want, e := range map[string]stats.Estimate{
		None:           {},
		"0.973 ±0.012": {Center: 0.973, Lo: 0.961, Hi: 0.98, N: 6},
		"3.10 ±0.15":   {Center: 3.1, Lo: 3, Hi: 3.25, N: 6},
		"123 ±5":       {Center: 123.4, Lo: 120, Hi: 128, N: 6},
		"3.105":        {Center: 3.1049, Lo: 3.1049, Hi: 3.1049, N: 1},
		"7":            {Center: 7, Lo: 7, Hi: 7, N: 1},
		"0.00 ±0.10":   {Center: 0, Lo: 0, Hi: 0.1, N: 6},
	} {
		require.Equal(t, want, Estimate(e))
	}
	require.Equal(t, "1.25 ±0.10 ms/op", Quantity(stats.Estimate{Center: 1.25e6, Lo: 1.2e6, Hi: 1.35e6, N: 6}, "ns/op"))
	require.Equal(t, None, Quantity(stats.Estimate{}, "ns/op"))
}

func TestEstimateNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64()
		e := stats.Estimate{Center: f.Draw(t, "c"), Lo: f.Draw(t, "lo"), Hi: f.Draw(t, "hi"), N: 1}
		require.NotEmpty(t, Quantity(e, rapid.SampledFrom([]string{"ns/op", "B", "x", "IOPS", "", "/"}).Draw(t, "unit")))
	})
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]string{
		"4096": "4 KiB", "1048576": "1 MiB", "65536": "64 KiB", "512": "512 B", "1536": "1536 B", "auto": "auto", "": "", "-4": "-4",
		"0": "0 B",
	} {
		require.Equal(t, want, Bytes(in))
	}
}
