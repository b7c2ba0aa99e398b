// SPDX-License-Identifier: Apache-2.0

package duel

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/regress"
)

// busy is a side on a machine on which others work: its times are those of the build
// and what interrupts it, which is much at times.
type busy struct {
	ns    float64
	rng   *rand.Rand
	phase *float64 // how slow the whole machine is at the moment
}

func (b busy) Measure(_ context.Context, _ string, times, _ int) ([]float64, error) {
	*b.phase = max(1, *b.phase*(0.95+0.1*b.rng.Float64()))
	all := make([]float64, times)
	for i := range all {
		all[i] = b.ns * *b.phase * (1 + 0.01*b.rng.Float64() + 0.5*b.rng.ExpFloat64()*b.rng.Float64())
	}
	return all, nil
}

func duelOf(t *testing.T, slower float64, seed uint64) regress.Row {
	rng, phase := rand.New(rand.NewPCG(seed, 1)), 1.0
	o := Defaults()
	o.Benchmarks, o.Seed = []string{"x"}, seed
	rows, err := Run(t.Context(), busy{100, rng, &phase}, busy{100 * slower, rng, &phase}, o)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	return rows[0]
}

// TestVerdictsUnderNoise: no alarm in 200 duels of equal builds, and nine of ten slower
// ones are found.
func TestVerdictsUnderNoise(t *testing.T) {
	found, better := 0, 0
	for seed := range uint64(200) {
		require.NotContains(t, []regress.Verdict{regress.Worse, regress.Better}, duelOf(t, 1, seed).Verdict, "seed %d", seed)
		if duelOf(t, 1.10, seed).Verdict == regress.Worse {
			found++
		}
		if duelOf(t, 0.90, seed).Verdict == regress.Better {
			better++
		}
	}
	require.GreaterOrEqual(t, found, 180)
	require.GreaterOrEqual(t, better, 180)
}

// failing is a side that fails.
type failing struct{}

var errFails = errors.New("fails")

func (failing) Measure(context.Context, string, int, int) ([]float64, error) { return nil, errFails }

func TestErrorsEndADuel(t *testing.T) {
	o := Defaults()
	o.Benchmarks = []string{"x"}
	_, err := Run(t.Context(), failing{}, failing{}, o)
	require.ErrorIs(t, err, errFails)
}

func TestPace(t *testing.T) {
	for _, name := range []string{PaceRewrite, PaceFirstWrite} {
		var out strings.Builder
		require.NoError(t, RunPace([]string{name, "3", "200", "10"}, &out))
		require.Equal(t, 3, strings.Count(out.String(), "\n"), name)
	}
	for _, args := range [][]string{nil, {"sleep", "1", "1", "0"}, {PaceRewrite, "1", "x", "0"}} {
		require.Error(t, RunPace(args, io.Discard))
	}
}

// TestCheckout compares two revisions of a small module.
func TestCheckout(t *testing.T) {
	for _, program := range []string{"git", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if testing.Short() {
		t.Skip("builds two programs")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	write("go.mod", "module example.org/x\n\ngo 1.26\n")
	const head = "package p\n\nimport \"testing\"\n\n"
	write("p/p_test.go", head+"func BenchmarkBoth(b *testing.B) { b.Run(\"a\", func(b *testing.B) { for b.Loop() {} }) }\nfunc BenchmarkOld(b *testing.B) {}\n")
	for _, args := range []string{"init -q", "add .", "-c user.name=x -c user.email=x@example.org commit -q -m x"} {
		out, err := exec.Command("git", strings.Fields(args)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	write("p/p_test.go", head+"func BenchmarkBoth(b *testing.B) { b.Run(\"a\", func(b *testing.B) { for b.Loop() {} }) }\nfunc BenchmarkNew(b *testing.B) {}\n")
	tree := filepath.Join(t.TempDir(), "tree")
	remove, err := Worktree(t.Context(), "HEAD", tree)
	require.NoError(t, err)
	bin := t.TempDir()
	old, err := Build(t.Context(), tree, "p", bin, "old")
	require.NoError(t, err)
	new, err := Build(t.Context(), dir, "p", bin, "new")
	require.NoError(t, err)
	names, err := Benchmarks(t.Context(), old, new, ".")
	require.NoError(t, err)
	require.Equal(t, []string{"Both/a"}, names)
	o := Defaults()
	o.Benchmarks, o.Pairs, o.Repeats = names, 3, 2
	rows, err := Run(t.Context(), old, new, o)
	require.NoError(t, err)
	require.Equal(t, 3, rows[0].Speed.N)
	require.NoError(t, remove())
	require.NoDirExists(t, tree)
	_, err = Worktree(t.Context(), "no-such-revision", tree)
	require.ErrorContains(t, err, "git worktree")
	_, err = Build(t.Context(), dir, "q", bin, "none")
	require.ErrorContains(t, err, "building the tests of q in none")
}
