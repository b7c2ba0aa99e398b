// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// Errors that callers decide on.
var (
	// ErrCorrupt is wrapped when a collected trial is not what it says it is.
	ErrCorrupt = errors.New("corrupt trial")
	// ErrMismatch is wrapped when trials are not parts of one whole: their revisions,
	// suites or settings differ, or one is there twice with different content.
	ErrMismatch = errors.New("trials do not belong together")
)

// Span is the rounds of an experiment that a trial has.
type Span struct {
	Experiment string `json:"experiment"`
	First      int    `json:"first"`
	End        int    `json:"end"`    // the first that it has not
	Rounds     int    `json:"rounds"` // of the whole experiment
}

// Trial is trial.json, the first file of a collected trial: what it is part of, where it
// was carried out, and the sums of its other files.
type Trial struct {
	Format int    `json:"format"`
	Job    string `json:"job"`
	Index  int    `json:"trial"` // from 0
	Count  int    `json:"of"`
	// Plan is that of [runner.Plan], the same for all trials that can be merged.
	Plan  string `json:"plan"`
	Suite string `json:"suite"`
	// Revision is the commit of the program; when files had changed, or it is not known, or
	// only that of the working directory is, the sum of the program is added.
	Revision string `json:"revision"`
	// Kind is the kind of machine, see [results.Environment.Kind]; Machine tells machines
	// apart without naming them.
	Kind    string          `json:"kind"`
	Machine string          `json:"machine"`
	Spans   []Span          `json:"spans"`
	Files   map[string]File `json:"files"`
}

// File is the size and sum of a file.
type File struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// formatVersion is the version of collected trials that this package writes.
const formatVersion = 1

// jobName is what a job may be called: it is a name in all engines, and part of the names
// of objects.
var jobName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$`)

// CheckJob returns an error unless name can be that of a job.
func CheckJob(name string) error {
	if !jobName.MatchString(name) {
		return fmt.Errorf("job %q: a job's name has up to 40 lower-case letters, digits and dashes, begins with a letter and ends with none", name)
	}
	return nil
}

// objectName is the name of the object that a trial is collected as: it depends on nothing
// that may differ when the trial is carried out again.
func objectName(job string, t spec.Trial) string {
	return fmt.Sprintf("%s/trial-%04d-of-%04d.tar.zst", job, t.Index, t.Count)
}

var objectPattern = regexp.MustCompile(`^([^/]+)/trial-(\d{4})-of-(\d{4})\.tar\.zst$`)

// parseObjectName is the inverse of objectName; ok is false for objects of others.
func parseObjectName(name string) (job string, t spec.Trial, ok bool) {
	m := objectPattern.FindStringSubmatch(name)
	if m == nil || CheckJob(m[1]) != nil {
		return "", t, false
	}
	t.Index, _ = strconv.Atoi(m[2])
	t.Count, _ = strconv.Atoi(m[3])
	return m[1], t, t.Index < t.Count
}

// describe makes the trial.json of a run, but for its files.
func describe(job string, t spec.Trial, plan runner.Plan, run *results.Run) (Trial, error) {
	env, err := run.Environment()
	if err != nil {
		return Trial{}, err
	}
	taken, err := t.Take(plan.Experiments)
	if err != nil {
		return Trial{}, err
	}
	m := run.Manifest()
	d := Trial{
		Format: formatVersion, Job: job, Index: t.Index, Count: t.Count, Plan: plan.Digest, Suite: m.Suite,
		Revision: revision(env.Commit, env.RevisionSource, m.Settings[programKey]), Kind: env.Kind(), Machine: m.Settings[machineKey], Files: map[string]File{},
	}
	for _, e := range taken {
		first, end := e.Span()
		d.Spans = append(d.Spans, Span{e.Name, first, end, e.Rounds})
	}
	return d, nil
}

// revision is what a program was built of: the sum of the program stands in where the
// commit, known by the source, does not say it.
func revision(commit, source, program string) string {
	if commit == "" || source == results.FromWorktree || strings.HasSuffix(commit, "-dirty") {
		return strings.TrimSpace(commit + " program " + program)
	}
	return commit
}

// The settings of a trial's run that say who carried it out.
const (
	machineKey = "machine"
	programKey = "program"
)

// machineDigest tells machines apart without naming them: name is the engine's name of the
// machine, or empty for the machine's own identity.
func machineDigest(name string) (string, error) {
	if name == "" {
		id, err := os.ReadFile("/etc/machine-id")
		if name = strings.TrimSpace(string(id)); err != nil || name == "" {
			return "", errors.New("this machine has no /etc/machine-id: name it with --machine")
		}
	}
	sum := sha256.Sum256([]byte("zbench fleet machine " + name))
	return hex.EncodeToString(sum[:6]), nil
}

// programDigest is the sum of the running program.
func programDigest() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("reading this program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading this program: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// check returns an error wrapping [ErrCorrupt] unless the trial can be the one that its
// object's name says, and its run is what it says.
func (d *Trial) check(job string, t spec.Trial, run *results.Run, env results.Environment) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	m := run.Manifest()
	switch {
	case d.Job != job || d.Index != t.Index || d.Count != t.Count:
		return bad("it says that it is trial %d/%d of job %q", d.Index, d.Count, d.Job)
	case d.Suite != m.Suite || d.Machine != m.Settings[machineKey] || d.Kind != env.Kind() || d.Revision != revision(env.Commit, env.RevisionSource, m.Settings[programKey]):
		return bad("what it says of suite, machine or revision is not what its run says")
	case !isDigest(d.Machine) || !isDigest(d.Kind):
		return bad("machine %q or kind %q is no digest", d.Machine, d.Kind)
	}
	for _, p := range d.Spans {
		if p.First < 0 || p.First >= p.End || p.End > p.Rounds || p.Rounds > maxRounds {
			return bad("%s has rounds %d to %d of %d", p.Experiment, p.First, p.End, p.Rounds)
		}
	}
	for file := range d.Files {
		e, ok := results.IsAccountsFile(file)
		if ok && !slices.ContainsFunc(d.Spans, func(p Span) bool { return p.Experiment == e }) {
			return bad("%s is of an experiment that it has no rounds of", file)
		}
	}
	for _, set := range []results.Set{run.Measured(), run.Modelled()} {
		for s := range set.All() {
			if !slices.ContainsFunc(d.Spans, func(p Span) bool {
				return p.Experiment == s.Experiment && p.First <= s.Round && s.Round < p.End
			}) {
				return bad("%s, round %d, is not of its rounds", s.Name(), s.Round)
			}
		}
	}
	return nil
}

// maxRounds bounds the rounds of an experiment, in what is read back.
const maxRounds = 1 << 20

var digestPattern = regexp.MustCompile(`^[0-9a-f]{12}$`)

func isDigest(s string) bool { return digestPattern.MatchString(s) }
