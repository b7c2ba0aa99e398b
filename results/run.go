// SPDX-License-Identifier: Apache-2.0

package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names within a run's directory.
const (
	manifestFile    = "run.json"
	environmentFile = "environment.json"
	samplesFile     = "samples.txt"
	histogramsFile  = "histograms.json.zst"
	// SummaryFile holds the goals and what was reached.
	SummaryFile = "summary.json"
	// TrialSetting is the setting of a run that is a part of a larger one, of which others
	// have the rest.
	TrialSetting = "trial"
	// Latest is the name of the link to the newest run beside the runs.
	Latest = "latest"
)

// formatVersion is the version of the record format that this package writes.
const formatVersion = 1

// Manifest is run.json: what was run and what of it is done.
type Manifest struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	Suite  string `json:"suite"`
	// Command is the command line, for the record only.
	Command []string `json:"command,omitempty"`
	// Settings are those that change what is measured; a run is only resumed
	// with the settings that it was started with.
	Settings map[string]string `json:"settings,omitempty"`
	Start    time.Time         `json:"start"`
	// End is zero while the run is not finished.
	End time.Time `json:"end,omitzero"`
	// Completed lists the experiments that need not run again.
	Completed []string `json:"completed"`
	// Merged says that zbench merge made the run of trials: nothing is added to it.
	Merged bool `json:"merged,omitempty"`
	// Looked says of experiments, by name, how it was found out where the time of their
	// requests went, or why it was not; nothing of those whose every round has accounts.
	Looked map[string]string `json:"looked,omitempty"`
	// Warnings are about the run as a whole: fallbacks, missing tools.
	Warnings []string `json:"warnings,omitempty"`
}

// Run is a run's record, open for reading and appending.
type Run struct {
	dir      string
	manifest Manifest
	samples  []Sample
}

// Create makes the record of a new run in a directory of its own under root, and
// points root/latest at it. An empty m.ID becomes the start time in UTC and the
// suite; an empty m.Start becomes now. An ID that exists is an error.
func Create(root string, m Manifest) (*Run, error) {
	if m.Start.IsZero() {
		m.Start = time.Now().UTC().Truncate(time.Second)
	}
	named := m.ID != ""
	if !named {
		m.ID = m.Start.UTC().Format("20060102-150405") + "-" + m.Suite
	}
	if !isWord(m.ID) || m.ID == Latest || m.ID[0] == '.' {
		return nil, fmt.Errorf("run %q: a run's name has letters, digits and ._+- only, and is not %q", m.ID, Latest)
	}
	m.Format = formatVersion
	m.Completed = []string{}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("creating run %s: %w", m.ID, err)
	}
	dir := filepath.Join(root, m.ID)
	err := os.Mkdir(dir, 0o755)
	for n := 2; !named && errors.Is(err, fs.ErrExist); n++ { // another began in the same second
		dir = filepath.Join(root, m.ID+"-"+strconv.Itoa(n))
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("creating run %s: %w", m.ID, err)
	}
	m.ID = filepath.Base(dir)
	r := &Run{dir: dir, manifest: m}
	if err := r.writeManifest(m); err != nil {
		return nil, err
	}
	if err := link(root, m.ID); err != nil {
		return nil, fmt.Errorf("pointing %s at run %s: %w", Latest, m.ID, err)
	}
	return r, nil
}

