// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == export.PartCommand { // this is a child of a test
		if err := export.RunPart(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const mib = 1 << 20

// tiny are experiments small enough for memory, one of each procedure that runs
// there.
func tiny() []spec.Experiment {
	base := spec.Experiment{
		Measured: true, Chunks: []int64{16 << 10}, Depths: []int{4}, Block: 4096, Origin: 4 * mib, Store: 32 * mib,
		Window: 4 * time.Millisecond, MinOps: 8, MaxOps: 40, Rounds: 2,
	}
	write, read, many := base, base, base
	write.Name, write.Procedure = "E6", spec.Write
	write.Variants, write.Ops = []string{"raw", "copybound", "inline", "pmem"}, []string{"firstwrite", "rewrite", "sequential"}
	write.Models = []string{"hdd", "nvme"}
	read.Name, read.Procedure = "E4", spec.Read
	read.Variants, read.Ops, read.Snapshots = []string{"raw", "inline"}, []string{"read"}, []int{0, 3}
	many.Name, many.Procedure = "E5", spec.Snapshots
	many.Variants, many.Ops, many.Snapshots = []string{"raw", "copybound", "inline"}, []string{"delete", "create", "firstwrite", "read"}, []int{1, 5}
	return []spec.Experiment{write, read, many}
}

// start makes a runner of experiments on memory, with a record in dir.
func start(t *testing.T, dir string, all []spec.Experiment) *runner {
	t.Helper()
	record, err := results.Create(dir, results.Manifest{Suite: "smoke"})
	require.NoError(t, err)
	return carryOn(t, record, all)
}

func carryOn(t *testing.T, record *results.Run, all []spec.Experiment) *runner {
	t.Helper()
	size := bedSize(all)
	size.Origin, size.Stores = max(size.Origin, mib), max(size.Stores, mib) // PEER needs none
	return &runner{
		Options: Options{Seed: 1, Bed: stack.Options{Dir: t.TempDir()}}, record: record,
		progress: newProgress(io.Discard, false, remaining(all, record)), bed: stack.NewMemory(size),
	}
}

// names returns how often each sample of a set is there.
func names(set results.Set) map[string]int {
	n := map[string]int{}
	for s := range set.All() {
		n[s.Name()]++
	}
	return n
}

func TestProceduresRecordEverySetting(t *testing.T) {
	all := tiny()
	r := start(t, t.TempDir(), all)
	require.NoError(t, r.all(t.Context(), all))
	got := names(r.record.Measured())
	for _, want := range []string{
		"E6/op=firstwrite/variant=raw/chunk=16384/qd=4", "E6/op=firstwrite/variant=copybound/chunk=16384/qd=4",
		"E6/op=firstwrite/variant=inline/chunk=16384/qd=4", "E6/op=rewrite/variant=raw/chunk=16384/qd=4",
		"E6/op=rewrite/variant=pmem/chunk=16384/qd=4", "E6/op=sequential/variant=inline/chunk=16384/qd=4",
		"E4/op=read/variant=raw/qd=4", "E4/op=read/variant=inline/chunk=16384/qd=4/snapshots=0",
		"E4/op=read/variant=inline/chunk=16384/qd=4/snapshots=3", "E5/op=create/variant=inline/chunk=16384/snapshots=5",
		"E5/op=delete/variant=inline/chunk=16384/snapshots=1", "E5/op=firstwrite/variant=raw/chunk=16384/snapshots=0",
		"E5/op=firstwrite/variant=inline/chunk=16384/snapshots=5", "E5/op=read/variant=inline/chunk=16384/snapshots=5",
	} {
		require.Equal(t, 2, got[want], "%s in %v", want, got)
	}
	require.NotContains(t, got, "E6/op=rewrite/variant=copybound/chunk=16384/qd=4", "that is raw's")
	for s := range r.record.Measured().All() {
		if s.Config.Get("op") == "rewrite" && spec.IsPlacement(s.Config.Get("variant")) {
			require.Zero(t, s.Values[results.AllocsPerOp], s.Name())
		}
		if s.Config.Get("op") == "create" {
			require.Contains(t, s.Values, goals.BeyondFlush)
		}
		require.Positive(t, s.Values[results.NsPerOp], s.Name())
	}
	require.Equal(t, 1, names(r.record.Modelled())["E6/op=firstwrite/variant=inline/chunk=16384/qd=4/model=hdd"])
}

func modelledOf(t *testing.T, e spec.Experiment) []results.Sample {
	t.Helper()
	p := newProcedure(bench{Experiment: e, seed: 7})
	require.NoError(t, p.prepare(t.Context()))
	samples, err := p.round(t.Context(), 0)
	require.NoError(t, err)
	require.NoError(t, p.close())
	require.NotEmpty(t, samples)
	for _, s := range samples {
		require.Equal(t, results.Modelled, s.Kind)
		require.NoError(t, s.Validate())
	}
	return samples
}

func TestModelledFiguresAreTheSameEveryTime(t *testing.T) {
	write := tiny()[0]
	write.Measured = false
	require.Equal(t, modelledOf(t, write), modelledOf(t, write))
}

func TestUntarIsModelled(t *testing.T) {
	e := spec.Experiment{
		Name: "E1", Procedure: spec.Untar, Trace: "untar-go", Variants: []string{"raw", "inline"}, Models: []string{"nvme"},
		Chunks: []int64{64 << 10}, Depths: []int{64}, Phases: 2, ModelPhases: 2, Rounds: 1,
	}
	beginnings := func() []results.Sample {
		u := &untar{bench: bench{Experiment: e, seed: 7}}
		require.NoError(t, u.prepare(t.Context()))
		for i, ops := range u.phases {
			u.phases[i] = ops[:200]
		}
		samples, err := u.round(t.Context(), 0)
		require.NoError(t, err)
		return samples
	}
	first := beginnings()
	require.Len(t, first, 4)
	require.Equal(t, first, beginnings())
	cost := func(i int) float64 { return first[2+i].Values[results.NsPerOp] / first[i].Values[results.NsPerOp] }
	require.InDelta(t, 1, cost(0), 0.05, "no snapshot costs nothing")
	require.Greater(t, cost(1), 1.5, "a snapshot costs copying")
}

func TestSpace(t *testing.T) {
	const exceptions = 1 << 14
	p := &snapshots{bench: bench{Experiment: spec.Experiment{Name: "E5", Volumes: []int64{1 << 40}}}}
	samples, err := p.space(t.Context(), exceptions)
	require.NoError(t, err)
	require.Len(t, samples, 2)
	for _, s := range samples {
		require.Greater(t, s.Values[exceptionsUnit], float64(exceptions/2))
		require.Positive(t, s.Values[results.BytesPerException])
		require.Less(t, s.Values[results.BytesPerException], 24.0, s.Name())
	}
}

// TestInterruptedRunGoesOn interrupts a run at some time, and finds whole rounds
// only; the run that goes on does the rest, and nothing twice.
func TestInterruptedRunGoesOn(t *testing.T) {
	dir := t.TempDir()
	all := tiny()[:1]
	all[0].Models, all[0].Rounds = nil, 1000
	r := start(t, dir, all)
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(150*time.Millisecond, func() { cancel(stop) })
	err := r.all(ctx, all)
	require.ErrorIs(t, err, stop)

	record, err := results.Open(r.record.Dir())
	require.NoError(t, err)
	done := record.Rounds("E6")
	require.Less(t, done, 1000)
	require.False(t, record.Completed("E6"))
	for name, n := range names(record.Measured()) {
		require.Equal(t, done, n, name)
	}

	all[0].Rounds = done + 2
	require.NoError(t, carryOn(t, record, all).all(t.Context(), all))
	require.True(t, record.Completed("E6"))
	for name, n := range names(record.Measured()) {
		require.Equal(t, done+2, n, name)
	}
	before := record.Measured().Len()
	require.NoError(t, carryOn(t, record, all).all(t.Context(), all))
	require.Equal(t, before, record.Measured().Len(), "what is complete is left alone")
}

func TestRunRefusesAnotherSettingOnResume(t *testing.T) {
	root := t.TempDir()
	o := Options{Suite: spec.Smoke, Experiments: []string{"E6"}, Seed: 1, Root: root, Bed: stack.Options{Dir: t.TempDir()}, Out: io.Discard}
	record, err := open(o)
	require.NoError(t, err)
	o.Resume = results.Latest
	again, err := open(o)
	require.NoError(t, err)
	require.Equal(t, record.Dir(), again.Dir())
	o.Seed = 2
	_, err = open(o)
	require.ErrorContains(t, err, "resume it with the same flags")
	o.Resume = "nothing"
	_, err = open(o)
	require.ErrorContains(t, err, `run "nothing"`)
}

func TestVerifyFindsAVolumeThatLies(t *testing.T) {
	e := tiny()[0]
	b := bench{Experiment: e, bed: stack.NewMemory(bedSize(tiny())), seed: 3}
	c := stack.Config{Variant: "inline", ChunkSize: 16 << 10, Origin: e.Origin, StoreSize: e.Store}
	require.NoError(t, b.verify(t.Context(), c))
	b.version = 0 // the writes change nothing, so the origin seems to lose them
	require.ErrorIs(t, b.verify(t.Context(), c), errContent)
}

func TestPeerIsSkippedWithoutQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	all, err := spec.Load(spec.Smoke)
	require.NoError(t, err)
	chosen, err := spec.Select(all, []string{"PEER"})
	require.NoError(t, err)
	r := start(t, t.TempDir(), chosen)
	require.NoError(t, r.all(t.Context(), chosen))
	require.True(t, r.record.Completed("PEER"))
	require.Contains(t, r.record.Manifest().Warnings[0], "PEER: skipped: qemu-nbd or qemu-img is not installed")
}

