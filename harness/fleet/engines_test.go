// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/backup/storage/s3test"
	"zumastor.org/zumastor/results"
)

// engineTests skips a test that needs an engine unless ZUMASTOR_TEST_FLEET is set: it
// fetches and builds a lot, starts daemons, and takes minutes.
func engineTests(t *testing.T) {
	if os.Getenv("ZUMASTOR_TEST_FLEET") == "" {
		t.Skip("needs ZUMASTOR_TEST_FLEET=1, see make test-fleet")
	}
}

// output runs a command that must not fail.
func output(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
	return strings.TrimSpace(string(out))
}

// zbench builds the program that tasks run.
func zbench(t *testing.T) string {
	program := filepath.Join(t.TempDir(), "zbench")
	output(t, "../..", "go", "build", "-o", program, "./cmd/zbench")
	return program
}

// daemon starts a process that is ended with the test.
func daemon(t *testing.T, name string, args ...string) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGINT)
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s: %s", name, text[max(0, len(text)-5000):])
		}
		_ = log.Close()
	})
}

// until waits for something that a daemon does, for two minutes.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(300 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "waiting for %s", what)
	}
}

func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// smoke is a job of four trials, of a round each.
func smoke(engine Engine, name, to, program string) JobSpec {
	return JobSpec{Engine: engine, Name: name, Count: 4, To: to, Program: program, MemoryMiB: 512, Args: []string{"--suite=smoke", "--experiments=E6"}}
}

// requireWhole merges what a job of smoke has collected: one machine, all four rounds.
func requireWhole(t *testing.T, place, job string, again bool) {
	t.Helper()
	s, err := Open(place)
	require.NoError(t, err)
	all, err := Gather(t.Context(), []Place{{place, s}}, []string{job})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "merged")
	summary, err := Merge(all, MergeOptions{Dir: dir})
	require.NoError(t, err)
	require.Len(t, summary.Jobs, 1)
	require.Empty(t, summary.Jobs[0].Missing)
	require.Len(t, summary.Machines, 1)
	require.Equal(t, map[string]string{"E6": "0-3 of 4"}, summary.Machines[0].Rounds)
	run, err := results.Open(filepath.Join(dir, summary.Machines[0].Run))
	require.NoError(t, err)
	require.True(t, run.Completed("E6"))
	if again {
		return
	}
	for i := 1; i < len(all); i++ { // trials of one machine were not measured at the same time
		before, after := all[i-1].run.Manifest(), all[i].run.Manifest()
		if after.Start.Before(before.Start) {
			before, after = after, before
		}
		require.False(t, after.Start.Before(before.End), "%v and %v", before, after)
	}
}

// TestKubernetesValidates gives the golden jobs to Kubernetes' own decoding and validation.
func TestKubernetesValidates(t *testing.T) {
	engineTests(t)
	module, program := t.TempDir(), filepath.Join(t.TempDir(), "kubernetes")
	for from, to := range map[string]string{"go.mod": "go.mod", "go.sum": "go.sum", "check.go.txt": "check.go"} {
		text, err := os.ReadFile(filepath.Join("engines", "kubernetes", from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(module, to), text, 0o600))
	}
	output(t, module, "go", "build", "-o", program, ".")
	check := func(text string) string {
		cmd := exec.Command(program)
		cmd.Stdin = strings.NewReader(text)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	n := 0
	for name, j := range rendered() {
		if j.Engine == Kubernetes {
			require.Empty(t, check(render(t, j)), name)
			n++
		}
	}
	require.Equal(t, 2, n)
	job := render(t, rendered()["kubernetes-s3.yaml"])
	for bad, says := range map[string]string{
		strings.Replace(job, "completions:", "completion:", 1):  `unknown field "spec.completion"`,
		strings.Replace(job, "Indexed", "Ordered", 1):           "spec.completionMode",
		strings.Replace(job, "restartPolicy: Never", "", 1):     "spec.template.spec.restartPolicy",
		strings.Replace(job, "- name: mount-0", "- name: x", 1): "volumeMounts",
	} {
		require.Contains(t, check(bad), says)
	}
}

// TestNomadRuns has a real Nomad agent on loopback, server and client, run a job into the
// S3 server of the storage tests. One task is killed in its first attempt.
func TestNomadRuns(t *testing.T) {
	engineTests(t)
	server := s3test.Start(t)
	place := "s3:http://" + server.Address + "/" + s3test.Bucket + "/lab"
	nomad, program := output(t, "engines/nomad", "go", "tool", "-n", "nomad"), zbench(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "agent.hcl")
	http := freePort(t)
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil,
		"data_dir = %q\nbind_addr = \"127.0.0.1\"\nports {\n  http = %d\n  rpc = %d\n  serf = %d\n}\n", filepath.Join(dir, "data"), http, freePort(t), freePort(t)), 0o600))
	t.Setenv("NOMAD_ADDR", fmt.Sprintf("http://127.0.0.1:%d", http))
	daemon(t, nomad, "agent", "-dev", "-network-interface", "lo", "-config", config)
	until(t, "the agent", func() bool {
		out, err := exec.Command(nomad, "node", "status").Output()
		return err == nil && strings.Contains(string(out), "ready")
	})
	for name, j := range rendered() {
		if j.Engine == Nomad {
			output(t, "", nomad, "job", "validate", filepath.Join("testdata", name))
		}
	}

	once := filepath.Join(dir, "once")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$NOMAD_ALLOC_INDEX\" = 1 ] && mkdir %s 2>/dev/null; then kill -9 $$; fi\nexec %s \"$@\"\n", once, program)
	wrapper, job := filepath.Join(dir, "zbench"), filepath.Join(dir, "job.hcl")
	require.NoError(t, os.WriteFile(wrapper, []byte(script), 0o700))
	text := render(t, smoke(Nomad, "loopback", place, wrapper))
	require.NotContains(t, text, s3test.SecretKey)
	require.NoError(t, os.WriteFile(job, []byte(text), 0o600))
	output(t, "", nomad, "var", "put", "nomad/jobs/loopback", "AWS_ACCESS_KEY_ID="+s3test.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3test.SecretKey)
	output(t, "", nomad, "job", "run", "-detach", job)
	t.Cleanup(func() { // else the tasks' secrets stay mounted
		_ = exec.Command(nomad, "job", "stop", "-purge", "loopback").Run()
		_ = exec.Command(nomad, "system", "gc").Run()
		until(t, "the tasks' mounts to go", func() bool {
			mounts, _ := os.ReadFile("/proc/self/mounts")
			return !strings.Contains(string(mounts), dir)
		})
	})
	until(t, "the trials", func() bool {
		return strings.Contains(output(t, "", nomad, "job", "status", "loopback"), "= dead")
	})
	require.DirExists(t, once, "a task was killed")
	requireWhole(t, place, "loopback", false)
}

