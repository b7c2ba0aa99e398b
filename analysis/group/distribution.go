// SPDX-License-Identifier: Apache-2.0

package group

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"

	"zumastor.org/zumastor/results"
)

// Distribution is the latencies of all rounds of one setting, in nanoseconds.
type Distribution struct {
	Name    string
	Latency *hdrhistogram.Histogram
}

// Distributions are latency distributions of one kind.
type Distributions struct {
	Kind results.Kind
	List []Distribution
}

// Latencies merges the histograms of the samples chosen by where, one
// distribution for each value of the key line, in the order recorded. It fails,
// wrapping [ErrMixed], when a distribution would be of several settings.
func Latencies(set results.Set, where Selector, line string) (Distributions, error) {
	out := Distributions{Kind: set.Kind()}
	at := map[string]int{}
	names := map[string]string{}
	for s := range set.Filter(where.Match).All() {
		if s.Latency == nil || s.Latency.TotalCount() == 0 {
			continue
		}
		key := setting(s, line)
		i, known := at[key]
		if !known {
			i = len(out.List)
			at[key], names[key] = i, s.Name()
			out.List = append(out.List, Distribution{key, results.NewLatency()})
		}
		if names[key] != s.Name() {
			return Distributions{}, fmt.Errorf("%w: %s and %s", ErrMixed, names[key], s.Name())
		}
		out.List[i].Latency.Merge(s.Latency)
	}
	return out, nil
}
