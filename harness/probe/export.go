// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Summary is a series as JSON. Quantiles are at most 1/16 too high.
type Summary struct {
	Probe   string   `json:"probe"`
	Subject string   `json:"subject,omitempty"`
	Kind    string   `json:"kind"`
	Metric  string   `json:"metric"`
	Unit    Unit     `json:"unit"`
	Count   uint64   `json:"count"`
	Sum     uint64   `json:"sum"`
	P50     uint64   `json:"p50"`
	P90     uint64   `json:"p90"`
	P99     uint64   `json:"p99"`
	P999    uint64   `json:"p999"`
	Max     uint64   `json:"max"`
	Buckets []Bucket `json:"buckets"` // those with something
}

// Bucket is a slot of a histogram: how many values there were up to Highest, and
// above those of the slot before.
type Bucket struct {
	Highest uint64 `json:"le"`
	Count   uint64 `json:"count"`
}

// Summary returns the series as JSON has it.
func (s *Series) Summary() Summary {
	sum := Summary{
		Probe: s.Probe, Subject: s.Subject, Kind: s.Kind, Metric: s.Metric, Unit: s.Unit, Count: s.Count, Sum: s.Sum, Max: s.Max,
		P50: s.Quantile(0.5), P90: s.Quantile(0.9), P99: s.Quantile(0.99), P999: s.Quantile(0.999),
	}
	for i, n := range s.Slots {
		if n > 0 {
			sum.Buckets = append(sum.Buckets, Bucket{min(Highest(i), s.Max), n})
		}
	}
	return sum
}

// MarshalJSON writes a reading with the summaries of its series.
func (r Reading) MarshalJSON() ([]byte, error) {
	out := struct {
		At       time.Time         `json:"at"`
		Series   []Summary         `json:"series"`
		InFlight map[string]uint64 `json:"in_flight,omitempty"`
		Lost     uint64            `json:"lost"`
	}{At: r.At.UTC(), Series: []Summary{}, InFlight: r.InFlight, Lost: r.Lost}
	for i := range r.Series {
		out.Series = append(out.Series, r.Series[i].Summary())
	}
	return json.Marshal(out)
}

var labels = []string{"probe", "subject", "kind", "metric", "unit"}

// What Prometheus is told. Values keep their unit, which is a label: one name then has
// all that the probes count.
var (
	histogramDesc = prometheus.NewDesc("zumastor_probe", "What eBPF probes counted since they were attached, in octaves.", labels, nil)
	inFlightDesc  = prometheus.NewDesc("zumastor_probe_in_flight", "Operations of a block device under way.", []string{"subject"}, nil)
	lostDesc      = prometheus.NewDesc("zumastor_probe_lost_total", "What could not be counted, for want of room.", nil, nil)
)

// Describe is part of [prometheus.Collector].
func (s *Session) Describe(to chan<- *prometheus.Desc) {
	to <- histogramDesc
	to <- inFlightDesc
	to <- lostDesc
}

// Collect is part of [prometheus.Collector]. Its histograms have the bounds of octaves,
// which are exact.
func (s *Session) Collect(to chan<- prometheus.Metric) {
	r, err := s.Read()
	if err != nil {
		to <- prometheus.NewInvalidMetric(histogramDesc, err)
		return
	}
	r.collect(to)
}

func (r Reading) collect(to chan<- prometheus.Metric) {
	for _, s := range r.Series {
		bounds, total := map[float64]uint64{}, uint64(0)
		for _, o := range s.Octaves() {
			total += o.Count
			bounds[float64(o.High)] = total
		}
		to <- prometheus.MustNewConstHistogram(histogramDesc, total, float64(s.Sum), bounds, s.Probe, s.Subject, s.Kind, s.Metric, string(s.Unit))
	}
	for device, n := range r.InFlight {
		to <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(n), device)
	}
	to <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(r.Lost))
}
