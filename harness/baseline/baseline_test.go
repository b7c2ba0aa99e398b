// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// small is one experiment, for tests of what holds for all.
func small() []experiment { return []experiment{{variant: "inline", model: "ssd", chunk: 16 << 10}} }

func value(t *testing.T, r Record, setting, name string) int64 {
	t.Helper()
	for _, c := range r {
		if c.Setting == setting && c.Name == name {
			return c.Value
		}
	}
	t.Fatalf("no counter %s of %s", name, setting)
	return 0
}

// TestCountersRepeat takes all counters twice.
func TestCountersRepeat(t *testing.T) {
	first, err := Take(t.Context())
	require.NoError(t, err)
	second, err := Take(t.Context())
	require.NoError(t, err)
	require.Empty(t, Diff(first, second))
	require.Equal(t, first, second, "modelled times too")
	const inline = "inline/chunk=16K/ssd/"
	chunks := int64(originSize / 4 / (16 << 10))
	require.Equal(t, chunks*(16<<10), value(t, first, inline+"firstwrite", "read-bytes"), "each chunk is read once to be copied")
	require.Equal(t, chunks, value(t, first, inline+"rewrite", "writes"), "a settled write is one write")
	require.Zero(t, value(t, first, inline+"rewrite", "reads"))
	require.Zero(t, value(t, first, inline+"rewrite", "messages"), "a settled write asks no server")
}

// TestSlowdownIsCaught plants 5 % more writes, and one single write.
func TestSlowdownIsCaught(t *testing.T) {
	before, err := take(t.Context(), small())
	require.NoError(t, err)
	for _, every := range []int64{20, 900} {
		planted := small()
		planted[0].through = plant(every)
		after, err := take(t.Context(), planted)
		require.NoError(t, err)
		var moved []string
		for _, m := range Diff(before, after) {
			moved = append(moved, m.Setting+" "+m.Name)
			require.NotEqual(t, "reads", m.Name, "only writes are planted")
		}
		require.Contains(t, moved, "inline/chunk=16K/ssd/rewrite writes", "every %d", every)
		was, is := value(t, before, "inline/chunk=16K/ssd/rewrite", "writes"), value(t, after, "inline/chunk=16K/ssd/rewrite", "writes")
		require.InDelta(t, float64(was)/float64(every), float64(is-was), 1, "every %d", every)
		require.Greater(t, is, was)
	}
}

func TestPlantedFindsItself(t *testing.T) {
	found, err := FindsPlanted(t.Context(), 5)
	require.NoError(t, err)
	require.True(t, found)
}

func TestDiff(t *testing.T) {
	old := Record{{"a", "writes", 1000}, {"a", ModelTime, 1e6}, {"b", "reads", 0}, {"c", "reads", 5}}
	require.Empty(t, Diff(old, Record{{"c", "reads", 5}, {"b", "reads", 0}, {"a", ModelTime, 1e6 + 1000}, {"a", "writes", 1000}}))
	moves := Diff(old, Record{{"a", "writes", 999}, {"a", ModelTime, 1e6 + 1001}, {"b", "reads", 3}, {"d", "reads", 1}})
	var text []string
	for _, m := range moves {
		text = append(text, m.Setting+" "+m.Name+" "+m.Change())
	}
	require.Equal(t, []string{"a writes -0.1%", "a model-ns +0.1%", "b reads +3", "d reads new", "c reads gone"}, text)
}

func TestRecordRoundTrip(t *testing.T) {
	r := Record{{"inline/chunk=16K/ssd/rewrite", "writes", 1024}, {"inline/chunk=16K/ssd/rewrite", ModelTime, math.MaxInt64}}
	var b bytes.Buffer
	require.NoError(t, r.Write(&b))
	got, err := Read(&b)
	require.NoError(t, err)
	require.Equal(t, r, got)
	for text, says := range map[string]string{
		"a writes\n":                 "line 1: bad record of counters: 2 fields",
		"# x\na writes 1.5\n":        `line 2: bad record of counters: "1.5" is not a whole number`,
		"a writes 1\n\na writes 2\n": "line 3: bad record of counters: writes of a is there twice",
	} {
		_, err := Read(strings.NewReader(text))
		require.ErrorIs(t, err, ErrRecord)
		require.ErrorContains(t, err, says)
	}
}
