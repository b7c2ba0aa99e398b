// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/harness/load"
)

const size = 1 << 20

// options are of a load on a file.
func options(t *testing.T) load.Options {
	dir := t.TempDir()
	name := filepath.Join(dir, "device")
	require.NoError(t, os.WriteFile(name, make([]byte, size), 0o600))
	return load.Options{Dir: dir, Device: name, Size: size, Churn: pattern.Options{Workers: 2, Align: 4096}}
}

// during runs a load while do does something beside it.
func during(t *testing.T, o load.Options, do func()) error {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, _, err := load.Serve(ctx, o)
		ended <- err
	}()
	do()
	cancel()
	return <-ended
}

// goOn waits for so many requests more.
func goOn(t *testing.T, dir string, n int64) {
	first, err := load.Ops(t.Context(), dir)
	require.NoError(t, err)
	for now := first; now < first+n; {
		now, err = load.Ops(t.Context(), dir)
		require.NoError(t, err)
	}
}

func copyFile(t *testing.T, from, to string) {
	p, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, p, 0o600))
}

// What is promised of a copy that is made under load, and of the device when a load
// goes on, is what they hold; and one byte elsewhere is found.
func TestPromises(t *testing.T) {
	o := options(t)
	made := filepath.Join(o.Dir, "copy")
	promise := filepath.Join(o.Dir, "promise")
	require.NoError(t, during(t, o, func() {
		goOn(t, o.Dir, 100)
		require.NoError(t, load.Promise(t.Context(), o.Dir, "promise", func() error { return nil }))
		require.Error(t, load.Promise(t.Context(), o.Dir, "failed", func() error { return io.EOF }))
		require.Error(t, load.Promise(t.Context(), o.Dir, "log", func() error { return nil }))
	}))
	require.NoFileExists(t, filepath.Join(o.Dir, "failed"))
	copyFile(t, o.Device, made)
	require.NoError(t, during(t, o, func() {
		goOn(t, o.Dir, 100)
		require.NoError(t, load.Promise(t.Context(), o.Dir, "last", func() error { return nil }))
	}), "it goes on with its account")
	require.ErrorIs(t, load.Keeps(o.Device, promise), pattern.ErrWrong, "written to since")

	now := filepath.Join(o.Dir, "now")
	found, err := pattern.Any(0x6c6f6164, size).Check(open(t, o.Device))
	require.NoError(t, err)
	require.NoError(t, load.WriteBounds(now, found))
	require.NoError(t, load.Keeps(o.Device, now))
	require.NoError(t, load.Keeps(o.Device, now), "as it was found")
	require.ErrorIs(t, load.Keeps(made, now), pattern.ErrWrong)

	p, err := os.ReadFile(o.Device)
	require.NoError(t, err)
	p[bytes.IndexByte(p, 0x73)]++
	require.NoError(t, os.WriteFile(o.Device, p, 0o600))
	require.ErrorIs(t, during(t, o, func() {}), pattern.ErrWrong)
}

func open(t *testing.T, name string) load.Device {
	d, err := load.OpenDevice(name, false)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}
