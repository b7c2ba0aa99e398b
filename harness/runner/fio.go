// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads/fio"
)

// fioJobs has fio run its standard jobs on the exports that peer compares: a
// client that nobody here wrote. Behind a new snapshot each block is written for
// the first time, then the rest follows on what is settled.
type fioJobs struct {
	peer
}

func (p *fioJobs) prepare(ctx context.Context) error {
	if err := fio.Supported(ctx); err != nil {
		return fmt.Errorf("%w: %w (Debian: apt install fio)", errSkipped, err)
	}
	return p.peer.prepare(ctx)
}

func (p *fioJobs) round(ctx context.Context, n int) ([]results.Sample, error) {
	if err := p.snapshot(ctx); err != nil {
		return nil, err
	}
	var all []results.Sample
	rng := p.random(n)
	for _, qd := range p.Depths {
		for _, job := range fio.Standard(p.Origin, p.Block, qd) {
			samples := make([]results.Sample, len(p.Variants))
			err := inTurns(ctx, rng, 1, len(p.Variants), func(v, _ int) error {
				r, err := fio.Run(ctx, p.uri(p.Variants[v]), job)
				if err != nil {
					return fmt.Errorf("%s: %w", p.Variants[v], err)
				}
				var t tally
				t.add(r)
				samples[v] = t.sample(p.Name, results.Measured, n, config(job.Name, p.Variants[v], p.Chunks[0], qd, noSnapshots, ""))
				return nil
			})
			if err != nil {
				return nil, err
			}
			all = append(all, samples...)
		}
	}
	return all, nil
}

// uri returns where a variant is exported.
func (p *fioJobs) uri(variant string) string {
	switch variant {
	case spec.QCOW2:
		return fio.UnixURI(p.qemu.socket, "")
	case spec.Raw:
		return fio.UnixURI(p.socket(), export.Raw)
	}
	return fio.UnixURI(p.socket(), export.Volume)
}
