// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"zumastor.org/zumastor/analysis/quantity"
)

// barWidth is the length of the longest bar, in characters.
const barWidth = 40

// sectorSize is the block layer's, whatever that of the device.
const sectorSize = 512

// Show writes a reading of the time given as text: each series with its
// percentiles, those of times and depth with their histogram too.
func (r Reading) Show(w io.Writer, over time.Duration) error {
	var b strings.Builder
	for i := range r.Series {
		r.Series[i].show(&b, over)
	}
	for _, device := range slices.Sorted(maps.Keys(r.InFlight)) {
		if n := r.InFlight[device]; n > 0 {
			fmt.Fprintf(&b, "%s: %d in flight\n", device, n)
		}
	}
	if len(r.Series) == 0 {
		fmt.Fprintln(&b, "nothing happened")
	}
	if r.Lost > 0 {
		fmt.Fprintf(&b, "%d not counted, for want of room\n", r.Lost)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Title names a series: "block vda write latency".
func (s *Series) Title() string {
	words := []string{s.Probe, s.Subject, s.Kind, s.Metric}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" || w == "any" }), " ")
}

func (s *Series) show(b *strings.Builder, over time.Duration) {
	fmt.Fprintf(b, "%s: %d", s.Title(), s.Count)
	if seconds := over.Seconds(); seconds > 0 {
		fmt.Fprintf(b, ", %.1f/s", float64(s.Count)/seconds)
		if s.Unit == Bytes {
			fmt.Fprintf(b, ", %s/s", quantity.Value(float64(s.Sum)/seconds, "B"))
		}
	}
	if s.Metric == "distance" && s.Count > 0 {
		fmt.Fprintf(b, ", %.0f%% sequential", 100*float64(s.Slots[0])/float64(s.Count))
	}
	fmt.Fprintf(b, "  p50 %s  p90 %s  p99 %s  max %s\n", s.Unit.format(s.Quantile(0.5)), s.Unit.format(s.Quantile(0.9)),
		s.Unit.format(s.Quantile(0.99)), s.Unit.format(s.Max))
	if s.Unit != Nanoseconds && s.Unit != Operations {
		return
	}
	octaves := s.Octaves()
	most := uint64(1)
	for _, o := range octaves {
		most = max(most, o.Count)
	}
	for _, o := range octaves {
		bar := strings.Repeat("*", int((o.Count*barWidth+most-1)/most))
		fmt.Fprintf(b, "  %9s .. %-9s |%-*s| %d\n", s.Unit.format(o.Low), s.Unit.format(o.High), barWidth, bar, o.Count)
	}
}

// format writes a value with its unit.
func (u Unit) format(v uint64) string {
	if u == Sectors {
		return quantity.Value(float64(v)*sectorSize, string(Bytes))
	}
	return quantity.Value(float64(v), string(u))
}
