// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
)

// broken is a storage that takes nothing.
type broken struct{ storage.Storage }

func (broken) Put(context.Context, string, []byte) error { return errors.New("the bucket is full") }

// cutting is a storage that interrupts its caller once it has answered.
type cutting struct {
	storage.Storage
	interrupt func()
}

func (c cutting) ReadAt(_ context.Context, name string, p []byte, off int64) (int, error) {
	defer c.interrupt()
	return c.Storage.ReadAt(context.Background(), name, p, off)
}

// TestTaskMayRunAgain: a task that is cut anywhere, or runs twice, leaves one object, whole,
// and measures no more than it must.
func TestTaskMayRunAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("carries out an experiment")
	}
	s, root := storage.NewMemory(), t.TempDir()
	do := func(ctx context.Context, to storage.Storage, seed uint64) (bool, string, error) {
		var out bytes.Buffer
		task := Task{Job: "j", Machine: "node-1", To: to, Out: &out, Options: runner.Options{
			Suite: spec.Smoke, Experiments: []string{"E10"}, Seed: seed, Root: root, Out: &out, Bed: stack.Options{Dir: t.TempDir()}}}
		run, err := task.Run(ctx)
		return run != nil && err == nil, out.String(), err
	}
	objects := func() []storage.Object {
		list, err := s.List(t.Context(), "")
		require.NoError(t, err)
		return list
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := do(ctx, cutting{s, cancel}, 1)
	require.ErrorIs(t, err, runner.ErrInterrupted)
	_, out, err := do(t.Context(), broken{s}, 1)
	require.ErrorContains(t, err, "the bucket is full: run the same again")
	require.Contains(t, out, "going on with it")
	require.Empty(t, objects())

	ran, out, err := do(t.Context(), s, 1)
	require.NoError(t, err)
	require.True(t, ran)
	require.NotContains(t, out, "E10: round", "it was measured before the bucket was full")
	require.Len(t, objects(), 1)
	ran, out, err = do(t.Context(), s, 1)
	require.NoError(t, err)
	require.False(t, ran)
	require.Contains(t, out, "collected already")
	_, _, err = do(t.Context(), s, 2)
	require.ErrorIs(t, err, ErrMismatch)

	whole := objects()[0]
	require.NoError(t, s.Put(t.Context(), whole.Name, []byte("half")))
	ran, out, err = do(t.Context(), s, 1)
	require.NoError(t, err)
	require.True(t, ran)
	require.Contains(t, out, "carrying the trial out again")
	all, err := gather(t, s)
	require.NoError(t, err)
	require.Equal(t, []Span{{"E10", 0, 1, 1}}, all[0].Spans)
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Len(t, entries, 2, "one run, and the link to it")
}

func TestTaskRefuses(t *testing.T) {
	for _, job := range []string{"", "A", "a b", "a/b", "-a", "a-", "1a", "a.b"} {
		_, err := Task{Job: job}.Run(t.Context())
		require.ErrorContains(t, err, "a job's name has", job)
	}
	_, err := Task{Job: "j", Machine: "m", Options: runner.Options{Suite: spec.Smoke, Experiments: []string{"E10"}, Trial: spec.Trial{Count: 9}}, To: storage.NewMemory()}.Run(t.Context())
	require.ErrorContains(t, err, "have only 1 rounds")
}
