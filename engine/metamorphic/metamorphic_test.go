// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// TestMain has the garbage collected less often than is usual: volumes here are small
// and short-lived, and half of the time would be the collector's. It is not to take a
// small machine's memory for that.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	debug.SetMemoryLimit(1 << 30)
	goleak.VerifyTestMain(m)
}

// originSize leaves a partial last chunk.
const originSize = 1<<20 + 5*512

var (
	opsFile = flag.String("ops", "", "file of operations that TestReplay runs")
	seed    = flag.Uint64("seed", 1, "first seed of TestRandom")
	rounds  = flag.Int("rounds", 12, "how many seeds TestRandom tries")
)

func TestRandom(t *testing.T) {
	for s := *seed; s < *seed+uint64(*rounds); s++ {
		runSeed(t, s)
	}
}

// TestSoak is TestRandom for as long as ZUMASTOR_SOAK says, for example 10m, with
// seeds that begin at the time of day.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("ZUMASTOR_SOAK"))
	if err != nil {
		t.Skip("ZUMASTOR_SOAK names no duration")
	}
	s, n := uint64(time.Now().UnixNano()), 0
	for end := time.Now().Add(length); time.Now().Before(end); n++ {
		runSeed(t, s+uint64(n))
	}
	t.Logf("%d seeds from %d on", n, s)
}

func runSeed(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	o := RandomOptions(rng, originSize)
	ops := RandomOps(rng, originSize, 150)
	if err := run(o, ops); err != nil {
		report(t, fmt.Sprintf("seed %d", seed), o, ops, err)
	}
}

// optionsPrefix begins the line of a file of operations that holds the options.
const optionsPrefix = "# options "

// report reduces a failure, writes it to a file and fails the test.
func report(t *testing.T, what string, o rig.Options, ops []Op, err error) {
	t.Helper()
	small := Reduce(ops, 2000, func(ops []Op) bool {
		return run(o, ops) != nil
	})
	if again := run(o, small); again != nil {
		err = again
	}
	options, jerr := json.Marshal(o)
	require.NoError(t, jerr)
	f, ferr := os.CreateTemp("", "metamorphic-*.ops")
	require.NoError(t, ferr)
	fmt.Fprintf(f, "# %s: %v\n%s%s\n", what, strings.ReplaceAll(err.Error(), "\n", "; "), optionsPrefix, options)
	require.NoError(t, WriteOps(f, small))
	require.NoError(t, f.Close())
	t.Fatalf("%s, options %s: %v\nreduced to %d operations; run them again with -run TestReplay -ops %s",
		what, options, err, len(small), f.Name())
}

// TestReplay runs the file of operations that -ops names.
func TestReplay(t *testing.T) {
	if *opsFile == "" {
		t.Skip("no -ops file")
	}
	text, err := os.ReadFile(*opsFile)
	require.NoError(t, err)
	o, ops := parse(t, string(text))
	require.NoError(t, run(o, ops))
}

// TestOldFailures runs what once failed.
func TestOldFailures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.ops")
	require.NoError(t, err)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			o, ops := parse(t, string(text))
			require.NoError(t, run(o, ops))
		})
	}
}

// run is Run that returns a panic as an error, so that it can be reduced.
func run(o rig.Options, ops []Op) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	_, err = Run(o, ops, checkStore)
	return err
}

// parse reads a file of operations with its options.
func parse(t *testing.T, text string) (o rig.Options, ops []Op) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, optionsPrefix); ok {
			require.NoError(t, json.Unmarshal([]byte(rest), &o))
		}
	}
	ops, err := ReadOps(strings.NewReader(text))
	require.NoError(t, err)
	return o, ops
}

func TestOptionsDoNotChangeAnswers(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var ops []Op
	for _, o := range RandomOps(rng, originSize, 250) {
		if o.Kind != Discard && o.Kind != Crash && o.Kind != ResizeSt {
			ops = append(ops, o)
		}
	}
	var want uint32
	for i := range 8 {
		o := RandomOptions(rng, originSize)
		o.StoreSize = 256 << 20 // room for all
		r, err := Run(o, ops, checkStore)
		require.NoError(t, err, "%+v", o)
		require.Zero(t, r.Failed, "%+v", o)
		if i == 0 {
			want = r.Answers
		}
		require.Equal(t, want, r.Answers, "%+v", o)
	}
}

// TestNoticesWrongAnswers changes a byte of the origin behind the engine's back.
func TestNoticesWrongAnswers(t *testing.T) {
	r, err := NewRunner(roomy(layout.PlacementInline, false), rig.Wrappers{})
	require.NoError(t, err)
	defer func() { r.Rig.Abandon() }()
	require.NoError(t, r.All([]Op{{Kind: Write, Len: 4096, Seed: 1}, {Kind: Snapshot, Tag: 1}}))
	require.NoError(t, r.Compare())
	d := r.Rig.Machine.Device(rig.Origin)
	_, err = d.WriteAt(make([]byte, 512), 512)
	require.NoError(t, err)
	require.ErrorContains(t, r.Compare(), "sector 1 holds zeroes")
}

// roomy returns options with which no limit is met.
func roomy(p layout.Placement, separate bool) rig.Options {
	return rig.Options{
		OriginSize: originSize, ChunkSize: 16 << 10, Placement: p, Separate: separate,
		StoreSize: 64 << 20, MetaSize: 16 << 20, JournalSize: 1 << 20,
	}
}

func TestOpsAreText(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	ops := append(RandomOps(rng, originSize, 2000), Op{Kind: Vector})
	var text strings.Builder
	require.NoError(t, WriteOps(&text, ops))
	back, err := ReadOps(strings.NewReader("# comment\n\n" + text.String()))
	require.NoError(t, err)
	require.Equal(t, ops, back)
	for _, bad := range []string{
		"frobnicate", "write", "write 0+4096", "write 0+4095 1", "write 1+512 1", "write -512+512 1", "flush now",
		"snapshot", "snapshot 4294967296", "crash 1 2 0", "crash 1 NaN 0", "vector write 0+512 1", "vector [flush]", "read 5",
	} {
		_, err := ParseOp(bad)
		require.ErrorIs(t, err, ErrSyntax, bad)
	}
}

func FuzzParseOp(f *testing.F) {
	for _, o := range RandomOps(rand.New(rand.NewPCG(1, 1)), originSize, 50) {
		f.Add(o.String())
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := ParseOp(line)
		if err != nil {
			require.ErrorIs(t, err, ErrSyntax)
			return
		}
		again, err := ParseOp(o.String())
		require.NoError(t, err)
		require.Equal(t, o, again)
	})
}

func TestReduceLeavesWhatFails(t *testing.T) {
	ops := RandomOps(rand.New(rand.NewPCG(5, 5)), originSize, 300)
	ops[100] = Op{Kind: Snapshot, Tag: 1000}
	ops[200] = Op{Kind: Vector, Ops: []Op{{Kind: Read, Len: 512}, {Kind: Write, Off: 512, Len: 512, Seed: 77}, {Kind: Read, Off: 4096, Len: 512}}}
	got := Reduce(ops, 10_000, func(ops []Op) bool {
		seen := false
		for _, o := range ops {
			seen = seen || o.Tag == 1000
			for _, p := range o.Ops {
				if seen && p.Seed == 77 {
					return true
				}
			}
		}
		return false
	})
	require.Equal(t, []Op{ops[100], {Kind: Vector, Ops: []Op{{Kind: Write, Off: 512, Len: 512, Seed: 77}}}}, got)
}
