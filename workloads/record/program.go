// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/asm"
)

// field is where a tracepoint's record holds something.
type field struct {
	offset int16
	size   int
}

// parseFormat reads a tracepoint's format file.
func parseFormat(text string) (map[string]field, error) {
	fields := make(map[string]field)
	for line := range strings.Lines(text) {
		decl, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "field:"), ";")
		if !ok || !strings.Contains(rest, "offset:") {
			continue
		}
		words := strings.Fields(decl)
		name, _, _ := strings.Cut(words[len(words)-1], "[")
		var f field
		for _, part := range strings.Split(rest, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(part), ":")
			n, err := strconv.Atoi(value)
			switch {
			case key == "offset" && err == nil && n >= 0 && n < 1<<15:
				f.offset = int16(n)
			case key == "size" && err == nil:
				f.size = n
			case key == "offset" || key == "size":
				return nil, fmt.Errorf("tracepoint format: cannot read %q", strings.TrimSpace(line))
			}
		}
		fields[name] = f
	}
	return fields, nil
}

// Registers that keep their values across calls.
const (
	record = asm.R6 // of the tracepoint
	sample = asm.R7 // the event in the ring buffer
)

// program is the eBPF program of one tracepoint. Of records of the device dev it
// copies the fields into an event, or counts them as lost when the ring buffer is
// full. Of submitted bios it takes the empty ones.
func program(kind eventKind, dev uint32, fields map[string]field, ring, lost int) (asm.Instructions, error) {
	if err := checkFields(kind, fields); err != nil {
		return nil, err
	}
	ins := asm.Instructions{
		asm.Mov.Reg(record, asm.R1),
		asm.LoadMem(asm.R1, record, fields["dev"].offset, asm.Word),
		asm.LoadImm(asm.R2, int64(dev), asm.DWord),
		asm.JNE.Reg(asm.R1, asm.R2, "exit"),
	}
	if kind == queued {
		ins = append(ins, asm.LoadMem(asm.R1, record, fields["nr_sector"].offset, asm.Word),
			asm.JNE.Imm(asm.R1, 0, "exit"))
	}
	ins = append(ins,
		asm.LoadMapPtr(asm.R1, ring),
		asm.Mov.Imm(asm.R2, eventSize),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "lost"),
		asm.Mov.Reg(sample, asm.R0),
	)
	ins = append(ins, fill(kind, fields)...)
	return append(ins,
		asm.Mov.Reg(asm.R1, sample),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufSubmit.Call(),
		asm.Ja.Label("exit"),

		asm.StoreImm(asm.RFP, -4, 0, asm.Word).WithSymbol("lost"),
		asm.LoadMapPtr(asm.R1, lost),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),

		asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
		asm.Return(),
	), nil
}

func checkFields(kind eventKind, fields map[string]field) error {
	want := map[string]int{"dev": 4, "sector": 8, "nr_sector": 4}
	if kind == failed {
		want["error"] = 4
	}
	for name, size := range want {
		if fields[name].size != size {
			return fmt.Errorf("tracepoint field %s has %d bytes instead of %d", name, fields[name].size, size)
		}
	}
	if n := fields["rwbs"].size; n == 0 || n > maxRWBS {
		return fmt.Errorf("tracepoint field rwbs has %d bytes instead of 1 to %d", n, maxRWBS)
	}
	return nil
}

// fill copies the record into the sample, every byte of which it writes; the
// verifier allows aligned loads only, hence rwbs by the byte.
func fill(kind eventKind, fields map[string]field) asm.Instructions {
	ins := asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(sample, 0, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, record, fields["sector"].offset, asm.DWord),
		asm.StoreMem(sample, 8, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, record, fields["nr_sector"].offset, asm.Word),
		asm.StoreMem(sample, 16, asm.R1, asm.Word),
		asm.StoreImm(sample, 20, int64(kind), asm.Word),
		asm.Mov.Imm(asm.R1, 0),
	}
	if kind == failed {
		ins = append(ins, asm.LoadMem(asm.R1, record, fields["error"].offset, asm.Word))
	}
	ins = append(ins, asm.StoreMem(sample, 24, asm.R1, asm.Word))
	rwbs := fields["rwbs"]
	for i := range int16(eventSize - atRWBS) {
		if int(i) < rwbs.size {
			ins = append(ins, asm.LoadMem(asm.R1, record, rwbs.offset+i, asm.Byte),
				asm.StoreMem(sample, atRWBS+i, asm.R1, asm.Byte))
		} else {
			ins = append(ins, asm.StoreImm(sample, atRWBS+i, 0, asm.Byte))
		}
	}
	return ins
}
