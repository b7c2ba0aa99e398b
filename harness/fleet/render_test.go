// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the golden jobs anew")

// rendered are jobs of all that templates can do.
func rendered() map[string]JobSpec {
	base := JobSpec{Name: "chunks", Count: 15, To: "/mnt/lab", Args: []string{"--suite=quick", "--experiments=E6"}}
	jobs := map[string]JobSpec{}
	for _, engine := range []Engine{Nomad, Kubernetes, Slurm} {
		dir, bucket := base, base
		dir.Engine, bucket.Engine = engine, engine
		dir.Program, bucket.Program = "/opt/zbench", "/opt/zbench"
		if engine == Kubernetes {
			dir.Image, bucket.Image = "registry.lab:5000/zbench:1", "zbench@sha256:00"
		}
		bucket.To, bucket.Region = "s3:https://s3.lab:9000/bench/lab", "eu-1"
		bucket.Scratch, bucket.Privileged = "/data/scratch", true
		bucket.Args = append(bucket.Args[:2:2], "--device=/dev/sdz", "--force")
		bucket.Select = map[Engine][]Choice{
			Nomad: {{"node.class", "bench"}, {"attr.cpu.arch", "amd64"}}, Kubernetes: {{"kubernetes.io/arch", "amd64"}}, Slurm: {{"constraint", "epyc&nvme"}, {"time", "01:00:00"}},
		}[engine]
		jobs[string(engine)+"-dir"+filepath.Ext(files[engine])] = dir
		jobs[string(engine)+"-s3"+filepath.Ext(files[engine])] = bucket
	}
	docker := jobs["nomad-s3.hcl"]
	docker.Image, docker.Credentials = "zbench:1", "lab/bench"
	jobs["nomad-docker.hcl"] = docker
	file := jobs["slurm-s3.sh"]
	file.Credentials = "/etc/zbench/s3"
	jobs["slurm-credentials.sh"] = file
	return jobs
}

func render(t *testing.T, j JobSpec) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, Render(&out, j))
	return out.String()
}

// TestRender compares jobs with golden ones: those that TestKubernetesValidates,
// TestNomadRuns and TestSlurmRuns give to the engines.
func TestRender(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
	t.Setenv("AWS_ACCESS_KEY_ID", "who-asks")
	for name, j := range rendered() {
		got := render(t, j)
		require.NotContains(t, got, "do-not-tell")
		require.NotContains(t, got, "who-asks")
		golden := filepath.Join("testdata", name)
		if *rewrite {
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), got, name)
		if strings.HasSuffix(name, ".sh") {
			out, err := exec.Command("bash", "-n", golden).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	good := JobSpec{Engine: Nomad, Name: "j", Count: 1, To: "/mnt/lab"}
	require.NoError(t, Render(&strings.Builder{}, good))
	for says, change := range map[string]func(*JobSpec){
		`no engine "cron": there are nomad`:      func(j *JobSpec) { j.Engine = "cron" },
		"a job's name has":                       func(j *JobSpec) { j.Name = "J" },
		"0 trials":                               func(j *JobSpec) { j.Count = 0 },
		"10000 trials":                           func(j *JobSpec) { j.Count = 10000 },
		`"lab" is neither`:                       func(j *JobSpec) { j.To = "lab" },
		`"/mnt/../lab" is neither`:               func(j *JobSpec) { j.To = "/mnt/../lab" },
		`"" is neither`:                          func(j *JobSpec) { j.To = "" },
		"is not the place of a bucket":           func(j *JobSpec) { j.To = "s3:https://key:secret@host/bucket" },
		"Kubernetes runs images":                 func(j *JobSpec) { j.Engine = Kubernetes },
		"Slurm runs programs":                    func(j *JobSpec) { j.Engine, j.Image = Slurm, "x" },
		`image "a b"`:                            func(j *JobSpec) { j.Image = "a b" },
		"cannot select machines by class=x":      func(j *JobSpec) { j.Select = []Choice{{"class", "x"}} },
		"cannot select machines by wrap=x":       func(j *JobSpec) { j.Engine, j.Select = Slurm, []Choice{{"wrap", "x"}} },
		"cannot select machines by time=1\nrm":   func(j *JobSpec) { j.Engine, j.Select = Slurm, []Choice{{"time", "1\nrm"}} },
		"never the keys themselves":              func(j *JobSpec) { j.Engine, j.Credentials = Slurm, "AKIA=x" },
		`scratch "tmp" is no path`:               func(j *JobSpec) { j.Scratch = "tmp" },
		`"$(reboot)" has a character`:            func(j *JobSpec) { j.Args = []string{"$(reboot)"} },
		`"/opt/a\"b" has a character`:            func(j *JobSpec) { j.Program = `/opt/a"b` },
		`"%{ if true }" has a character`:         func(j *JobSpec) { j.Args = []string{"%{ if true }"} },
		`"a\nb" has a character`:                 func(j *JobSpec) { j.Region = "a\nb" },
		fmt.Sprintf("%q has a character", "`a`"): func(j *JobSpec) { j.Args = []string{"`a`"} },
	} {
		j := good
		change(&j)
		var out strings.Builder
		err := Render(&out, j)
		require.ErrorIs(t, err, ErrRender, says)
		require.ErrorContains(t, err, says)
		require.Empty(t, out.String())
	}
}

func TestFullPlace(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "http://localhost:7070")
	for place, want := range map[string]string{
		"/mnt/lab": "/mnt/lab", "s3://bench/lab/": "s3:http://localhost:7070/bench/lab", "s3:https://s3.lab/bench": "s3:https://s3.lab/bench",
	} {
		got, err := FullPlace(place)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := FullPlace("s3:x")
	require.Error(t, err)
}
