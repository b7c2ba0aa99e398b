// SPDX-License-Identifier: Apache-2.0

package fio

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
)

// maxOutput bounds what is read of fio's output, in bytes.
const maxOutput = 64 << 20

// output is the part of fio's JSON that is used, as fio 3.33 writes it.
type output struct {
	Jobs []struct {
		Name    string    `json:"jobname"`
		Error   int       `json:"error"`
		Runtime int64     `json:"job_runtime"` // milliseconds
		Read    direction `json:"read"`
		Write   direction `json:"write"`
		Trim    direction `json:"trim"`
		Sync    struct {
			Latency latency `json:"lat_ns"`
		} `json:"sync"`
	} `json:"jobs"`
}

type direction struct {
	Bytes   int64   `json:"io_bytes"`
	Total   int64   `json:"total_ios"`
	Latency latency `json:"clat_ns"`
}

type latency struct {
	N    int64            `json:"N"`
	Bins map[string]int64 `json:"bins"` // nanoseconds to count
}

// Parse reads fio's output in the format json+ and joins its jobs into one
// Result. Latencies are fio's completion latencies, from submission to
// completion, in the bins that fio put them in, which are up to 1/64 wide.
// Elapsed is the longest job's.
func Parse(r io.Reader) (apply.Result, error) {
	var out output
	if err := json.NewDecoder(io.LimitReader(r, maxOutput)).Decode(&out); err != nil {
		return apply.Result{}, fmt.Errorf("reading fio's output: %w", err)
	}
	if len(out.Jobs) == 0 {
		return apply.Result{}, errors.New("reading fio's output: it has no jobs")
	}
	var result apply.Result
	for _, j := range out.Jobs {
		if j.Error != 0 {
			return apply.Result{}, fmt.Errorf("fio's job %s ended with error %d", j.Name, j.Error)
		}
		result.Elapsed = max(result.Elapsed, time.Duration(j.Runtime)*time.Millisecond)
		for _, part := range []struct {
			kind workloads.Kind
			direction
		}{
			{workloads.Read, j.Read},
			{workloads.Write, j.Write},
			{workloads.Discard, j.Trim},
			{workloads.Flush, direction{Total: j.Sync.Latency.N, Latency: j.Sync.Latency}},
		} {
			if err := add(&result.ByKind[part.kind], part.direction); err != nil {
				return apply.Result{}, fmt.Errorf("fio's job %s: %s: %w", j.Name, part.kind, err)
			}
		}
	}
	return result, nil
}

func add(c *apply.Counts, d direction) error {
	if d.Total < 0 || d.Bytes < 0 {
		return fmt.Errorf("%d ops of %d bytes", d.Total, d.Bytes)
	}
	if d.Total == 0 {
		return nil
	}
	c.Ops += d.Total
	c.Bytes += d.Bytes
	if len(d.Latency.Bins) == 0 {
		return errors.New("it has no latency bins: run fio with --output-format=json+")
	}
	if c.Latency == nil {
		c.Latency = apply.NewLatency()
	}
	for bin, n := range d.Latency.Bins {
		ns, err := strconv.ParseInt(bin, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("latency bin %q with count %d", bin, n)
		}
		if err := c.Latency.RecordValues(min(max(ns, apply.MinLatency), apply.MaxLatency), n); err != nil {
			return err
		}
	}
	return nil
}
