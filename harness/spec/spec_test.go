// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
)

const good = `
# comment
title     = A title   # and why
shows     = What is shown
procedure = write
variants  = raw copybound inline
ops       = firstwrite rewrite
chunks    = 64K
depths    = 1 32
block     = 4K
origin    = 1G
store     = 768M
window    = 250ms
min-ops   = 8
max-ops   = 80
rounds    = 3
[smoke]
chunks    = 4K 1M
models    = hdd
`

func TestParse(t *testing.T) {
	quick, err := Parse("x/E9.exp", good, Quick)
	require.NoError(t, err)
	require.Equal(t, Experiment{
		Name: "E9", Title: "A title", Shows: "What is shown", Procedure: Write, Measured: true,
		Variants: []string{"raw", "copybound", "inline"}, Ops: []string{"firstwrite", "rewrite"},
		Chunks: []int64{65536}, Depths: []int{1, 32}, Block: 4096, Origin: 1 << 30, Store: 768 << 20,
		Suites: general(), Window: 250 * time.Millisecond, MinOps: 8, MaxOps: 80, Rounds: 3,
	}, quick)
	smoke, err := Parse("x/E9.exp", good, Smoke)
	require.NoError(t, err)
	require.Equal(t, []int64{4096, 1 << 20}, smoke.Chunks)
	require.Equal(t, []string{"hdd"}, smoke.Models)
}

func TestParseNamesFileAndLine(t *testing.T) {
	for text, complaint := range map[string]string{
		"chunk = 4K":                   `a.exp:1: bad experiment: unknown setting "chunk"`,
		"\n\n[nightly]":                `a.exp:3: bad experiment: no suite "nightly"`,
		"title":                        `a.exp:1: bad experiment: "title" is not "key = value"`,
		"title =":                      `a.exp:1: bad experiment: "title =" is not "key = value"`,
		"title = a\ntitle = b":         `a.exp:2: bad experiment: title was set in line 1`,
		"rounds = many":                `a.exp:1: bad experiment: strconv.Atoi: parsing "many": invalid syntax`,
		"window = 3":                   `a.exp:1: bad experiment: time: missing unit`,
		"measured = true":              `a.exp:1: bad experiment: "true" is neither yes nor no`,
		"depths = 1 2 1":               `a.exp:1: bad experiment: 1 is there twice`,
		"chunks = 4Q":                  `a.exp:1: bad experiment: size "4Q" is not`,
		"origin = 9999999999T":         `a.exp:1: bad experiment: size "9999999999T" is not`,
		"# ok\n[full]\nwindow = often": `a.exp:3: bad experiment`,
	} {
		for _, s := range Suites() { // a section is read whatever the suite is
			_, err := Parse("a.exp", text, s)
			require.ErrorIs(t, err, ErrSpec, text)
			require.ErrorContains(t, err, complaint, text)
		}
	}
}

func TestParseChecksWhatSettingsSay(t *testing.T) {
	for line, complaint := range map[string]string{
		"procedure = think": `unknown procedure "think"`,
		"rounds = 0":        "at least one is needed",
		"variants = zfs":    `unknown variant "zfs"`,
		"variants = qcow2":  `unknown variant "qcow2"`,
		"models = tape":     `unknown model "tape"`,
		"ops = trim":        `has no op "trim"`,
		"chunks = 5000":     "not a power of two",
		"chunks = 2M":       "not a power of two",
		"depths = 0":        "queue depth 0",
		"snapshots = -1":    "-1 snapshots",
		"block = 128K":      "larger than a chunk",
		"max-ops = 7":       "max-ops not below min-ops",
		"procedure = untar": "needs trace",
		"measured = no":     "nothing to do",
		"origin = 0":        "must be positive",
		"depths = 9999":     "queue depth 9999",
	} {
		_, err := Parse("a.exp", good+"[quick]\n"+line, Quick)
		require.ErrorIs(t, err, ErrSpec, line)
		require.ErrorContains(t, err, complaint, line)
	}
}

