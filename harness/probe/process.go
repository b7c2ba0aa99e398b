// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"

	"github.com/cilium/ebpf/link"
)

// Kinds and metrics of a process, by their numbers in kernel/bpf/process.bpf.c.
var (
	processKinds   = []string{"any", "yielded", "preempted"}
	processMetrics = []string{"ran", "waited"}
)

// processNeeds is what the process probe needs.
var processNeeds = []Need{needRoot, needTypes, needDisk}

// openProcess watches the threads of a process, by its number as the kernel's first
// namespace has it.
func openProcess(o Options) (*programs, error) {
	if o.Process == 0 {
		return nil, nil
	}
	if err := met("process", processNeeds); err != nil {
		return nil, err
	}
	spec, err := loadProcess()
	if err != nil {
		return nil, err
	}
	return open("process", spec, map[string]any{processVarProcess: int32(o.Process)}, func(p *programs) error {
		p.labels = always(processLabels()...)
		for _, point := range [][2]string{
			{"sched_switch", processProgSwitched}, {"sched_wakeup", processProgWoken}, {"sched_wakeup_new", processProgBorn},
		} {
			if err := p.keep(link.AttachTracing(link.TracingOptions{Program: p.loaded.Programs[point[1]]})); err != nil {
				return fmt.Errorf("tracepoint %s: %w", point[0], err)
			}
		}
		return nil
	})
}

// processLabels labels the histograms of a process.
func processLabels() (all []Series) {
	for _, kind := range processKinds {
		for _, metric := range processMetrics {
			all = append(all, Series{Kind: kind, Metric: metric, Unit: Nanoseconds})
		}
	}
	return all
}
