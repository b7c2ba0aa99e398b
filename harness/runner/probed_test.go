// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/probe"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// probes skips the test where not all probes are possible.
func probes(t *testing.T) {
	o, err := probe.AtSelf(t.TempDir(), "")
	require.NoError(t, err)
	s, err := probe.Attach(o)
	if errors.Is(err, probe.ErrUnavailable) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, s.Close())
	if len(s.Notices) > 0 {
		t.Skip(s.Notices)
	}
}

func TestCostOfProbes(t *testing.T) {
	probes(t)
	all := []spec.Experiment{{
		Name: "E13", Procedure: spec.Probes, Measured: true, Variants: []string{"inline", spec.Probed}, Ops: []string{"rewrite"},
		Chunks: []int64{16 << 10}, Depths: []int{1}, Block: 4096, Origin: 4 * mib, Store: 32 * mib,
		Window: 4 * time.Millisecond, MinOps: 8, MaxOps: 8, Rounds: 2,
	}}
	r := start(t, t.TempDir(), all)
	r.Bed.Dir = t.TempDir()
	require.NoError(t, r.all(t.Context(), all))
	got := names(r.record.Measured())
	require.Equal(t, 2, got["E13/op=rewrite/variant=inline-probes/chunk=16384/qd=1"], got)
	require.Equal(t, 2, got["E13/op=rewrite/variant=inline/chunk=16384/qd=1"], got)
}

// TestRunWithProbes records what was counted while an experiment ran.
func TestRunWithProbes(t *testing.T) {
	probes(t)
	all := []spec.Experiment{{
		Name: "E6", Procedure: spec.Write, Measured: true, Variants: []string{"raw", "inline"}, Ops: []string{"firstwrite", "rewrite"},
		Chunks: []int64{16 << 10}, Depths: []int{4}, Block: 4096, Origin: 4 * mib, Store: 32 * mib,
		Window: 4 * time.Millisecond, MinOps: 8, MaxOps: 40, Rounds: 1,
	}}
	r := start(t, t.TempDir(), all)
	r.Bed.Dir, r.Probes = t.TempDir(), true
	require.NoError(t, r.all(t.Context(), all))
	text, err := os.ReadFile(filepath.Join(r.record.Dir(), "probes-E6.json"))
	require.NoError(t, err)
	var reading struct{ Series []probe.Summary }
	require.NoError(t, json.Unmarshal(text, &reading))
	found := map[string]bool{}
	for _, s := range reading.Series {
		found[s.Probe+" "+s.Kind+" "+s.Metric] = s.Count > 0
	}
	for _, want := range []string{"stage commit latency", "stage commit chunks", "process any waited"} {
		require.True(t, found[want], "%s in %v", want, found)
	}
	for s := range r.record.Measured().All() {
		require.Positive(t, s.Values[results.NsPerOp], s.Name())
	}
}

// TestLookOnce: what goes through other processes is carried out once more with probes, where
// there are any, and the samples know nothing of that; or it is said why not.
func TestLookOnce(t *testing.T) {
	streams := spec.Experiment{Name: "D3", Procedure: spec.Streams, Measured: true, Origin: 4 * mib, Rounds: 2}
	part := streams
	part.Name, part.First, part.End = "D5", 0, 1
	list := spec.Experiment{Name: "D2", Procedure: spec.Changes, Measured: true, Exceptions: 100000, Snapshots: []int{100}, MinOps: 1, Rounds: 1}
	all := []spec.Experiment{streams, part, list}
	r := start(t, t.TempDir(), all)
	r.Bed.Dir = t.TempDir()
	require.NoError(t, r.all(t.Context(), all))

	looked := r.record.Manifest().Looked
	_, why := spec.Changes.Look()
	require.Equal(t, why, looked["D2"])
	require.Contains(t, looked["D5"], "this is a part of one")
	_, err := os.Stat(filepath.Join(r.record.Dir(), "probes-D3.json"))
	if o, _ := probe.AtSelf(r.Bed.Dir, ""); available(o) {
		require.NoError(t, err)
		require.Contains(t, looked["D3"], "once more with eBPF probes")
	} else {
		require.ErrorIs(t, err, os.ErrNotExist)
		require.Contains(t, looked["D3"], "not to be had here")
	}
	for name, n := range names(r.record.Measured()) {
		if strings.HasPrefix(name, "D3/") {
			require.Equal(t, streams.Rounds, n, name)
		}
	}
}

// available reports whether probes can be attached.
func available(o probe.Options) bool {
	s, err := probe.Attach(o)
	return err == nil && s.Close() == nil
}

// TestLookSaysWhy: where not each round is looked at, it is said why.
func TestLookSaysWhy(t *testing.T) {
	for _, suite := range []spec.Suite{spec.Quick, spec.Delta} {
		all, err := spec.Load(suite)
		require.NoError(t, err)
		for _, e := range all {
			how, why := e.Procedure.Look()
			require.Equal(t, how != spec.LookInside, why != "", e.Name)
		}
	}
}
