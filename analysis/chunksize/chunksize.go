// SPDX-License-Identifier: Apache-2.0

// Package chunksize chooses among chunk sizes by what they cost in time and in space.
//
// It owns the rule, and the sentence that gives its reason. It measures and prints
// nothing: zbench tune asks it about a trace, and the comparison of runs about what was
// recorded at several sizes. Its functions are pure and safe for concurrent use.
package chunksize

import (
	"fmt"

	"zumastor.org/zumastor/analysis/quantity"
)

// Choice is what a chunk size costs.
type Choice struct {
	Chunk int64 // bytes
	// Time is of any unit, the same for all.
	Time float64
	// Space is what the snapshots take, in bytes; zero for all where it is not known.
	Space int64
}

// within is how much slower than the fastest a chunk size may be to be preferred for
// the space that it saves.
const within = 0.05

// Best returns the number of the one to use: of those that are within 5 % of the fastest,
// the one that takes the least space, and where that is not known, the smallest. It is -1
// when there are none.
func Best(all []Choice) int {
	if len(all) == 0 {
		return -1
	}
	fastest, best := all[Fastest(all)], -1
	for i, c := range all {
		if Near(c.Time, fastest.Time) && (best < 0 || less(c, all[best])) {
			best = i
		}
	}
	return best
}

// Near reports whether a time is within 5 % of the fastest.
func Near(time, fastest float64) bool { return time <= (1+within)*fastest }

func less(a, b Choice) bool {
	if a.Space != b.Space {
		return a.Space < b.Space
	}
	return a.Chunk < b.Chunk
}

// Fastest returns the number of the first that takes the least time, -1 when there are none.
func Fastest(all []Choice) int {
	fastest := -1
	for i, c := range all {
		if fastest < 0 || c.Time < all[fastest].Time {
			fastest = i
		}
	}
	return fastest
}

// Reason says why Best is best, as the end of a sentence about what it costs.
func Reason(all []Choice) string {
	best, fastest := Best(all), Fastest(all)
	switch {
	case best < 0:
		return ""
	case best == fastest && all[best].Space > 0:
		return "the least of all, and no other within 5 % of it takes less space"
	case best == fastest:
		return "the least of all, and no smaller size is within 5 % of it"
	case all[fastest].Space > 0:
		return fmt.Sprintf("within 5 %% of the fastest, %s, which takes %s of space", size(all[fastest].Chunk), quantity.Value(float64(all[fastest].Space), "B"))
	}
	return fmt.Sprintf("within 5 %% of the fastest, %s, and smaller chunks copy less", size(all[fastest].Chunk))
}

func size(n int64) string { return quantity.Bytes(fmt.Sprint(n)) }
