// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
)

// example is a reading of a disk with three writes.
func example() Reading {
	latency := Series{Probe: "block", Subject: "vda", Kind: "write", Metric: "latency", Unit: Nanoseconds}
	size := Series{Probe: "block", Subject: "vda", Kind: "write", Metric: "size", Unit: Bytes}
	distance := Series{Probe: "block", Subject: "vda", Kind: "any", Metric: "distance", Unit: Sectors}
	for _, v := range []uint64{20_000, 30_000, 900_000} {
		latency.Add(v)
		size.Add(4096)
	}
	distance.Add(0)
	distance.Add(2048)
	return Reading{
		At: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Series: []Series{distance, latency, size},
		InFlight: map[string]uint64{"vda": 2, "vdb": 0}, Lost: 1,
	}
}

func TestShow(t *testing.T) {
	var out strings.Builder
	require.NoError(t, example().Show(&out, time.Second))
	require.Equal(t, `block vda distance: 2, 2.0/s, 50% sequential  p50 0 B  p90 1 MiB  p99 1 MiB  max 1 MiB
block vda write latency: 3, 3.0/s  p50 30.7 µs  p90 900 µs  p99 900 µs  max 900 µs
    16.4 µs .. 32.8 µs   |****************************************| 2
    32.8 µs .. 65.5 µs   |                                        | 0
    65.5 µs .. 131 µs    |                                        | 0
     131 µs .. 262 µs    |                                        | 0
     262 µs .. 524 µs    |                                        | 0
     524 µs .. 1.05 ms   |********************                    | 1
block vda write size: 3, 3.0/s, 12 KiB/s  p50 4 KiB  p90 4 KiB  p99 4 KiB  max 4 KiB
vda: 2 in flight
1 not counted, for want of room
`, out.String())
	out.Reset()
	require.NoError(t, Reading{}.Show(&out, time.Second))
	require.Equal(t, "nothing happened\n", out.String())
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(example())
	require.NoError(t, err)
	var back struct {
		Series   []Summary
		InFlight map[string]uint64 `json:"in_flight"`
		Lost     uint64
	}
	require.NoError(t, json.Unmarshal(text, &back))
	require.Len(t, back.Series, 3)
	require.Equal(t, Summary{
		Probe: "block", Subject: "vda", Kind: "write", Metric: "latency", Unit: "ns", Count: 3, Sum: 950_000,
		P50: 30_719, P90: 900_000, P99: 900_000, P999: 900_000, Max: 900_000,
		Buckets: []Bucket{{20_479, 1}, {30_719, 1}, {900_000, 1}},
	}, back.Series[1])
	require.EqualValues(t, 2, back.InFlight["vda"])
	require.EqualValues(t, 1, back.Lost)
}

// fixed collects one reading.
type fixed struct{ Reading }

func (fixed) Describe(to chan<- *prometheus.Desc)   { new(Session).Describe(to) }
func (f fixed) Collect(to chan<- prometheus.Metric) { f.collect(to) }

func TestPrometheus(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fixed{example()})
	families, err := registry.Gather()
	require.NoError(t, err)
	var out strings.Builder
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&out, f)
		require.NoError(t, err)
	}
	for _, line := range []string{
		`zumastor_probe_bucket{kind="write",metric="latency",probe="block",subject="vda",unit="ns",le="32767"} 2`,
		`zumastor_probe_bucket{kind="write",metric="latency",probe="block",subject="vda",unit="ns",le="+Inf"} 3`,
		`zumastor_probe_sum{kind="write",metric="latency",probe="block",subject="vda",unit="ns"} 950000`,
		`zumastor_probe_in_flight{subject="vda"} 2`,
		`zumastor_probe_lost_total 1`,
	} {
		require.Contains(t, out.String(), line+"\n")
	}
}

func TestReadingSince(t *testing.T) {
	before, after := example(), example()
	after.Series[1].Add(50_000)
	after.Lost = 3
	d := after.Since(before)
	require.Len(t, d.Series, 1, "series without anything new are left out")
	require.EqualValues(t, 1, d.Series[0].Count)
	require.EqualValues(t, 50_000, d.Series[0].Sum)
	require.EqualValues(t, 2, d.Lost)
	require.EqualValues(t, 4, after.Find("block", "vda", "write", "latency").Count)
	require.Zero(t, after.Find("block", "vda", "read", "latency").Count)
}
