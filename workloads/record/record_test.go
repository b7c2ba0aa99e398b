// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/trace"
	"zumastor.org/zumastor/workloads/traces"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runRecipe runs a recipe that is not among the committed ones, and skips the
// test where that is not possible.
func runRecipe(t *testing.T, r Recipe) (Report, error) {
	t.Helper()
	if err := r.supported(); err != nil {
		t.Skip(err)
	}
	r.Name, r.Size = "sample", 64<<20
	r.prepare = func(context.Context, *session) error { return nil }
	var report Report
	err := inMountNamespace(func() error {
		var err error
		report, err = runIn(t.Context(), r, Options{WorkDir: t.TempDir(), OnStatus: func(string) {}})
		return err
	})
	if errors.Is(err, ErrNotSupported) {
		t.Skip(err)
	}
	return report, err
}

func TestRecordingOfKnownWrites(t *testing.T) {
	report, err := runRecipe(t, Recipe{run: func(_ context.Context, s *session) error {
		for i := range 3 {
			s.mark(fmt.Sprintf("file %d", i))
			f, err := os.Create(filepath.Join(s.mnt, fmt.Sprint(i)))
			if err != nil {
				return err
			}
			data := make([]byte, 1<<20)
			for j := range data {
				data[j] = byte(i + 1)
			}
			_, err = f.Write(data)
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
		}
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, int64(64<<20), report.Trace.Size)
	require.GreaterOrEqual(t, report.ChangedBlocks, int64(3*256))
	require.GreaterOrEqual(t, report.WrittenBlocks, report.ChangedBlocks)
	phases := report.Trace.Phases()
	require.Len(t, phases, 5)
	for _, p := range phases[1:4] {
		in, err := trace.Stat(workloads.NewSlice(p.Ops))
		require.NoError(t, err)
		require.GreaterOrEqual(t, in.Bytes[workloads.Write], int64(1<<20), p.Name)
		require.Positive(t, in.Ops[workloads.Flush], "fsync flushes")
	}
}

func TestRecordingOfDiscardAndZero(t *testing.T) {
	report, err := runRecipe(t, Recipe{run: func(_ context.Context, s *session) error {
		const zeroed, discarded = 0x127f, 0x1277 // BLKZEROOUT and BLKDISCARD
		if err := s.unmount(); err != nil {
			return err
		}
		for _, request := range []uint{zeroed, discarded} {
			if err := blockRange(s.volume.file, request, 32<<20, 1<<20); err != nil {
				return fmt.Errorf("request %#x: %w", request, err)
			}
		}
		return s.mount()
	}})
	require.NoError(t, err)
	want := map[workloads.Kind]bool{workloads.Zero: false, workloads.Discard: false}
	for _, op := range report.Trace.Ops {
		if op.Off == 32<<20 && op.Len == 1<<20 {
			want[op.Kind] = true
		}
	}
	require.Equal(t, map[workloads.Kind]bool{workloads.Zero: true, workloads.Discard: true}, want)
}

func TestFailingProgramFailsTheRecording(t *testing.T) {
	_, err := runRecipe(t, Recipe{run: func(ctx context.Context, s *session) error {
		return s.exec(ctx, "sh", "-c", "echo sorry; exit 3")
	}})
	require.ErrorContains(t, err, "exit status 3: sorry")
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	require.NotContains(t, string(mounts), "record-sample-", "mounts are private")
}

func TestWritesBehindTheRecordersBackAreFound(t *testing.T) {
	_, err := runRecipe(t, Recipe{run: func(_ context.Context, s *session) error {
		f, err := os.OpenFile(s.volume.imagePath, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("behind"), 48<<20)
		return err
	}})
	require.ErrorIs(t, err, ErrInexact)
	require.ErrorContains(t, err, "among them the one at 50331648")
}

func TestCoverage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	seed := maphash.MakeSeed()
	write := func(off int64, text string) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte(text), off)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(1<<20))
		require.NoError(t, f.Close())
	}
	write(0, "one")
	write(512<<10, "two")
	before, err := hashBlocks(path, seed)
	require.NoError(t, err)
	write(512<<10, "\x00\x00\x00")
	write(8191, "22")
	after, err := hashBlocks(path, seed)
	require.NoError(t, err)

	ops := []workloads.Op{{Kind: workloads.Write, Off: 4096, Len: 512}, {Kind: workloads.Discard, Off: 512 << 10, Len: 4096}, {Kind: workloads.Read, Off: 8192, Len: 512}}
	_, _, err = coverage(ops, before, after)
	require.ErrorIs(t, err, ErrInexact)
	require.ErrorContains(t, err, "1 of 3 changed blocks were not written according to it, among them the one at 8192")
	changed, written, err := coverage(append(ops, workloads.Op{Kind: workloads.Zero, Off: 8192, Len: 8192}), before, after)
	require.NoError(t, err)
	require.Equal(t, []int64{3, 4}, []int64{changed, written})
}

// TestRecipesMatchTheirTraces holds that what is committed is what would be
// recorded.
func TestRecipesMatchTheirTraces(t *testing.T) {
	var names []string
	for _, r := range Recipes() {
		names = append(names, r.Name)
		tr, err := traces.Load(r.Name)
		require.NoError(t, err)
		require.Equal(t, r.Size, tr.Size)
		var phases []string
		for _, p := range tr.Phases() {
			phases = append(phases, p.Name)
		}
		require.Equal(t, append(append([]string{"mount"}, r.Phases...), "unmount"), phases)
	}
	require.Equal(t, traces.Names(), names)
}

func TestRunRefuses(t *testing.T) {
	_, err := Run(t.Context(), "nothing", Options{})
	require.ErrorContains(t, err, `no recipe "nothing": there are git-checkout, `)
	err = Recipe{Name: "x", Tools: []string{"no-such-program"}}.supported()
	require.ErrorIs(t, err, ErrNotSupported)
	if os.Geteuid() == 0 {
		require.ErrorContains(t, err, "no-such-program")
	} else {
		require.ErrorContains(t, err, "needs root")
	}
}

func TestRecordSQLite(t *testing.T) {
	if testing.Short() {
		t.Skip("records a whole recipe")
	}
	path := filepath.Join(t.TempDir(), "sqlite.trace")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := Run(ctx, "sqlite", Options{Output: path, WorkDir: t.TempDir()})
	if errors.Is(err, ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	got, err := trace.Open(path)
	require.NoError(t, err)
	require.Equal(t, report.Trace, got)
	require.Greater(t, report.Info.Ops[workloads.Flush], int64(2*sqliteTransactions))
}

// blockRange issues a request of the block layer that takes a range.
func blockRange(f *os.File, request uint, off, n uint64) error {
	args := [2]uint64{off, n}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&args))); errno != 0 {
		return errno
	}
	return nil
}
