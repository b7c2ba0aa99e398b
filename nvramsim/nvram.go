// SPDX-License-Identifier: Apache-2.0

package nvramsim

import "time"

// NVRAMParams describes battery-backed memory behind a block interface.
type NVRAMParams struct {
	Size    int64
	Latency time.Duration // of any command
	Rate    int64         // bytes a second
}

// TypicalNVRAM returns an NVRAM card of 8 GiB on PCIe: data sheets of such cards
// claim latencies of 5 to 15 µs through the block layer and a few GB/s.
func TypicalNVRAM() NVRAMParams {
	return NVRAMParams{Size: 8 << 30, Latency: 10 * time.Microsecond, Rate: 2e9}
}

// NewNVRAM returns battery-backed memory: a write is durable when it returns, so
// the backing of its partitions must be too (memdev.New or Machine.New, not the
// volatile kind), and a flush takes no time at all.
func NewNVRAM(clock *Clock, p NVRAMParams) *Model {
	checkSize("NVRAM", p.Size)
	return &Model{clock: clock, size: p.Size, stats: new(Stats), mech: nvram{p}}
}

// nvram serves one command after another.
type nvram struct{ p NVRAMParams }

func (v nvram) do(now int64, reqs []request) int64 {
	for _, r := range reqs {
		now += int64(v.p.Latency) + atRate(r.n, v.p.Rate)
	}
	return now
}

func (v nvram) flush(now int64) int64 { return now }

func (v nvram) zero(now int64, _, n int64) int64 {
	return now + int64(v.p.Latency) + atRate(n, v.p.Rate)
}

func (v nvram) discard(now int64, _, _ int64) int64 { return now + int64(v.p.Latency) }
