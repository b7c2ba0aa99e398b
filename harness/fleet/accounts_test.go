// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/results"
)

// TestMergeAddsUpAccounts: a machine's run says where the time of all its trials went.
func TestMergeAddsUpAccounts(t *testing.T) {
	s := storage.NewMemory()
	account := func(_ *Trial, run *results.Run) {
		c := results.Class{Name: "settled write", Looked: 5, Groups: 10, Requests: 10, Nanoseconds: 900, Times: results.NewTimes()}
		c.Times.Add(90, 10)
		require.NoError(t, run.AddAccounts("E6", results.Account{
			Experiment: "E6", Kind: results.Measured, Config: results.Conf("op", "rewrite"), Requests: 10, Nanoseconds: 900, Classes: []results.Class{c},
		}))
	}
	for i, h := range []host{slow, fast, slow} {
		put(t, s, "j", i, 3, trial(t, h, "j", i, 3, account))
	}
	all, err := gather(t, s)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "m")
	summary, err := Merge(all, MergeOptions{Dir: dir})
	require.NoError(t, err)
	for _, m := range summary.Machines {
		accounts, err := open(t, dir, m.Run).Accounts("E6")
		require.NoError(t, err)
		require.Len(t, accounts, 1)
		trials := int64(len(m.Trials))
		require.Equal(t, 10*trials, accounts[0].Requests)
		require.Equal(t, 10*trials, accounts[0].Classes[0].Times.TotalCount())
	}
	damaged := func(_ *Trial, run *results.Run) {
		require.NoError(t, run.WriteFile("accounts-E6.json", []byte(`[{"kind":"none"}]`)))
	}
	put(t, s, "d", 0, 1, trial(t, slow, "d", 0, 1, damaged))
	_, err = gather(t, s)
	require.ErrorIs(t, err, ErrCorrupt)
}
