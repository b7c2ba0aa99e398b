// SPDX-License-Identifier: Apache-2.0

// Package model_test has spin search every state of the Promela models in this
// directory: as they are, where all properties must hold, and with each ordering
// rule taken out, where the property that the rule is there for must fail. It
// needs spin and a C compiler, and owns nothing but files in temporary
// directories. README.md says what the models mean.
package model_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// faults are the rules of the models: what is searched without the rule, and the
// property that must then be violated.
var faults = []struct {
	rule, model, property string
	bounds                string
}{
	{"1", "power", "snapshot_reads_its_promise", ""},
	{"1_EARLIER", "power", "snapshot_reads_its_promise", ""},
	{"2", "power", "slot_has_one_owner", ""},
	{"2_REUSE", "power", "slot_has_one_owner", ""},
	{"2_RENEW", "power", "snapshot_reads_its_promise", "-DFAILS=1 -DWRITES=2"},
	{"3", "power", "slot_has_one_owner", ""},
	{"3_RECORD", "power", "snapshot_reads_its_promise", ""},
	{"4", "power", "snapshot_made_exists", ""},
	{"4_QUIESCE", "power", "snapshot_reads_its_promise", ""},
	{"4_SHARED", "power", "snapshot_reads_its_promise", ""},
	{"6", "power", "branch_reads_what_was_flushed", "-DBRANCH_WRITES=2 -DWRITES=1"},
	{"6_DATA", "power", "branch_reads_what_was_flushed", "-DBRANCH_WRITES=2 -DWRITES=1"},
	{"6_CHECKPOINT", "power", "branch_reads_what_was_flushed", "-DBRANCH_WRITES=2 -DWRITES=1"},
	{"7", "power", "snapshot_reads_its_promise", ""},

	{"2_SESSION", "session", "snapshot_reads_its_promise", ""},
	{"3", "session", "slot_has_one_owner", ""},
	{"3_READER", "session", "snapshot_reads_its_promise", ""},
	{"4_HOLD", "session", "snapshot_reads_its_promise", ""},
	{"5", "session", "snapshot_reads_its_promise", ""},
	{"7", "session", "snapshot_reads_its_promise", ""},
	{"7_REPORT", "session", "log_is_consistent", ""},
	{"8", "session", "snapshot_reads_its_promise", ""},
	{"8_DRAIN", "session", "snapshot_reads_its_promise", ""},
	{"9", "session", "slot_has_one_owner", ""},
	{"9_EPOCH", "session", "snapshot_reads_its_promise", ""},
	{"9_MAP", "session", "snapshot_reads_its_promise", ""},
	{"9_READER", "session", "snapshot_reads_its_promise", ""},
	{"12", "session", "snapshot_reads_its_promise", ""},
}

// searches are the models with all their rules, in bounds that an exact search
// covers.
var searches = []struct{ name, model, bounds string }{
	{"power cuts", "power", ""},
	{"power cuts and a batch that fails", "power", "-DFAILS=1 -DWRITES=2"},
	{"power cuts and a writable snapshot", "power", "-DBRANCH_WRITES=1 -DWRITES=2"},
	{"power cuts and overwriting in place", "power", "-DBRANCH_WRITES=2 -DWRITES=1"},
	{"a reader, deaths of server and client", "session", "-DWRITES=2"},
	{"a reader, two deaths of the server", "session", "-DWRITES=2 -DCRASHES=2 -DDEATHS=0"},
	{"three writes, deaths of server and client", "session", "-DREADS=0"},
}

// TestRulesHold searches the models as they are: no property is violated, and no
// run stops before all is done.
func TestRulesHold(t *testing.T) {
	t.Parallel()
	for _, s := range searches {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			out := search(t, s.model, safety, strings.Fields(s.bounds)...)
			require.Contains(t, out, "errors: 0")
			t.Log(states.FindString(out))
		})
	}
}

// TestEveryRunEnds shows that no run of the models goes round in a circle. With no
// run that stops early, every origin write is released in the end.
func TestEveryRunEnds(t *testing.T) {
	t.Parallel()
	for model, bounds := range map[string]string{
		"power":   "-DWRITES=2 -DCUTS=1",
		"session": "-DWRITES=1",
	} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			out := search(t, model, cycles, strings.Fields(bounds)...)
			require.Contains(t, out, "errors: 0")
			t.Log(states.FindString(out))
		})
	}
}

// TestEachRuleIsNeeded takes each rule out, and looks for the violation.
func TestEachRuleIsNeeded(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.model+", rule "+f.rule, func(t *testing.T) {
			t.Parallel()
			out := search(t, f.model, hunt, append(strings.Fields(f.bounds), "-DNO_RULE_"+f.rule)...)
			require.Contains(t, out, "assertion violated "+f.property+" ")
			t.Log(states.FindString(out))
		})
	}
}

// TestEveryRuleIsListed compares the rules that a model or what it includes names
// with faults.
func TestEveryRuleIsListed(t *testing.T) {
	for _, model := range []string{"power", "session"} {
		named, listed := map[string]bool{}, map[string]bool{}
		for _, name := range []string{model + ".pml", "ordering.pml"} {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			for _, m := range guard.FindAllStringSubmatch(string(text), -1) {
				named[m[1]] = true
			}
		}
		for _, f := range faults {
			if f.model == model {
				listed[f.rule] = true
			}
		}
		require.Equal(t, slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(listed)))
	}
}

var guard = regexp.MustCompile(`NO_RULE_(\w+)`)

// What pan, the program that spin makes of a model, is compiled and run for.
type purpose struct{ compile, run []string }

var (
	safety = purpose{compile: []string{"-DSAFETY", "-O1"}}
	cycles = purpose{compile: []string{"-DNP", "-O1"}, run: []string{"-l"}}
	hunt   = purpose{compile: []string{"-DSAFETY", "-O0"}} // a fault is found before an optimizer is done
)

// searching bounds the memory that searches take: two at a time, half a gigabyte
// each.
var searching = make(chan struct{}, 2)

var states = regexp.MustCompile(`\d+ states, stored`)

// search returns what pan says of a model after an exact search. A search that is
// cut short fails the test.
func search(t *testing.T, model string, p purpose, defines ...string) string {
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: make deps, as root, installs it", tool)
		}
	}
	searching <- struct{}{}
	defer func() { <-searching }()
	dir := t.TempDir()
	for _, name := range models(t) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	output(t, dir, "spin", append(defines, "-a", model+".pml")...)
	output(t, dir, "gcc", append(p.compile, "-w", "-DNOREDUCE", "-DMEMLIM=1024", "-o", "pan", "pan.c")...)
	out := output(t, dir, "./pan", append(p.run, "-m10000", "-w22")...)
	require.Contains(t, out, "State-vector")
	for _, short := range []string{"max search depth too small", "out of memory", "MEMLIM"} {
		require.NotContains(t, out, short)
	}
	return out
}

func models(t *testing.T) []string {
	names, err := filepath.Glob("*.pml")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return names
}

// output runs a command in a directory.
func output(t *testing.T, dir, name string, args ...string) string {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v:\n%s", name, args, out)
	return string(out)
}
