// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// sums returns how many requests the classes of an account stand for, and the time of
// all of them.
func sums(a results.Account) (requests, ns int64) {
	for _, c := range a.Classes {
		if c.Name != "flush" && c.Name != "between requests" {
			requests += c.Requests
		}
		ns += c.Nanoseconds
	}
	return requests, ns
}

// TestExperimentsSayWhereTheTimeWent holds that every setting has an account, and that
// those of models are the whole time.
func TestExperimentsSayWhereTheTimeWent(t *testing.T) {
	all := tiny()
	io := all[0]
	io.Name, io.Procedure, io.Variants = "E7", spec.SnapshotIO, []string{"raw", "inline"}
	io.Ops, io.Models = []string{"read-shared", "read-stored", "write-chunk"}, nil
	all = append(all, io)
	for i := range all {
		all[i].Rounds = 1
	}
	r := start(t, t.TempDir(), all)
	require.NoError(t, r.all(t.Context(), all))
	classes := map[string]bool{}
	for _, e := range all {
		accounts, err := r.record.Accounts(e.Name)
		require.NoError(t, err)
		byName := map[string]results.Account{}
		for _, a := range accounts {
			s := results.Sample{Experiment: a.Experiment, Config: a.Config}
			byName[string(a.Kind)+" "+s.Name()] = a
			requests, ns := sums(a)
			require.Positive(t, requests, s.Name())
			require.NotEmpty(t, a.Flows, s.Name())
			if a.Kind == results.Modelled {
				require.Equal(t, a.Requests, requests, s.Name())
				require.Equal(t, a.Nanoseconds, ns, s.Name())
			}
			for _, c := range a.Classes {
				classes[c.Name] = true
			}
		}
		for _, set := range []results.Set{r.record.Measured(), r.record.Modelled()} {
			for s := range set.All() {
				op := s.Config.Get("op")
				if s.Experiment == e.Name && op != "create" && op != "delete" {
					require.Contains(t, byName, string(s.Kind)+" "+s.Name())
				}
			}
		}
	}
	for _, class := range []string{"first write", "settled write", "origin read", "snapshot read, unchanged", "snapshot read, changed", "snapshot write"} {
		require.True(t, classes[class], "%s in %v", class, classes)
	}
}
