// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"io"
	"math/bits"
	"time"

	"zumastor.org/zumastor/workloads"
)

// Info is what a stream of ops amounts to. Shares are of 1.
type Info struct {
	Ops   [workloads.Kinds]int64 // by kind
	Bytes [workloads.Kinds]int64 // by kind
	FUA   int64                  // ops with FUA
	End   int64                  // the first byte behind all that was touched
	Span  time.Duration          // all gaps together

	Sequential float64 // share of writes that begin where the write before ended
	Footprint  int64   // bytes of distinct sectors written
	Rewritten  float64 // share of written bytes that were written before in the stream
	// WriteSizes counts writes by the power of two that their length reaches:
	// WriteSizes[i] those from 2^i to 2^(i+1)-1 bytes.
	WriteSizes [64]int64
}

// Stat drains s and returns its figures. It takes memory of about a 4000th of
// the footprint.
func Stat(s workloads.Stream) (Info, error) {
	var (
		in         Info
		written    = make(sectorSet)
		sequential int64
		end        = int64(-1)
	)
	for op, ok := s.Next(); ok; op, ok = s.Next() {
		in.Ops[op.Kind]++
		in.Bytes[op.Kind] += op.Len
		in.Span += op.Gap
		in.End = max(in.End, op.End())
		if op.FUA {
			in.FUA++
		}
		if op.Kind != workloads.Write {
			continue
		}
		if op.Off == end {
			sequential++
		}
		end = op.End()
		in.WriteSizes[bits.Len64(uint64(op.Len))-1]++
		in.Footprint += written.add(op) * workloads.SectorSize
	}
	if n := in.Ops[workloads.Write]; n > 0 {
		in.Sequential = float64(sequential) / float64(n)
		in.Rewritten = 1 - float64(in.Footprint)/float64(in.Bytes[workloads.Write])
	}
	return in, workloads.Err(s)
}

// sectorSet is a set of sectors: a bit each, in pages of 4096 sectors.
type sectorSet map[int64]*[64]uint64

// add returns how many sectors of the op were not in the set.
func (s sectorSet) add(op workloads.Op) int64 {
	added := int64(0)
	for sector := op.Off / workloads.SectorSize; sector < op.End()/workloads.SectorSize; sector++ {
		page := s[sector>>12]
		if page == nil {
			page = new([64]uint64)
			s[sector>>12] = page
		}
		word, bit := &page[sector>>6&63], uint64(1)<<(sector&63)
		if *word&bit == 0 {
			*word |= bit
			added++
		}
	}
	return added
}

// WriteText writes the figures for a reader, a line each.
func (in Info) WriteText(w io.Writer) error {
	for k := range workloads.Kind(workloads.Kinds) {
		if in.Ops[k] > 0 {
			if _, err := fmt.Fprintf(w, "%-12s %d ops, %.1f MiB\n", k, in.Ops[k], mib(in.Bytes[k])); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "fua          %d ops\nend          %.1f MiB\nspan         %v\nsequential   %.1f %% of writes\nfootprint    %.1f MiB\nrewritten    %.1f %% of bytes\n",
		in.FUA, mib(in.End), in.Span.Round(time.Millisecond), 100*in.Sequential, mib(in.Footprint), 100*in.Rewritten)
	for i, n := range in.WriteSizes {
		if n > 0 && err == nil {
			_, err = fmt.Fprintf(w, "write size   %8d B and up: %d\n", int64(1)<<i, n)
		}
	}
	return err
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
