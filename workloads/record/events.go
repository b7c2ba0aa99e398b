// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"strings"
	"time"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/trace"
)

// timedMark is a mark at a time of the monotonic clock.
type timedMark struct {
	name string
	time int64 // nanoseconds
}

// timedOp is an op at the time of its issue.
type timedOp struct {
	workloads.Op
	time int64 // nanoseconds
}

// request identifies a request under way.
type request struct {
	sector  uint64
	sectors uint32
	rwbs    string
}

// toOps turns events into ops in the order of issue, and counts the empty
// writes: those that only ask for a flush reach no device, since the flush is a
// request of its own, but the kernel counts them as writes. An issue that the
// driver put back does not count, its second one does. fua says whether the
// device has FUA.
func toOps(events []event, fua bool) (ops []timedOp, empty int64, err error) {
	last := make(map[request]int) // to the index of the last op of its kind
	dropped := make(map[int]bool)
	for _, e := range events {
		key := request{e.sector, e.sectors, e.rwbs}
		switch e.kind {
		case issued:
			op, err := parseRequest(e)
			if err != nil {
				return nil, 0, err
			}
			op.FUA = op.FUA && fua
			last[key] = len(ops)
			ops = append(ops, timedOp{op, e.time})
		case queued:
			empty++
		case requeued:
			i, ok := last[key]
			if !ok {
				return nil, 0, fmt.Errorf("%w: %+v was put back without its issue", ErrInexact, key)
			}
			dropped[i] = true
			delete(last, key)
		default:
			return nil, 0, fmt.Errorf("%w: %+v failed with error %d", ErrInexact, key, -e.errno)
		}
	}
	return without(ops, dropped), empty, nil
}

func without(ops []timedOp, dropped map[int]bool) []timedOp {
	kept := ops[:0]
	for i, op := range ops {
		if !dropped[i] {
			kept = append(kept, op)
		}
	}
	return kept
}

// parseRequest reads the kernel's letters for a request: an optional F for a
// flush ahead of it, the operation, an optional F for FUA, then hints (A ahead,
// S sync, M metadata, U atomic). N is an operation without a letter of its own:
// of those, a loop device takes the zeroing of a range only.
//
// A flush ahead of a write and, on a device without FUA, the flush that takes
// FUA's place are requests of their own, with events of their own: the first
// letter of a write is passed over, and FUA counts only where the device has it.
func parseRequest(e event) (workloads.Op, error) {
	if isFlush(e.rwbs) {
		return workloads.Op{Kind: workloads.Flush}, nil
	}
	s := e.rwbs
	op := workloads.Op{Off: int64(e.sector) * workloads.SectorSize, Len: int64(e.sectors) * workloads.SectorSize}
	s = strings.TrimPrefix(s, "F")
	switch {
	case strings.HasPrefix(s, "W"):
		op.Kind, s = workloads.Write, s[1:]
	case strings.HasPrefix(s, "R"):
		op.Kind, s = workloads.Read, s[1:]
	case strings.HasPrefix(s, "D"):
		op.Kind, s = workloads.Discard, strings.TrimPrefix(s[1:], "E")
	case strings.HasPrefix(s, "N"):
		op.Kind, s = workloads.Zero, s[1:]
	default:
		return op, fmt.Errorf("%w: request %q at sector %d is of no known kind", ErrInexact, e.rwbs, e.sector)
	}
	if strings.Trim(s, "FASMU") != "" {
		return op, fmt.Errorf("%w: request %q at sector %d has unknown flags", ErrInexact, e.rwbs, e.sector)
	}
	op.FUA = strings.HasPrefix(s, "F") && op.Kind != workloads.Read
	return op, nil
}

// isFlush reports whether the letters are of a request that is nothing but a
// flush: operation F, with or without a first F.
func isFlush(rwbs string) bool {
	return strings.HasPrefix(rwbs, "F") && strings.Trim(rwbs, "FSM") == ""
}

// assemble joins ops and marks by time into a trace without header.
func assemble(ops []timedOp, marks []timedMark) *trace.Trace {
	t := &trace.Trace{Ops: make([]workloads.Op, 0, len(ops))}
	last := int64(0)
	for _, op := range ops {
		for ; len(marks) > 0 && marks[0].time <= op.time; marks = marks[1:] {
			t.Marks = append(t.Marks, trace.Mark{Name: marks[0].name, At: len(t.Ops)})
		}
		if last != 0 {
			op.Gap = max(0, time.Duration(op.time-last).Round(time.Microsecond))
		}
		last = op.time
		t.Ops = append(t.Ops, op.Op)
	}
	for _, m := range marks {
		t.Marks = append(t.Marks, trace.Mark{Name: m.name, At: len(t.Ops)})
	}
	return t
}
