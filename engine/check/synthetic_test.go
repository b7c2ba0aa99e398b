// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// A synthetic store is one that the engine opens and the checker accepts.
func TestSyntheticStoreIsAStore(t *testing.T) {
	for _, n := range []int{0, 1, 3, 10000} {
		o := checktest.Synthetic{Exceptions: n, Snapshots: 50, Seed: uint64(n)}
		d := memdev.New(o.StoreSize())
		require.NoError(t, o.Write(d))
		checktest.MustBeClean(t, check.Devices{Store: d})
		s, err := store.Open(placement.Devices{Store: d}, store.Options{})
		require.NoError(t, err)
		require.EqualValues(t, n, s.Status().Exceptions)
		require.NoError(t, s.Close())
		checktest.MustBeClean(t, check.Devices{Store: d})
	}
}

// TestLargeCheck checks as many exceptions as ZUMASTOR_EXCEPTIONS says, on a file in
// TMPDIR, and prints what it takes: the goal is 10 million in 60 s and 256 MiB.
func TestLargeCheck(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("ZUMASTOR_EXCEPTIONS"))
	if err != nil {
		t.Skip("ZUMASTOR_EXCEPTIONS says how many exceptions; it is not set")
	}
	o := checktest.Synthetic{Exceptions: n, Snapshots: 1000}
	name := t.TempDir() + "/store"
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	require.NoError(t, os.Truncate(name, o.StoreSize()))
	d, err := device.OpenFile(name, device.FileOptions{})
	require.NoError(t, err)
	defer d.Close()
	began := time.Now()
	require.NoError(t, o.Write(d))
	t.Logf("written in %v", time.Since(began))
	debug.FreeOSMemory()

	began = time.Now()
	for v := range check.Check(check.Devices{Store: d}, check.Options{}) {
		t.Error(v)
	}
	t.Logf("checked in %v", time.Since(began))
}
