// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// maxDevices is how many devices one probe can look at. kernel/bpf/block.bpf.c has the
// same number.
const maxDevices = 32

// Kinds and metrics of the block layer, by their numbers in kernel/bpf/block.bpf.c.
var (
	blockKinds   = []string{"any", "read", "write", "fua", "flush", "discard", "zeroes", "other"}
	blockMetrics = []struct {
		name string
		unit Unit
	}{{"latency", Nanoseconds}, {"size", Bytes}, {"distance", Sectors}, {"depth", Operations}}
)

// blockNeeds is what the block probe needs.
var blockNeeds = []Need{needRoot, needTypes, needDisk, needRing}

// Event is an operation of a block device in the timeline.
type Event struct {
	Began  time.Duration `json:"began_ns"` // on the monotonic clock
	Took   time.Duration `json:"took_ns"`
	Device string        `json:"device"`
	Kind   string        `json:"kind"`
	Sector uint64        `json:"sector"`
	Bytes  uint32        `json:"bytes"`
	Depth  uint32        `json:"depth"` // in flight when it was issued, with it
}

// openBlock attaches to the block layer: to some devices, or to all there are.
func openBlock(o Options) (*programs, error) {
	if !o.Block {
		return nil, nil
	}
	if len(o.Devices) > maxDevices {
		return nil, fmt.Errorf("probe block: %d devices: it can look at %d at once", len(o.Devices), maxDevices)
	}
	if err := met("block", blockNeeds); err != nil {
		return nil, err
	}
	spec, err := loadBlock()
	if err != nil {
		return nil, err
	}
	constants := map[string]any{blockVarOnlyChosen: len(o.Devices) > 0, blockVarSampleEvery: uint32(0)}
	if o.Event != nil {
		constants[blockVarSampleEvery] = max(1, o.SampleEvery)
	}
	return open("block", spec, constants, func(p *programs) error {
		p.labels = blockLabels
		for i, d := range o.Devices {
			if err := p.loaded.Maps[blockMapNumbers].Put(d.number(), uint32(i)); err != nil {
				return fmt.Errorf("choosing %v: %w", d, err)
			}
		}
		if o.Event != nil {
			reader, err := ringbuf.NewReader(p.loaded.Maps[blockMapTimeline])
			if err != nil {
				return err
			}
			f := &follower{Reader: reader, done: make(chan struct{})}
			go f.follow(o.Event)
			p.closer = append(p.closer, f)
		}
		for _, point := range blockPoints(o.Devices) {
			if err := p.keep(link.AttachTracing(link.TracingOptions{Program: p.loaded.Programs[point[1]]})); err != nil {
				return fmt.Errorf("tracepoint %s: %w", point[0], err)
			}
		}
		return nil
	})
}

// blockPoints returns tracepoints and the programs for them. Those of bios are left out
// where all devices have requests: each would cost a little, for nothing. Ends come
// first: no operation then seems to last until the probe is closed.
func blockPoints(chosen []Device) [][2]string {
	points := [][2]string{
		{"block_rq_complete", blockProgRequestCompleted}, {"block_rq_issue", blockProgRequestIssued},
		{"block_bio_complete", blockProgBioCompleted}, {"block_bio_queue", blockProgBioQueued},
	}
	if len(chosen) > 0 && !slices.ContainsFunc(chosen, func(d Device) bool { return !d.hasRequests() }) {
		points = points[:2]
	}
	return points
}

// blockLabels returns the labels of the histograms of those devices that are numbered.
func blockLabels(p *programs) (map[uint32]Series, error) {
	devices, err := p.devices()
	labels := map[uint32]Series{}
	for number, d := range devices {
		for k, kind := range blockKinds {
			for m, metric := range blockMetrics {
				at := (int(number)*len(blockKinds)+k)*len(blockMetrics) + m
				labels[uint32(at)] = Series{Subject: d, Kind: kind, Metric: metric.name, Unit: metric.unit}
			}
		}
	}
	return labels, err
}

// follower hands on the events of a ring buffer.
type follower struct {
	*ringbuf.Reader
	done chan struct{}
}

// Close ends it; no event is handed on afterwards.
func (f *follower) Close() error {
	err := f.Reader.Close()
	<-f.done
	return err
}

// follow hands on events until the reader is closed.
func (f *follower) follow(event func(Event)) {
	defer close(f.done)
	var record ringbuf.Record
	names := map[uint32]string{}
	for {
		if err := f.ReadInto(&record); errors.Is(err, ringbuf.ErrClosed) {
			return
		} else if err != nil {
			continue
		}
		var e blockEvent
		if err := binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &e); err != nil {
			continue
		}
		name, ok := names[e.Dev]
		if !ok {
			name = deviceOf(e.Dev).String()
			names[e.Dev] = name
		}
		kind := "other"
		if int(e.Kind) < len(blockKinds) {
			kind = blockKinds[e.Kind]
		}
		event(Event{Began: time.Duration(e.Began), Took: time.Duration(e.Took), Device: name, Kind: kind, Sector: e.Sector, Bytes: e.Bytes, Depth: e.Depth})
	}
}

// devices returns the names of the devices that are looked at, by the numbers that they
// have in the programs.
func (p *programs) devices() (map[uint32]string, error) {
	var dev, number uint32
	all := map[uint32]string{}
	entries := p.loaded.Maps[blockMapNumbers].Iterate()
	for entries.Next(&dev, &number) {
		all[number] = deviceOf(dev).String()
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("probe block: reading its devices: %w", err)
	}
	return all, nil
}

// inFlight returns how many operations each device has under way.
func inFlight(p *programs) (map[string]uint64, error) {
	devices, err := p.devices()
	all := map[string]uint64{}
	for number, name := range devices {
		var d blockDevice
		if err := p.loaded.Maps[blockMapDevices].Lookup(number, &d); err != nil {
			return nil, fmt.Errorf("probe block: reading device %s: %w", name, err)
		}
		all[name] = d.InFlight
	}
	return all, err
}
