// SPDX-License-Identifier: Apache-2.0

package results

import (
	"bytes"
	"fmt"
	"os"
)

// Excerpt makes dir the record of one experiment of the run, and of nothing else: its
// samples without their histograms, the environment, and the run's name. What dir held of
// the record is replaced, file by file; [Open] reads it. An experiment without samples is
// an error, and dir stays as it is.
func (r *Run) Excerpt(dir, experiment string) error {
	var samples []Sample
	for _, s := range r.samples {
		if s.Experiment == experiment {
			samples = append(samples, s)
		}
	}
	if len(samples) == 0 {
		return fmt.Errorf("run %s has no samples of %s", r.manifest.ID, experiment)
	}
	env, err := r.Environment()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := WriteSamples(&text, []Pair{{"suite", r.manifest.Suite}}, samples); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("recording %s: %w", experiment, err)
	}
	out := &Run{dir: dir}
	m := r.Manifest()
	m.Command, m.Completed = nil, []string{experiment}
	if err := out.WriteFile(samplesFile, text.Bytes()); err != nil {
		return err
	}
	if err := out.SetEnvironment(env); err != nil {
		return err
	}
	return out.writeManifest(m)
}