// link points root/latest at the run id, replacing an older link at once.
func link(root, id string) error {
	tmp := filepath.Join(root, "."+Latest+".tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(id, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(root, Latest))
}

// Find returns the directory of the run that name means: a run's ID under root,
// "latest" or "" for the newest, or the path of a run's directory.
func Find(root, name string) (string, error) {
	if name == "" {
		name = Latest
	}
	for _, dir := range []string{filepath.Join(root, name), name} {
		if _, err := os.Stat(filepath.Join(dir, manifestFile)); err == nil {
			return filepath.EvalSymlinks(dir)
		}
	}
	return "", fmt.Errorf("run %q: neither a run under %s nor the directory of one", name, root)
}

// Open reads the record in dir. Errors about its content wrap [ErrCorrupt].
func Open(dir string) (*Run, error) {
	r := &Run{dir: dir}
	if err := r.ReadJSON(manifestFile, &r.manifest); err != nil {
		return nil, err
	}
	if r.manifest.Format != formatVersion {
		return nil, fmt.Errorf("opening run %s: %w: format %d, this program reads %d", dir, ErrCorrupt, r.manifest.Format, formatVersion)
	}
	text, err := readOrEmpty(filepath.Join(dir, samplesFile))
	if err != nil {
		return nil, fmt.Errorf("opening run %s: %w", dir, err)
	}
	if r.samples, err = ReadSamples(text, samplesFile); err != nil {
		return nil, fmt.Errorf("opening run %s: %w", dir, err)
	}
	if err := r.readHistograms(); err != nil {
		return nil, fmt.Errorf("opening run %s: %w", dir, err)
	}
	return r, nil
}

func (r *Run) readHistograms() error {
	data, err := readOrEmpty(filepath.Join(r.dir, histogramsFile))
	if err != nil || len(data) == 0 {
		return err
	}
	m, err := decodeHistograms(data)
	if err != nil {
		return err
	}
	for i := range r.samples {
		r.samples[i].Latency = m[histogramKey(r.samples[i])]
	}
	return nil
}

func readOrEmpty(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// RecordFiles returns the names of the files that are the record of the run in dir: not
// those that are made from it. They have no folders.
func RecordFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading run: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && IsRecordFile(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// IsRecordFile reports whether a file of that name, in a run's directory, is of the record.
func IsRecordFile(name string) bool {
	_, accounts := IsAccountsFile(name)
	return accounts || IsProbesFile(name) || slices.Contains([]string{manifestFile, environmentFile, samplesFile, histogramsFile}, name)
}

// IsProbesFile reports whether a file of that name, in a run's directory, is what eBPF
// probes counted while an experiment ran.
func IsProbesFile(name string) bool {
	experiment, ok := strings.CutPrefix(name, "probes-")
	return ok && isWord(experiment) && strings.HasSuffix(experiment, ".json")
}

// Dir returns the run's directory.
func (r *Run) Dir() string { return r.dir }

// Manifest returns a copy of run.json.
func (r *Run) Manifest() Manifest {
	m := r.manifest
	m.Completed, m.Looked, m.Warnings = slices.Clone(m.Completed), maps.Clone(m.Looked), slices.Clone(m.Warnings)
	return m
}

// Measured returns the measured samples.
func (r *Run) Measured() Set { return r.set(Measured) }

// Modelled returns the modelled samples.
func (r *Run) Modelled() Set { return r.set(Modelled) }

func (r *Run) set(k Kind) Set {
	return Set{k, r.samples}.Filter(func(s Sample) bool { return s.Kind == k })
}

// Append records the samples, all or none, durably. Append a whole round of an
// experiment at once: an interrupted run then holds whole rounds only.
//
// Note: both sample files are written anew by each call. They are small (some
// 300 bytes a sample, 2 KiB a histogram) and an append in place could tear.
func (r *Run) Append(samples ...Sample) error {
	for _, s := range samples {
		if err := s.Validate(); err != nil {
			return err
		}
	}
	return r.replace(slices.Concat(r.samples, samples))
}

// Supersede is Append without the samples that the run had of the same series.
func (r *Run) Supersede(samples ...Sample) error {
	measured := map[string]bool{}
	for _, s := range samples {
		measured[s.Name()] = true
	}
	before := r.samples
	r.samples = slices.DeleteFunc(slices.Clone(before), func(s Sample) bool { return measured[s.Name()] })
	err := r.Append(samples...)
	if err != nil {
		r.samples = before
	}
	return err
}

// replace makes all the run's samples. Histograms go first: one without its
// sample is ignored, a sample without its histogram would be incomplete.
func (r *Run) replace(all []Sample) error {
	packed, err := encodeHistograms(all)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	header := []Pair{{"goos", runtime.GOOS}, {"goarch", runtime.GOARCH}, {"pkg", "zumastor.org/zumastor"}, {"suite", r.manifest.Suite}}
	if err := WriteSamples(&text, header, all); err != nil {
		return err
	}
	if err := r.WriteFile(histogramsFile, packed); err != nil {
		return err
	}
	if err := r.WriteFile(samplesFile, text.Bytes()); err != nil {
		return err
	}
	r.samples = all
	return nil
}

// Rounds returns how many rounds of the experiment are recorded, as one more
// than the highest round: the round to go on with.
func (r *Run) Rounds(experiment string) int {
	n := 0
	for _, s := range r.samples {
		if s.Experiment == experiment {
			n = max(n, s.Round+1)
		}
	}
	return n
}

// Complete marks the experiment as done, so that a resumed run skips it.
func (r *Run) Complete(experiment string) error {
	if r.Completed(experiment) {
		return nil
	}
	m := r.Manifest()
	m.Completed = append(m.Completed, experiment)
	return r.writeManifest(m)
}

// Completed says whether the experiment is done.
func (r *Run) Completed(experiment string) bool {
	return slices.Contains(r.manifest.Completed, experiment)
}

// Partial says in words what is missing of a run that has ended, and what to do about it:
// the rest of the rounds for a trial, those of trials that are missing for a merge. It is ""
// for a whole run.
func (r *Run) Partial() string {
	if trial := r.manifest.Settings[TrialSetting]; trial != "" && !strings.HasSuffix(trial, "/1") {
		return "only part " + trial + " of a run, which zbench merge puts together"
	}
	var missing []string
	for _, s := range r.samples {
		if r.manifest.Merged && !r.Completed(s.Experiment) && !slices.Contains(missing, s.Experiment) {
			missing = append(missing, s.Experiment)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "this machine has not all rounds of " + strings.Join(missing, ", ") +
		": zbench merge again when all trials are there, with --pool if several machines of one kind share them"
}

// Warn records a warning about the run, once.
func (r *Run) Warn(text string) error {
	if slices.Contains(r.manifest.Warnings, text) {
		return nil
	}
	m := r.Manifest()
	m.Warnings = append(m.Warnings, text)
	return r.writeManifest(m)
}

// SetLooked records how it was found out where the time of an experiment's requests went.
func (r *Run) SetLooked(experiment, how string) error {
	m := r.Manifest()
	if m.Looked == nil {
		m.Looked = map[string]string{}
	}
	m.Looked[experiment] = how
	return r.writeManifest(m)
}

// Finish records the end of the run.
func (r *Run) Finish() error {
	m := r.Manifest()
	m.End = time.Now().UTC().Truncate(time.Second)
	return r.writeManifest(m)
}

func (r *Run) writeManifest(m Manifest) error {
	if err := r.WriteJSON(manifestFile, m); err != nil {
		return err
	}
	r.manifest = m
	return nil
}

// SetEnvironment records where the run takes place. Call it again at the
// end of the run with LoadEnd set.
func (r *Run) SetEnvironment(e Environment) error { return r.WriteJSON(environmentFile, e) }

// Environment returns what [Run.SetEnvironment] recorded; the zero value when
// nothing was.
func (r *Run) Environment() (Environment, error) {
	var e Environment
	err := r.ReadJSON(environmentFile, &e)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	return e, err
}

// WriteJSON replaces a file of the run by v, durably.
func (r *Run) WriteJSON(name string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return r.WriteFile(name, b.Bytes())
}

// ReadJSON reads a file of the run into v. An error about its content wraps
// [ErrCorrupt], one about a missing file [fs.ErrNotExist].
func (r *Run) ReadJSON(name string, v any) error {
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return fmt.Errorf("reading run: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading %s of run %s: %w: %w", name, r.dir, ErrCorrupt, err)
	}
	return nil
}

// WriteFile replaces a file of the run, durably and at once: whoever reads sees
// the old content or the new. The name is relative to the run's directory, within
// it, and may have folders, which are made.
func (r *Run) WriteFile(name string, data []byte) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("writing %s: the name leaves the run's directory", name)
	}
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := writeAtomic(path, data); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
