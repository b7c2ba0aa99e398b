// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/probe"
)

// probeFlags are the flags of the command probe.
type probeFlags struct {
	devices            []string
	server             string
	duration, interval time.Duration
	json               bool
	listen, timeline   string
	sample             uint32
}

func (a *app) probeCommand() *cobra.Command {
	var f probeFlags
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Show live histograms of a server or a block device by eBPF",
		Long: `Probe looks into the running kernel and a running server with eBPF programs, and
shows what they count. It changes nothing.

Of block devices: latency from issue to completion, size, distance and queue depth
of operations, by device and kind. Of a server, or any process of ddsnap: its stages,
how long they take and of how much (requests, one of 16; copies, leases, batches,
commits, reports, checkpoints, lookups, codecs); how long its threads run, and wait
for a processor. With --server alone, block devices are left out. Of the kernel's own
targets, while they are loaded: how long requests are held, and how long reading,
committing and flushing of a batch takes.

It needs root, and Linux 5.15 with BTF. A probe that is not possible here is left
out with a notice that says what it needs.

It prints what happened in each interval, until --duration is over or Ctrl-C; with
--json only the total, at the end. Histograms are log-linear: quantiles are at most
1/16 too high, counts and sums are exact.`,
		Example: `  zbench probe --device vda
  zbench probe --device nvme0n1 --duration 10s --json
  zbench probe --server store.control
  zbench probe --server 1234 --device vda
  zbench probe --listen localhost:9101
  zbench probe --device vda --timeline ops.jsonl --sample 100`,
		Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.probe(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.devices, "device", nil, "block `devices`; of a partition, its disk (default all)")
	flags.StringVar(&f.server, "server", "", "a running `server`: its control socket, or the number of a process of ddsnap or zbench")
	flags.DurationVar(&f.duration, "duration", 0, "how long (default until Ctrl-C)")
	flags.DurationVar(&f.interval, "interval", time.Second, "between two prints")
	flags.BoolVar(&f.json, "json", false, "print the total as JSON at the end")
	flags.StringVar(&f.listen, "listen", "", "serve the counts to Prometheus at this `address`, path /metrics")
	flags.StringVar(&f.timeline, "timeline", "", "write operations of block devices to this `file`, a JSON object a line")
	flags.Uint32Var(&f.sample, "sample", 1, "of them, one in `n`, at random")
	return cmd
}

// options says what to look at.
func (f probeFlags) options() (probe.Options, error) {
	o := probe.Options{Target: probe.TargetLoaded(), Block: f.server == "" || len(f.devices) > 0 || f.timeline != "", SampleEvery: f.sample}
	for _, name := range f.devices {
		d, err := probe.FindDevice(name)
		if err != nil {
			return o, err
		}
		o.Devices = append(o.Devices, d)
	}
	if f.server == "" {
		return o, nil
	}
	process, err := strconv.Atoi(f.server)
	if err != nil {
		process, err = probe.ProcessOf(f.server)
	} else if process <= 0 {
		err = fmt.Errorf("%w: --server: %d is no process", errUsage, process)
	}
	o.Process = process
	return o, err
}

// probe attaches and shows until the time is over.
func (a *app) probe(ctx context.Context, f probeFlags) (err error) {
	if f.interval <= 0 || f.duration < 0 || f.sample == 0 {
		return fmt.Errorf("%w: --interval and --sample are to be above 0, --duration not below", errUsage)
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	if f.timeline != "" {
		w, err2 := newTimeline(f.timeline)
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, w.close()) }()
		o.Event = w.write
	}
	s, err := probe.Attach(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }() // before the timeline
	for _, n := range s.Notices {
		fmt.Fprintf(a.err, "note: %s\n", n)
	}
	if f.listen != "" {
		end, err := serveMetrics(f.listen, s)
		if err != nil {
			return err
		}
		defer end()
	}
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	return a.watch(ctx, s, f)
}

// watch prints until the context ends, which is no error.
func (a *app) watch(ctx context.Context, s *probe.Session, f probeFlags) error {
	first, err := s.Read()
	if err != nil {
		return err
	}
	before := first
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		now, err := s.Read()
		if err != nil {
			return err
		}
		switch {
		case f.json && ended:
			return a.printJSON(now.Since(first))
		case f.json:
			continue
		}
		if isTerminal(a.out) {
			fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		}
		if err := now.Since(before).Show(a.out, now.At.Sub(before.At)); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
		before = now
	}
	return nil
}

// serveMetrics serves a session to Prometheus until end is called.
func serveMetrics(address string, s *probe.Session) (end func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	return func() { server.Close() }, nil
}

// timeline is a file of operations.
type timeline struct {
	file *os.File
	to   *bufio.Writer
	err  error
}

func newTimeline(name string) (*timeline, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--timeline: %w", err)
	}
	return &timeline{file: file, to: bufio.NewWriter(file)}, nil
}

// write keeps the first error for close.
func (t *timeline) write(e probe.Event) {
	if t.err == nil {
		t.err = json.NewEncoder(t.to).Encode(e)
	}
}

func (t *timeline) close() error {
	err := errors.Join(t.err, t.to.Flush(), t.file.Close())
	if err != nil {
		return fmt.Errorf("writing the timeline: %w", err)
	}
	return nil
}
