// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/harness/spec"
)

// ErrRender is wrapped when a job cannot be rendered as it is wanted.
var ErrRender = errors.New("bad job")

// Engine is what runs the job.
type Engine string

// The engines.
const (
	Nomad      Engine = "nomad"
	Kubernetes Engine = "kubernetes"
	Slurm      Engine = "slurm"
)

// JobSpec says what job is rendered. Text has no characters that mean something to an
// engine or its language: no quotes, dollars, backslashes, percents or control characters.
type JobSpec struct {
	Engine Engine
	Name   string // see [CheckJob]
	Count  int    // of trials
	To     string // a place, see [Open]; a directory is to be at the same path on all machines
	Region string // of the bucket; may be empty
	Args   []string
	// Image is of containers; Program is in it, or at that path on the machines.
	Image, Program string
	// Select chooses machines: node attributes of Nomad, labels of Kubernetes, options of
	// sbatch for Slurm (constraint, partition, nodelist, account, qos, time).
	Select []Choice
	// Scratch is a directory on the machines, for the files that are measured; "" for one
	// of the engine's.
	Scratch string
	// Credentials names where the engine keeps the bucket's keys: a variable of Nomad, a
	// secret of Kubernetes, a file to source on the machines of Slurm. "" for the default.
	Credentials string
	MemoryMiB   int
	Privileged  bool // containers may use the machine's devices
}

// Choice is a key and the value that a machine must have of it.
type Choice struct{ Key, Value string }

//go:embed jobs
var jobs embed.FS

var files = map[Engine]string{Nomad: "nomad.hcl", Kubernetes: "kubernetes.yaml", Slurm: "slurm.sh"}

// Render writes the job in the engine's language. It reads no credentials and writes none.
// What cannot be rendered is an error wrapping [ErrRender], and nothing is written.
func Render(w io.Writer, j JobSpec) error {
	if err := j.check(); err != nil {
		return err
	}
	t, err := template.ParseFS(jobs, path.Join("jobs", files[j.Engine]))
	if err != nil {
		return err
	}
	if j.Credentials == "" {
		j.Credentials = map[Engine]string{Nomad: "nomad/jobs/" + j.Name, Kubernetes: "zbench-s3"}[j.Engine]
	}
	j.Program = cmp.Or(j.Program, "zbench")
	j.MemoryMiB = cmp.Or(j.MemoryMiB, 4096)
	var text strings.Builder
	if err := t.Execute(&text, view{j, storage.IsS3(j.To), j.Count - 1, j.mounts()}); err != nil {
		return err
	}
	_, err = io.WriteString(w, text.String())
	return err
}

// view is what templates see.
type view struct {
	JobSpec
	S3     bool
	Last   int      // trial
	Mounts []string // directories of the machine that a container needs
}

// mounts returns the directories of the machine that a container is to see at their paths.
func (j JobSpec) mounts() []string {
	var m []string
	if !storage.IsS3(j.To) {
		m = append(m, j.To)
	}
	if j.Scratch != "" {
		m = append(m, j.Scratch)
	}
	if j.Privileged {
		m = append(m, "/dev")
	}
	return m
}

var (
	plain     = regexp.MustCompile(`^[^"'\\$` + "`" + `%{}\x00-\x1f\x7f-\x{10ffff}]+$`)
	imageName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)
	selectKey = map[Engine]*regexp.Regexp{
		Nomad:      regexp.MustCompile(`^(node|attr|meta)\.[A-Za-z0-9._-]+$`),
		Kubernetes: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`),
		Slurm:      regexp.MustCompile(`^(constraint|partition|nodelist|account|qos|time)$`),
	}
	selectValue = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:,&|*/-]*$`)
	credentials = map[Engine]*regexp.Regexp{
		Nomad:      regexp.MustCompile(`^[A-Za-z0-9_~-][A-Za-z0-9_~/-]*$`),
		Kubernetes: regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`),
		Slurm:      regexp.MustCompile(`^/`),
	}
)

// check returns an error wrapping [ErrRender] unless the job can be rendered.
func (j JobSpec) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRender, fmt.Sprintf(format, args...))
	}
	if files[j.Engine] == "" {
		return bad("no engine %q: there are %s, %s and %s", j.Engine, Nomad, Kubernetes, Slurm)
	}
	if err := CheckJob(j.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrRender, err)
	}
	for _, text := range append([]string{j.To, j.Region, j.Program, j.Scratch, j.Credentials}, j.Args...) {
		if text != "" && !plain.MatchString(text) {
			return bad("%q has a character that means something to engines: use letters, digits and .,:/_-=@+", text)
		}
	}
	switch {
	case j.Count < 1 || j.Count > spec.MaxTrials:
		return bad("%d trials: there are 1 to %d", j.Count, spec.MaxTrials)
	case !storage.IsS3(j.To) && !cleanAbsolute(j.To):
		return bad("%q is neither the path of a directory that all machines share, from /, nor a bucket such as s3://BUCKET/PREFIX", j.To)
	case j.Scratch != "" && !cleanAbsolute(j.Scratch):
		return bad("scratch %q is no path from /", j.Scratch)
	case j.Engine == Kubernetes && j.Image == "":
		return bad("Kubernetes runs images: name one with --image")
	case j.Engine == Slurm && j.Image != "":
		return bad("Slurm runs programs: name one that is on all machines with --binary, not an image")
	case j.Image != "" && !imageName.MatchString(j.Image):
		return bad("image %q is not such as registry/name:tag", j.Image)
	case j.Credentials != "" && !credentials[j.Engine].MatchString(j.Credentials):
		return bad("credentials %q: want the name of a variable (nomad) or of a secret (kubernetes), or the path of a file (slurm); never the keys themselves", j.Credentials)
	}
	for _, c := range j.Select {
		if !selectKey[j.Engine].MatchString(c.Key) || !selectValue.MatchString(c.Value) {
			return bad("cannot select machines by %s=%s: %s", c.Key, c.Value, selectHelp[j.Engine])
		}
	}
	if storage.IsS3(j.To) {
		if _, err := storage.ParseS3(j.To); err != nil {
			return fmt.Errorf("%w: %w", ErrRender, err)
		}
	}
	return nil
}

var selectHelp = map[Engine]string{
	Nomad:      "want an attribute of nodes such as node.class=bench or attr.cpu.arch=amd64",
	Kubernetes: "want a label of nodes such as kubernetes.io/arch=amd64",
	Slurm:      "want constraint, partition, nodelist, account, qos or time, such as constraint=epyc",
}

func cleanAbsolute(name string) bool {
	return filepath.IsAbs(name) && filepath.Clean(name) == name && name != "/"
}