// TestSlurmRuns has a real Slurm on loopback (munged, slurmctld and slurmd, as root) run an
// array into a shared directory, and again after one trial is lost.
func TestSlurmRuns(t *testing.T) {
	engineTests(t)
	for _, name := range []string{"munged", "slurmctld", "slurmd", "sbatch"} {
		if _, err := exec.LookPath(name); err != nil || os.Geteuid() != 0 {
			t.Skip("needs root, and Debian's munge, slurmctld, slurmd and slurm-client")
		}
	}
	dir, program := slurm(t), zbench(t)
	place, job := filepath.Join(dir, "lab"), filepath.Join(dir, "job.sh")
	require.NoError(t, os.Mkdir(place, 0o700))
	j := smoke(Slurm, "loopback", place, program)
	j.Scratch = filepath.Join(dir, "scratch")
	require.NoError(t, os.WriteFile(job, []byte(render(t, j)), 0o600))
	submit := func() {
		t.Setenv("ZBENCH_TEST_SECRET", "do-not-tell")
		output(t, dir, "sbatch", job)
		until(t, "the trials", func() bool { return output(t, "", "squeue", "--noheader") == "" })
	}
	submit()
	requireWhole(t, place, "loopback", false)
	lost := filepath.Join(place, "loopback", "trial-0002-of-0004.tar.zst")
	require.NoError(t, os.Remove(lost))
	submit()
	requireWhole(t, place, "loopback", true)
	for i := range 4 {
		log, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("loopback-%d.log", i)))
		require.NoError(t, err)
		require.Equal(t, i != 2, strings.Contains(string(log), "collected already"), "%s", log)
	}
	kept, _ := exec.Command("grep", "-rl", "do-not-tell", filepath.Join(dir, "state"), filepath.Join(dir, "spool")).Output()
	require.Empty(t, kept, "the environment of who submits is not kept")
}

// slurm starts Slurm with one node, this machine, and returns its directory.
func slurm(t *testing.T) string {
	dir := t.TempDir()
	host, err := os.Hostname()
	require.NoError(t, err)
	host, _, _ = strings.Cut(host, ".")
	at := func(name string) string { return filepath.Join(dir, name) }
	config := fmt.Sprintf(`ClusterName=lab
SlurmctldHost=%[1]s(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=%[2]s/munge.socket
SlurmctldPort=%[3]d
SlurmdPort=%[4]d
StateSaveLocation=%[2]s/state
SlurmdSpoolDir=%[2]s/spool
SlurmctldPidFile=%[2]s/slurmctld.pid
SlurmdPidFile=%[2]s/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
MpiDefault=none
NodeName=%[1]s NodeAddr=127.0.0.1 CPUs=1 RealMemory=500 State=UNKNOWN
PartitionName=all Nodes=%[1]s Default=YES MaxTime=INFINITE State=UP
`, host, dir, freePort(t), freePort(t))
	require.NoError(t, os.WriteFile(at("slurm.conf"), []byte(config), 0o600))
	require.NoError(t, os.WriteFile(at("munge.key"), []byte(strings.Repeat("only for tests; ", 8)), 0o600))
	require.NoError(t, os.Mkdir(at("state"), 0o700))
	require.NoError(t, os.Mkdir(at("spool"), 0o700))
	t.Setenv("SLURM_CONF", at("slurm.conf"))
	daemon(t, "munged", "--foreground", "--force", "--key-file="+at("munge.key"), "--socket="+at("munge.socket"),
		"--pid-file="+at("munged.pid"), "--log-file="+at("munged.log"), "--seed-file="+at("munged.seed"))
	until(t, "munged", func() bool { _, err := os.Stat(at("munge.socket")); return err == nil })
	daemon(t, "slurmctld", "-D")
	daemon(t, "slurmd", "-D", "-N", host)
	until(t, "the node", func() bool {
		out, err := exec.Command("sinfo", "--noheader", "--format=%T").Output()
		return err == nil && strings.TrimSpace(string(out)) == "idle"
	})
	return dir
}
