// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/evolve"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/results"
)

// deltas makes and applies deltas of data that evolved in place, each in a process of
// its own, in turns. The images are in the page cache and what is made goes there, so
// that coding is measured and not the disk.
type deltas struct {
	bench
	tmp      string
	cache    string
	pairs    []evolve.Pair
	warnings []string // what the record is to have
}

func (d *deltas) prepare(ctx context.Context) (err error) {
	if d.tmp, err = os.MkdirTemp(d.dir, "zbench-"); err != nil {
		return err
	}
	if d.cache, err = evolve.DefaultCache(); err != nil {
		return err
	}
	for _, name := range d.Data {
		p, err := evolve.Get(ctx, d.cache, name)
		if errors.Is(err, evolve.ErrMissing) {
			d.warnings = append(d.warnings, fmt.Sprintf("%s: data set left out: %v", d.Name, err))
			continue
		}
		if err != nil {
			return err
		}
		d.pairs = append(d.pairs, p)
		d.warnings = append(d.warnings, fmt.Sprintf("%s: %s: %s, %d MiB, written by %s", d.Name, name, p.About.What, p.About.Size>>20, p.About.Method))
	}
	if len(d.pairs) == 0 {
		return fmt.Errorf("%w: none of the data sets %q can be had: %s", errSkipped, d.Data, strings.Join(d.warnings, "; "))
	}
	return nil
}

// notes implements noter.
func (d *deltas) notes() []string { return d.warnings }

func (d *deltas) close() error {
	if d.tmp == "" {
		return nil
	}
	return os.RemoveAll(d.tmp)
}

// coding is one way to make a delta of a data set.
type coding struct {
	variant string // as the experiment's file has it
	extent  int64  // 0: it knows none
	link    int    // Mbit/s that it is told, 0: none
}

// program reports whether another program does it.
func (c coding) program() bool { return c.variant[0] >= 'A' && c.variant[0] <= 'Z' }

// codec returns the codec's name and level, zero for its own.
func (c coding) codec() (string, string) {
	name, level, ok := strings.Cut(c.variant, ":")
	if !ok {
		level = "0"
	}
	return name, level
}

// once are the slow ones that are never the smallest: the first round has them.
var once = []string{"bsdiff", "zstd:11", "zstd-patch:11", "RSYNC", "QEMU-IMG"}

// codings returns what a round measures. What only fills the tables, and no goal needs,
// is in the first: other extents, and the links' own deltas.
func (d *deltas) codings(round int) (all []coding) {
	for _, v := range d.Variants {
		c := coding{variant: v, extent: d.Extents[0]}
		if c.program() {
			c.extent = 0
		}
		if slices.Contains(once, v) && round > 0 {
			continue
		}
		all = append(all, c)
	}
	if round > 0 {
		return all
	}
	for _, extent := range d.Extents[1:] {
		for _, v := range []string{"zstd", "zstd-patch", "similar", export.BestCodec} {
			all = append(all, coding{variant: v, extent: extent})
		}
	}
	for _, link := range d.Links {
		all = append(all, coding{variant: export.BestCodec, extent: d.Extents[0], link: link})
	}
	return all
}

func (d *deltas) round(ctx context.Context, n int) (all []results.Sample, err error) {
	rng := d.random(n)
	for _, p := range d.pairs {
		codings := d.codings(n)
		made := make([]*outcome, len(codings))
		for _, i := range rng.Perm(len(codings)) {
			if made[i], err = d.measure(ctx, p, codings[i]); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", p.Name, codings[i].variant, err)
			}
		}
		var content int64
		for _, m := range made {
			if m != nil {
				content = max(content, m.encode.Content)
			}
		}
		for _, m := range made {
			if m != nil {
				all = append(all, d.samples(m, content, n)...)
			}
		}
		all = append(all, d.compared(p.Name, made, n))
	}
	return all, nil
}

// outcome is what a coding of a data set gave.
type outcome struct {
	coding
	data           string
	encode, decode export.DeltaReport
	applied        bool // decode is of what was made
}

// measure makes a delta, and applies it. It returns nil for a program that is not there.
func (d *deltas) measure(ctx context.Context, p evolve.Pair, c coding) (*outcome, error) {
	m := &outcome{coding: c, data: p.Name}
	file, output := filepath.Join(d.tmp, "delta"), filepath.Join(d.tmp, "output")
	defer os.Remove(file)
	defer os.Remove(output)
	if c.program() {
		return d.measurePeer(ctx, p, m, file, output)
	}
	name, level := c.codec()
	var err error
	if m.encode, err = export.RunDelta(ctx, d.program, export.EncodePart, p.Old, p.New, file, name, level,
		strconv.FormatInt(c.extent, 10), strconv.FormatInt(int64(c.link)*1e6, 10)); err != nil {
		return nil, err
	}
	if err := copyFile(output, p.Old); err != nil {
		return nil, err
	}
	m.decode, err = export.RunDelta(ctx, d.program, export.ApplyPart, p.Old, p.New, file, output)
	m.applied = true
	return m, err
}

// samples returns what is recorded of an outcome: making and applying the delta, and the
// time of a replication over each link.
func (d *deltas) samples(m *outcome, content int64, round int) (all []results.Sample) {
	of := func(op string) results.Config {
		name, level := m.codec()
		if level == "0" {
			level = "default"
		}
		c := config(op, strings.ToLower(name), 0, 0, noSnapshots, "").With("data", m.data)
		if m.program() {
			c = c.With("peer", "yes")
		} else {
			c = c.With("level", level)
		}
		if m.extent > 0 {
			c = c.With("extent", strconv.FormatInt(m.extent, 10))
		}
		if m.link > 0 {
			c = c.With("told", strconv.Itoa(m.link))
		}
		return c
	}
	add := func(op string, r export.DeltaReport) *results.Sample {
		t := tally{elapsed: time.Duration(r.Seconds * float64(time.Second)), ops: 1, bytes: content}
		t.set(goals.PeakBytes, float64(r.PeakBytes))
		if op == "encode" {
			t.set(goals.DeltaBytes, float64(m.encode.Coded))
			t.set(goals.DeltaShare, float64(m.encode.Coded)/float64(content))
		}
		all = append(all, t.sample(d.Name, results.Measured, round, of(op)))
		return &all[len(all)-1]
	}
	add("encode", m.encode)
	if m.applied {
		add("decode", m.decode)
	} else if m.variant != "RSYNC" { // which applies what it sends by itself
		return all
	}
	for _, link := range d.Links {
		if m.link > 0 && m.link != link {
			continue
		}
		t := tally{elapsed: m.replication(link), ops: 1}
		all = append(all, t.sample(d.Name, results.Measured, round, of("replicate").With("link", strconv.Itoa(link))))
	}
	return all
}

// replication is how long a snapshot takes to arrive over a link of so many Mbit/s. Making,
// sending and applying overlap: the longest of the three counts, and the first extent
// goes through them one after another. What cannot be streamed goes so as a whole.
func (m *outcome) replication(link int) time.Duration {
	stages := [3]float64{m.encode.Seconds, float64(m.encode.Coded) * 8 / (float64(link) * 1e6), m.decode.Seconds}
	sum, longest := stages[0]+stages[1]+stages[2], max(stages[0], stages[1], stages[2])
	seconds := sum
	if n := float64(m.encode.Extents); n > 1 {
		seconds = longest + (sum-longest)/n
	}
	return time.Duration(seconds * float64(time.Second))
}
