// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"fmt"
	"log"
	"os"

	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/results"
)

// A harness records a round at a time, marks experiments as complete and makes
// the report at the end.
func Example() {
	root, err := os.MkdirTemp("", "runs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	run, err := results.Create(root, results.Manifest{ID: "first", Suite: "smoke"})
	if err != nil {
		log.Fatal(err)
	}
	for round := run.Rounds("E6"); round < 6; round++ {
		if err := run.Append(oneRound(round)...); err != nil {
			log.Fatal(err)
		}
	}
	if err := run.Complete("E6"); err != nil {
		log.Fatal(err)
	}
	if err := run.Finish(); err != nil {
		log.Fatal(err)
	}
	if err := report.Write(run); err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Rounds("E6"), run.Measured().Len(), run.Completed("E6"))
	// Output: 6 12 true
}

// oneRound stands for running each variant once, in turns.
func oneRound(round int) []results.Sample {
	var samples []results.Sample
	for _, variant := range []string{"raw", "inline"} {
		s := results.Sample{
			Experiment: "E6", Kind: results.Measured, Round: round, N: 1000,
			Config:  results.Conf("op", "rewrite", "variant", variant, "chunk", "65536", "qd", "32"),
			Values:  map[string]float64{results.NsPerOp: 20_000, results.IOPS: 50_000, results.AllocsPerOp: 0},
			Latency: results.NewLatency(),
		}
		for range s.N {
			_ = s.Latency.RecordValue(640_000) // nanoseconds
		}
		s.SetPercentiles()
		samples = append(samples, s)
	}
	return samples
}