func TestAddressesAreOnceAChunk(t *testing.T) {
	a := newAddresses(5, 8*mib, 64<<10, 4096, 100)
	seen := map[int64]bool{}
	for i := range turns {
		s := a.slice(i, turns)
		for op, ok := s.Next(); ok; op, ok = s.Next() {
			if op.Len > 0 {
				require.NoError(t, op.Check(8*mib))
				require.False(t, seen[op.Off>>16], "chunk %d twice", op.Off>>16)
				seen[op.Off>>16] = true
			}
		}
	}
	require.Len(t, seen, 100)
}

func TestSequentialSlicesJoin(t *testing.T) {
	b := bench{Experiment: spec.Experiment{Store: 8 * mib, Origin: 64 * mib}}
	next, flushes := int64(0), 0
	for i := range 3 {
		s := b.sequential(i, 3)
		for op, ok := s.Next(); ok; op, ok = s.Next() {
			if op.Len == 0 {
				flushes++
				continue
			}
			require.Equal(t, next, op.Off)
			next = op.End()
		}
	}
	require.Equal(t, int64(mib), next)
	require.Equal(t, 3, flushes)
}

func TestInTurnsGivesEachVariantEachSlice(t *testing.T) {
	b := bench{Experiment: spec.Experiment{Name: "E6"}}
	var order []string
	require.NoError(t, inTurns(t.Context(), b.random(3), turns, 3, func(v, s int) error {
		order = append(order, fmt.Sprint(v, s))
		return nil
	}))
	require.Len(t, order, 3*turns)
	var again []string
	require.NoError(t, inTurns(t.Context(), b.random(3), turns, 3, func(v, s int) error {
		again = append(again, fmt.Sprint(v, s))
		return nil
	}))
	require.Equal(t, order, again, "the order follows from the seed")
	slices.Sort(order)
	require.Len(t, slices.Compact(order), 3*turns)
}

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, false, 10*time.Second)
	p.begin("E6: round 1 of 2", 5*time.Second)
	p.begin("E6: round 2 of 2", 5*time.Second)
	p.end()
	require.Equal(t, "  0%  E6: round 1 of 2         \n", out.String(), "not more often than every ten seconds")
	p.done = 5 * time.Second
	p.began = time.Now().Add(-time.Minute)
	require.Equal(t, "about 1m0s left", p.left())
}

func TestCostsAreOfAllThatIsLeft(t *testing.T) {
	for _, s := range []spec.Suite{spec.Smoke, spec.Quick, spec.Full} {
		all, err := spec.Load(s)
		require.NoError(t, err)
		record, err := results.Create(t.TempDir(), results.Manifest{Suite: string(s)})
		require.NoError(t, err)
		whole := remaining(all, record)
		require.Positive(t, whole)
		require.NoError(t, record.Complete("E6"))
		require.Less(t, remaining(all, record), whole)
		size := bedSize(all)
		require.Positive(t, size.Origin)
		require.Positive(t, size.Stores)
	}
}

func TestOpenErrorsComeOut(t *testing.T) {
	_, err := Run(t.Context(), Options{Suite: "nightly"})
	require.ErrorContains(t, err, `no suite "nightly"`)
	_, err = Run(t.Context(), Options{Suite: spec.Smoke, Experiments: []string{"E0"}})
	require.ErrorContains(t, err, `no experiment "E0"`)
	blocked := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	_, err = Run(t.Context(), Options{Suite: spec.Smoke, Root: blocked, Bed: stack.Options{Dir: t.TempDir()}})
	require.Error(t, err)
}
