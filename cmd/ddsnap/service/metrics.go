// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/store"
)

// metric is one figure of a store.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(store.Status, admin.Volume) float64
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// metrics are what is exported, all with the label "store", the store's UUID.
var metrics = []metric{
	{"failed", "Whether the store has failed: nothing can be copied out any more.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return truth(s.Mode == store.Failed) }},
	{"trouble", "Whether the store takes no copies, because its devices take no writes.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return truth(s.Trouble != "") }},
	{"slots_aside", "Slots that could not be written and are not used while others are free.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SlotsAside) }},
	{"slots_aside_since_timestamp_seconds", "When the first of them was found, or 0.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.AsideSince) / float64(time.Second) }},
	{"lost_chunks_total", "Chunks of the origin that were lost to snapshots since the store was opened, because they could not be read.", counter,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.LostCount) }},
	{"origin_bytes", "Size of the origin.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.OriginSize) }},
	{"slots", "Chunks that the store has room for.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.Slots) }},
	{"slots_used", "Slots that hold chunks or descriptors.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SlotsUsed) }},
	{"slots_leased", "Slots that clients hold in advance.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SlotsLeased) }},
	{"slots_waiting", "Slots that are freed by the next checkpoint.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SlotsWaiting) }},
	{"metadata_pages", "Pages of the metadata area.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.MetadataPages) }},
	{"metadata_pages_used", "Pages of the metadata area in use.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.MetadataUsed) }},
	{"cache_bytes", "Metadata in memory.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.CacheBytes) }},
	{"snapshots", "Snapshots that can be read.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SnapshotsLive) }},
	{"snapshots_being_freed", "Snapshots that are deleted, and whose chunks are being freed.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SnapshotsGoing) }},
	{"snapshots_with_digest", "Snapshots that the store has a digest of.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.SnapshotsDigested) }},
	{"exceptions", "Chunks that are preserved for snapshots, or were written to them.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.Exceptions) }},
	{"unsaved_bytes", "Bytes copied since the last checkpoint, that a recovery would replay.", gauge,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.UnsavedBytes) }},
	{"checkpoints_total", "Checkpoints since the store was made.", counter,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.Checkpoint) }},
	{"batches_total", "Batches of copy-outs since the store was opened.", counter,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.Batches) }},
	{"copies_total", "Chunks of the origin copied out since the store was opened.", counter,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.Copies) }},
	{"written_total", "Chunks of snapshots given slots of their own since the store was opened.", counter,
		func(s store.Status, _ admin.Volume) float64 { return float64(s.Written) }},
	{"origin_reads_total", "Reads of the origin served by this process.", counter,
		func(_ store.Status, v admin.Volume) float64 { return float64(v.Reads) }},
	{"origin_writes_total", "Writes of the origin served by this process.", counter,
		func(_ store.Status, v admin.Volume) float64 { return float64(v.Writes) }},
	{"origin_read_bytes_total", "Bytes read from the origin by this process.", counter,
		func(_ store.Status, v admin.Volume) float64 { return float64(v.ReadBytes) }},
	{"origin_written_bytes_total", "Bytes written to the origin by this process.", counter,
		func(_ store.Status, v admin.Volume) float64 { return float64(v.WrittenBytes) }},
}

// kernelMetrics are exported where the kernel's targets are served.
var kernelMetrics = []struct {
	name, help string
	value      func(*admin.Kernel) float64
}{
	{"kernel_connected", "Whether the kernel is connected with the server.", func(k *admin.Kernel) float64 { return truth(k.Server) }},
	{"kernel_origin", "Whether the kernel has the origin, and it is in use.", func(k *admin.Kernel) float64 { return truth(k.Origin && k.Session) }},
	{"kernel_snapshots", "Snapshots that the kernel has targets of.", func(k *admin.Kernel) float64 { return float64(k.Snapshots) }},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// collector exports the figures of one store, as they are when they are asked for.
type collector struct {
	status func() store.Status
	served func() admin.Volume
	kernel func() *admin.Kernel // returns nil where it is not served
	descs  []*prometheus.Desc   // of metrics, then of kernelMetrics
}

func newCollector(status func() store.Status, served func() admin.Volume, kernel func() *admin.Kernel) *collector {
	c := &collector{status: status, served: served, kernel: kernel}
	labels := prometheus.Labels{"store": status().UUID.String()}
	for _, m := range metrics {
		c.descs = append(c.descs, prometheus.NewDesc("ddsnap_"+m.name, m.help, nil, labels))
	}
	for _, m := range kernelMetrics {
		c.descs = append(c.descs, prometheus.NewDesc("ddsnap_"+m.name, m.help, nil, labels))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	st, v := c.status(), c.served()
	for i, m := range metrics {
		to <- prometheus.MustNewConstMetric(c.descs[i], m.kind, m.value(st, v))
	}
	k := c.kernel()
	if k == nil || k.Error != "" {
		return
	}
	for i, m := range kernelMetrics {
		to <- prometheus.MustNewConstMetric(c.descs[len(metrics)+i], gauge, m.value(k))
	}
}

// serveMetrics answers GET /metrics on ln until ctx is done.
func serveMetrics(ctx context.Context, ln net.Listener, c *collector) error {
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
