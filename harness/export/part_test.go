// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/stack"
)

// large makes the files of a store of many exceptions and its origin.
func large(t *testing.T, exceptions int) (origin, store, self string) {
	t.Helper()
	dir := t.TempDir()
	origin, store = filepath.Join(dir, "origin"), filepath.Join(dir, "store")
	contents := checktest.Synthetic{Exceptions: exceptions, Snapshots: 10}
	for path, size := range map[string]int64{origin: contents.OriginSize(), store: contents.StoreSize()} {
		f, err := device.OpenFile(path, device.FileOptions{Create: size})
		require.NoError(t, err)
		if path == store {
			require.NoError(t, contents.Write(f))
		}
		require.NoError(t, f.Close())
	}
	self, err := os.Executable()
	require.NoError(t, err)
	return origin, store, self
}

// withStack opens the store with its origin.
func withStack(t *testing.T, origin, store string, do func(*stack.Stack)) {
	t.Helper()
	bed, err := stack.OpenPaths(origin, store)
	require.NoError(t, err)
	st, err := bed.OpenAll()
	require.NoError(t, err)
	do(st)
	require.NoError(t, errors.Join(st.Close(), bed.Close()))
}

// A writer that is killed leaves something to recover, and all of it is there.
func TestKilledWriterIsRecoveredFrom(t *testing.T) {
	const exceptions = 40000
	origin, store, self := large(t, exceptions)
	child, err := export.StartPart([]string{self}, export.CrashPart, origin, store, "7")
	require.NoError(t, err)
	_, err = stack.OpenPaths(origin, store)
	require.ErrorIs(t, err, device.ErrInUse, "the writer lives")
	require.NoError(t, child.Kill())
	withStack(t, origin, store, func(st *stack.Stack) {
		require.Greater(t, st.Status().Exceptions, uint64(exceptions+200))
	})
}

// A check in a process of its own finds damage, and none where there is none.
func TestCheckOfAStoreInUse(t *testing.T) {
	origin, store, self := large(t, 4000)
	found := func() (violations []string) {
		withStack(t, origin, store, func(st *stack.Stack) {
			pin, err := st.Server().Pin()
			require.NoError(t, err)
			defer pin.Unpin()
			report, err := export.ReadCheck([]string{self}, store, pin.Superblock)
			require.NoError(t, err)
			require.Greater(t, report.PeakBytes, int64(1<<20))
			require.Greater(t, report.Entries, uint64(4000), "mirrors are entries too")
			violations = report.Violations
		})
		return violations
	}
	require.Empty(t, found())
	text, err := os.ReadFile(store)
	require.NoError(t, err)
	at := bytes.LastIndex(text, text[pageOf(t, text):][:8]) // the magic of a tree page: the last one's
	f, err := os.OpenFile(store, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 64), int64(at))
	require.NoError(t, errors.Join(err, f.Close()))
	require.NotEmpty(t, found())
}

// pageOf returns where the first tree page begins.
func pageOf(t *testing.T, store []byte) int64 {
	t.Helper()
	sb, err := layout.DecodeSuperblock(store[:layout.SuperblockSize])
	require.NoError(t, err)
	return int64(sb.TreePages.First) * block.PageSize
}

func TestPartsRefuseArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"dance"}, {export.ServePart, "store"}, {export.CrashPart, "o", "s", "seed"}} {
		require.ErrorIs(t, export.RunPart(context.Background(), args, nil, nil), export.ErrPart, "%q", args)
	}
}
