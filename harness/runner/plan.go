// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// Settings returns what a run records of its options: a run is only resumed with equal ones.
func Settings(o Options) map[string]string {
	s := settings(o)
	if o.Trial.Count > 0 {
		s[results.TrialSetting] = o.Trial.String()
	}
	maps.Copy(s, o.Origin)
	return s
}

// settings are those that all trials of a plan share.
func settings(o Options) map[string]string {
	return map[string]string{
		"experiments": strings.Join(o.Experiments, " "), "seed": fmt.Sprint(o.Seed), "device": o.Bed.Device,
		"chunks": fmt.Sprint(o.Axes.Chunks), "placements": fmt.Sprint(o.Axes.Placements), "snapshots": fmt.Sprint(o.Axes.Snapshots),
		"nvram": o.Bed.NVRAM, "pmem": o.Bed.PMem,
	}
}

// TrialWarning is what the run of a trial is marked with: what is computed of it alone is
// of a part of the rounds. It is empty for all of them.
func TrialWarning(t spec.Trial) string {
	if t.Count <= 1 {
		return ""
	}
	return fmt.Sprintf("this is trial %s: a part of the rounds", t)
}

// Plan is all that a suite of experiments is to do, whatever trials it is divided into.
type Plan struct {
	Experiments []spec.Experiment
	Rounds      int
	// Digest is the same for plans of equal experiments, at equal settings, alone.
	Digest string
}

// PlanOf returns the plan that options amount to. It reads nothing but the experiments.
func PlanOf(o Options) (Plan, error) {
	all, err := plan(o)
	if err != nil {
		return Plan{}, err
	}
	text, err := json.Marshal(struct {
		Suite       spec.Suite
		Settings    map[string]string
		Experiments []spec.Experiment
	}{o.Suite, settings(o), all})
	if err != nil {
		return Plan{}, err
	}
	sum := sha256.Sum256(text)
	return Plan{Experiments: all, Rounds: spec.Rounds(all), Digest: hex.EncodeToString(sum[:])}, nil
}