// TestBuiltIn loads every experiment in every suite.
func TestBuiltIn(t *testing.T) {
	for _, s := range Suites() {
		all, err := Load(s)
		require.NoError(t, err)
		var names []string
		for _, e := range all {
			names = append(names, e.Name)
			if !slices.Contains([]Procedure{Crashes, Scale, Streams, Changes, Cuts, Kills, Gate, Probes}, e.Procedure) {
				require.Contains(t, e.Variants, Raw, "%s has its raw baseline", e.Name)
			}
		}
		want := []string{"E1", "E10", "E11", "E13", "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "FIO", "PEER"}
		switch s {
		case Smoke:
			want = append([]string{"D1", "D2", "D3", "D4"}, want...)
		case Delta:
			want = []string{"D1", "D2", "D3", "D4"}
		case Full:
			want = slices.Insert(want, 3, "E12")
		}
		require.Equal(t, want, names)
	}
	_, err := Load("nightly")
	require.ErrorContains(t, err, `no suite "nightly"`)
}

// TestFullCrashesAsOftenAsTheGoalAsks pins the one number that a quick run falls short of.
func TestFullCrashesAsOftenAsTheGoalAsks(t *testing.T) {
	all, err := Load(Full)
	require.NoError(t, err)
	chosen, err := Select(all, []string{"E10"})
	require.NoError(t, err)
	require.GreaterOrEqual(t, chosen[0].MinOps, 1000)
	require.Len(t, chosen[0].Ops, goals.CrashVerbs)
}

// TestQuickCoversTheGoals pins the settings that goals ask for.
func TestQuickCoversTheGoals(t *testing.T) {
	all, err := Load(Quick)
	require.NoError(t, err)
	of := func(name string) Experiment {
		chosen, err := Select(all, []string{name})
		require.NoError(t, err)
		return chosen[0]
	}
	require.Contains(t, of("E1").Chunks, int64(16<<10))
	require.Contains(t, of("E1").Models, "hdd")
	require.Subset(t, of("E3").Variants, []string{"inline", "nvram"})
	require.Equal(t, []string{"hdd", "ssd", "nvme"}, of("E3").Models)
	require.Subset(t, of("E4").Snapshots, []int{0, 64, 1000})
	require.Subset(t, of("E5").Snapshots, []int{1, 1000, 10000})
	require.Equal(t, []int{1, 4, 32}, of("E6").Depths)
	require.Contains(t, of("E6").Chunks, int64(64<<10))
	require.Contains(t, of("E8").Depths, 32)
	require.Equal(t, 10_000_000, of("E9").Exceptions)
	require.Equal(t, 1000, of("E9").Snapshots[0])
	require.Len(t, of("E10").Ops, goals.CrashVerbs)
	require.Contains(t, of("PEER").Variants, QCOW2)
}

func TestSelect(t *testing.T) {
	all := []Experiment{{Name: "E1"}, {Name: "PEER"}}
	chosen, err := Select(all, []string{"peer"})
	require.NoError(t, err)
	require.Equal(t, all[1:], chosen)
	chosen, err = Select(all, nil)
	require.NoError(t, err)
	require.Equal(t, all, chosen)
	_, err = Select(all, []string{"E7"})
	require.ErrorContains(t, err, `no experiment "E7": zbench list`)
}

func TestAxes(t *testing.T) {
	e, err := Parse("E9.exp", good, Quick)
	require.NoError(t, err)
	got, err := Axes{Chunks: []int64{4096}, Placements: []string{"disk", "pmem"}, Snapshots: []int{5}}.Apply(e)
	require.NoError(t, err)
	require.Equal(t, []int64{4096}, got.Chunks)
	require.Equal(t, []string{"raw", "copybound", "disk", "pmem"}, got.Variants)
	require.Empty(t, got.Snapshots, "an axis that the experiment has not stays away")
	require.Equal(t, []string{"raw", "copybound", "inline"}, e.Variants, "the experiment is as it was")
	_, err = Axes{Placements: []string{"tape"}}.Apply(e)
	require.ErrorContains(t, err, `unknown variant "tape"`)
}

func TestInlineOnly(t *testing.T) {
	all, err := Load(Quick)
	require.NoError(t, err)
	for _, name := range []string{"E8", "E9", "PEER"} {
		chosen, err := Select(all, []string{name})
		require.NoError(t, err)
		e := chosen[0]
		got, err := Axes{Placements: []string{"disk"}}.Apply(e)
		require.NoError(t, err)
		require.Equal(t, e.Variants, got.Variants)
		e.Variants = []string{"disk"}
		require.ErrorIs(t, e.check(), ErrSpec)
	}
	chosen, err := Select(all, []string{"E9"})
	require.NoError(t, err)
	_, err = Axes{Snapshots: []int{0}}.Apply(chosen[0])
	require.ErrorContains(t, err, "1 to 65535")
}

func TestLoadNamesTheFile(t *testing.T) {
	_, err := load(fstest.MapFS{"d/E1.exp": {Data: []byte("title = x")}}, "d", Quick)
	require.ErrorContains(t, err, "d/E1.exp: suite quick: bad experiment")
}

func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("[full]\nchunks = 4K 4K")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range Suites() {
			e, err := Parse("f.exp", text, s)
			if err == nil {
				require.NoError(t, e.check())
			} else {
				require.ErrorIs(t, err, ErrSpec)
			}
		}
	})
}
