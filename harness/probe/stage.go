// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// markPackage is where the functions are that uprobes are attached to.
const markPackage = "zumastor.org/zumastor/engine/mark."

// stages are those that package engine/mark marks the begin and the end of, by the
// number that their probes have as a cookie.
var stages = []struct {
	kind   string // of the series
	marks  string // of the functions' names, before Begin and End
	amount string // the metric of what it is given
	unit   Unit
}{
	{"write", "Write", "size", Bytes},
	{"read", "Read", "size", Bytes},
	{"copy", "Copy", "chunks", Chunks},
	{"lease", "Lease", "slots", SlotsLeased},
	{"batch", "Batch", "chunks", Chunks},
	{"commit", "Commit", "chunks", Chunks},
	{"report", "Report", "chunks", Chunks},
	{"checkpoint", "Checkpoint", "pages", Pages},
	{"map", "Map", "chunks", Chunks},
	{"encode", "Encode", "size", Bytes},
	{"decode", "Decode", "size", Bytes},
}

// stageNeeds is what the stage probe needs.
var stageNeeds = []Need{needRoot, needTypes, needDisk, needRegisters}

// openStage attaches to the marks in a program, or in that which a process runs.
func openStage(o Options) (*programs, error) {
	if o.Process == 0 && o.Program == "" {
		return nil, nil
	}
	if err := met("stage", stageNeeds); err != nil {
		return nil, err
	}
	spec, err := loadStage()
	if err != nil {
		return nil, err
	}
	// All marks in one link cost one wait for the kernel when it is closed, not 22.
	multi := features.HaveBPFLinkUprobeMulti() == nil
	if multi {
		for _, program := range spec.Programs {
			program.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
	return open("stage", spec, nil, func(p *programs) error {
		p.labels = always(stageLabels()...)
		path, process := o.Program, 0 // all that run it
		if path == "" {
			path, process = fmt.Sprintf("/proc/%d/exe", o.Process), o.Process
		}
		program, err := link.OpenExecutable(path)
		if err != nil {
			return fmt.Errorf("the program %s: %w", path, err)
		}
		places, err := findMarks(path, markNames())
		if err != nil {
			return fmt.Errorf("the marks of %s, which is to be ddsnap or zbench: %w", path, err)
		}
		attach := p.attachEach
		if multi {
			attach = p.attachMulti
		}
		// Ends first, as with the block layer.
		if err := attach(program, stageProgStageEnds, process, placesOf(places, "End")); err != nil {
			return fmt.Errorf("the ends of stages of %s: %w", path, err)
		}
		if err := attach(program, stageProgStageBegins, process, placesOf(places, "Begin")); err != nil {
			return fmt.Errorf("the begins of stages of %s: %w", path, err)
		}
		return nil
	})
}

// attachMulti attaches a program to places in the file of a process, each with its
// number as a cookie; process zero means all. It needs Linux 6.6.
func (p *programs) attachMulti(file *link.Executable, program string, process int, places []uint64) error {
	o := link.UprobeMultiOptions{Addresses: places, PID: uint32(process)}
	for i := range places {
		o.Cookies = append(o.Cookies, uint64(i))
	}
	return p.keep(file.UprobeMulti(nil, p.loaded.Programs[program], &o))
}

// attachEach is attachMulti for older kernels.
func (p *programs) attachEach(file *link.Executable, program string, process int, places []uint64) error {
	for i, place := range places {
		o := link.UprobeOptions{Address: place, PID: process, Cookie: uint64(i)}
		if err := p.keep(file.Uprobe("", p.loaded.Programs[program], &o)); err != nil {
			return err
		}
	}
	return nil
}

// placesOf returns the places of the begins, or ends, of all stages in their order.
func placesOf(places map[string]uint64, end string) []uint64 {
	var all []uint64
	for _, s := range stages {
		all = append(all, places[markPackage+s.marks+end])
	}
	return all
}

// markNames returns the names of all functions that are marks.
func markNames() []string {
	var all []string
	for _, s := range stages {
		all = append(all, markPackage+s.marks+"Begin", markPackage+s.marks+"End")
	}
	return all
}

// stageLabels labels the histograms of stages.
func stageLabels() (all []Series) {
	for _, s := range stages {
		all = append(all, Series{Kind: s.kind, Metric: "latency", Unit: Nanoseconds}, Series{Kind: s.kind, Metric: s.amount, Unit: s.unit})
	}
	return all
}
