// SPDX-License-Identifier: Apache-2.0

package results

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// account invents an account of some requests, each of which took so many nanoseconds.
func account(config Config, ns int64, stages ...string) Account {
	a := Account{
		Experiment: "E6", Kind: Measured, Config: config, Requests: 10, WrittenBytes: 40960, Nanoseconds: 10 * ns,
		Flows:     []Flow{{Device: "origin", Kind: "write", Operations: 10, Bytes: 40960}},
		Distances: []int64{1, 2},
	}
	c := Class{Name: "first write", Groups: 1, Requests: 1, Nanoseconds: ns, Times: NewTimes()}
	c.Times.Add(ns, 1)
	for _, name := range stages {
		s := Stage{Name: name, Nanoseconds: ns / int64(len(stages)), Times: NewTimes()}
		s.Times.Add(s.Nanoseconds, 1)
		c.Stages = append(c.Stages, s)
	}
	a.Classes = []Class{c}
	return a
}

func TestAccountsOfRoundsAddUp(t *testing.T) {
	run, err := Create(t.TempDir(), Manifest{Suite: "smoke"})
	require.NoError(t, err)
	config, other := Conf("op", "firstwrite", "qd", "1"), Conf("op", "firstwrite", "qd", "32")
	require.NoError(t, run.AddAccounts("E6", account(config, 600, "queue", "copy", "write"), account(other, 100, "copy")))
	more := account(config, 300, "queue", "plan", "write")
	more.Flows = append(more.Flows, Flow{Device: "store", Kind: "flush", Operations: 3})
	more.Distances = []int64{1, 0, 5}
	require.NoError(t, run.AddAccounts("E6", more))
	again, err := Open(run.Dir())
	require.NoError(t, err)
	all, err := again.Accounts("E6")
	require.NoError(t, err)
	require.Len(t, all, 2)
	a := all[0]
	require.Equal(t, config, a.Config)
	require.Equal(t, int64(20), a.Requests)
	require.Equal(t, int64(9000), a.Nanoseconds)
	require.Equal(t, []Flow{{"origin", "write", 20, 81920}, {"store", "flush", 3, 0}}, a.Flows)
	require.Equal(t, []int64{2, 2, 5}, a.Distances)
	c := a.Classes[0]
	require.Equal(t, int64(2), c.Groups)
	require.Equal(t, int64(2), c.Times.TotalCount())
	var names []string
	for _, s := range c.Stages {
		names = append(names, s.Name)
	}
	require.Equal(t, []string{"queue", "plan", "copy", "write"}, names, "in the order of a request")
	require.Equal(t, int64(300), c.Stages[0].Nanoseconds)
	none, err := again.Accounts("E1")
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestDamagedAccounts(t *testing.T) {
	run, err := Create(t.TempDir(), Manifest{Suite: "smoke"})
	require.NoError(t, err)
	for name, text := range map[string]string{
		"no JSON":              `{`,
		"another experiment":   `[{"experiment":"E1","kind":"measured"}]`,
		"no kind":              `[{"experiment":"E6"}]`,
		"no histogram":         `[{"experiment":"E6","kind":"measured","classes":[{"times":"HISTFAAA"}]}]`,
		"a histogram too wide": `[{"experiment":"E6","kind":"measured","classes":[{"times":5}]}]`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(run.Dir(), "accounts-E6.json"), []byte(text), 0o644))
		_, err := run.Accounts("E6")
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
	require.ErrorIs(t, run.AddAccounts("../E6", account(Conf(), 1)), ErrSample)
}
