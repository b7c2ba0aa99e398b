// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// targetStages are the stages of a copy-out by the kernel's targets, and the functions that
// they are, by the number that their probes have as a cookie. The first begins with one
// function and ends with another.
var targetStages = []struct{ kind, function string }{
	{"hold", "dds_hold"},
	{"read", "dds_batch_read"},
	{"commit", "dds_batch_wait"},
	{"flush", "dds_batch_flush"},
}

// release is the function that ends the first stage.
const release = "dds_release"

// targetNeeds is what the target probe needs.
var targetNeeds = []Need{needRoot, needTypes, needDisk, needRegisters, {"kprobes, CONFIG_KPROBE_EVENTS", func() error {
	_, err := os.Stat("/sys/bus/event_source/devices/kprobe")
	return err
}}, {"the module dm-ddsnap", func() error {
	_, err := os.Stat(targetModule)
	return err
}}}

// targetModule is there while the kernel has the module of which the targets are.
const targetModule = "/sys/module/dm_ddsnap"

// TargetLoaded reports whether the kernel has its targets.
func TargetLoaded() bool {
	_, err := os.Stat(targetModule)
	return err == nil
}

// openTarget attaches to the functions of the kernel's targets.
func openTarget(o Options) (*programs, error) {
	if !o.Target {
		return nil, nil
	}
	if err := met("target", targetNeeds); err != nil {
		return nil, err
	}
	spec, err := loadTarget()
	if err != nil {
		return nil, err
	}
	return open("target", spec, nil, func(p *programs) error {
		p.labels = always(targetLabels()...)
		type place struct {
			attach            func(string, *ebpf.Program, *link.KprobeOptions) (link.Link, error)
			function, program string
			stage             int
		}
		places := []place{
			{link.Kprobe, release, targetProgReleased, 0}, // ends first, as with the block layer
			{link.Kprobe, targetStages[0].function, targetProgHeld, 0},
		}
		for i, s := range targetStages[1:] {
			places = append(places, place{link.Kretprobe, s.function, targetProgStageEnds, i + 1}, place{link.Kprobe, s.function, targetProgStageBegins, i + 1})
		}
		for _, at := range places {
			if err := p.keep(at.attach(at.function, p.loaded.Programs[at.program], &link.KprobeOptions{Cookie: uint64(at.stage)})); err != nil {
				return fmt.Errorf("function %s of dm-ddsnap: %w", at.function, err)
			}
		}
		return nil
	})
}

// targetLabels labels the histograms of stages.
func targetLabels() (all []Series) {
	for _, s := range targetStages {
		all = append(all, Series{Kind: s.kind, Metric: "latency", Unit: Nanoseconds})
	}
	return all
}
