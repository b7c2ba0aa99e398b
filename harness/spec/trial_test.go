// SPDX-License-Identifier: Apache-2.0

package spec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/spec"
)

func TestParseTrial(t *testing.T) {
	got, err := spec.ParseTrial("3/15")
	require.NoError(t, err)
	require.Equal(t, spec.Trial{Index: 3, Count: 15}, got)
	require.Equal(t, "3/15", got.String())
	require.Empty(t, spec.Trial{}.String())
	for _, text := range []string{"", "3", "15/15", "-1/3", "0/0", "1/10000", "0/65537", "a/b", "1/2/3", "1/ 2"} {
		_, err := spec.ParseTrial(text)
		require.ErrorIs(t, err, spec.ErrSpec, text)
	}
}

// TestEveryRoundIsInOneTrial: whatever a suite is divided into, each round is carried out
// once, and parts differ by one round at most.
func TestEveryRoundIsInOneTrial(t *testing.T) {
	all := []spec.Experiment{{Name: "E1", Rounds: 3}, {Name: "E2", Rounds: 1}, {Name: "E3", Rounds: 7}}
	require.Equal(t, 11, spec.Rounds(all))
	for count := 1; count <= 11; count++ {
		type round struct {
			name string
			n    int
		}
		seen := map[round]int{}
		for i := range count {
			part, err := spec.Trial{Index: i, Count: count}.Take(all)
			require.NoError(t, err)
			size := 0
			for _, e := range part {
				first, end := e.Span()
				require.Less(t, first, end)
				for n := first; n < end; n++ {
					seen[round{e.Name, n}]++
					size++
				}
			}
			require.Contains(t, []int{11 / count, (11 + count - 1) / count}, size)
		}
		require.Len(t, seen, 11)
		for r, n := range seen {
			require.Equal(t, 1, n, "%v of %d trials", r, count)
		}
	}
	_, err := spec.Trial{Count: 12}.Take(all)
	require.ErrorIs(t, err, spec.ErrSpec)
	whole, err := spec.Trial{}.Take(all)
	require.NoError(t, err)
	first, end := whole[2].Span()
	require.Equal(t, []int{0, 7}, []int{first, end})
}
