// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
)

// modelledOps is how many ops a modelled window has at most. It is the same in
// every suite, so that modelled figures can be compared between suites of the
// same sizes.
const modelledOps = 2048

// modelled puts every setting through every disk model.
func (w *write) modelled(ctx context.Context) ([]results.Sample, error) {
	type job struct {
		cell
		model   string
		variant int
	}
	var jobs []job
	for _, model := range w.Models {
		for _, c := range w.cells() {
			for v := range w.Variants {
				jobs = append(jobs, job{c, model, v})
			}
		}
	}
	samples := make([][]results.Sample, len(jobs))
	err := parallel(len(jobs), func(i int) (err error) {
		j := jobs[i]
		samples[i], err = w.modelledCell(ctx, j.cell, j.model, j.variant)
		if err != nil {
			err = fmt.Errorf("%s model, %s: %w", j.model, w.Variants[j.variant], err)
		}
		return err
	})
	var all []results.Sample
	for _, s := range samples {
		all = append(all, s...)
	}
	return all, err
}

// modelledCell measures all ops of one variant on a model of its own.
func (w *write) modelledCell(ctx context.Context, c cell, model string, variant int) (all []results.Sample, err error) {
	bed, err := stack.NewModel(model, stack.Size{Origin: w.Origin, Stores: w.Store})
	if err != nil {
		return nil, err
	}
	conf := w.config(c, variant)
	conf.Share = stack.Share{}
	st, err := bed.Build(conf)
	if err != nil {
		return nil, err
	}
	defer closeAll([]*stack.Stack{st}, &err)
	a := newAddresses(w.seed, w.Origin, c.chunk, w.Block, min(modelledOps, w.capacity(c.chunk)))
	for i, op := range w.Ops {
		if op == "rewrite" && st.Bound() {
			continue
		}
		if op != "rewrite" {
			if err := st.Snapshot(block.Tag(i + 1)); err != nil {
				return nil, err
			}
		}
		var s workloads.Stream = a.slice(0, 1)
		if op == "sequential" {
			s = w.sequential(0, 1)
		}
		look(c.qd, st)
		r, err := drive(ctx, st, s, c.qd, 0)
		if err != nil {
			return nil, err
		}
		var t tally
		t.add(r)
		sample := t.sample(w.Name, results.Modelled, 0, config(op, st.Variant, c.chunk, c.qd, noSnapshots, model))
		w.took(st, &t, true, sample)
		all = append(all, sample)
	}
	return all, nil
}
