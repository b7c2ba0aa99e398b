// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/harness/export"
)

// asChild is set in the environment of the test binary that serves.
const asChild = "ZUMASTOR_TEST_EXPORT"

func TestMain(m *testing.M) {
	if paths := os.Getenv(asChild); paths != "" {
		dir := paths
		err := export.Serve(context.Background(), config(dir), os.Stdin, os.Stdout)
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == export.PartCommand {
		if err := export.RunPart(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func config(dir string) export.Config {
	return export.Config{
		Origin: filepath.Join(dir, "origin"), Store: filepath.Join(dir, "store"), Socket: filepath.Join(dir, "socket"),
		ChunkSize: 64 << 10, Variant: "inline",
	}
}

func TestChildServesSnapshots(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"origin", "store"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), make([]byte, 32<<20), 0o600))
	}
	t.Setenv(asChild, dir)
	self, err := os.Executable()
	require.NoError(t, err)
	child, err := export.Start([]string{self}, config(dir))
	require.NoError(t, err)
	require.NoError(t, child.Snapshot(1))
	require.ErrorContains(t, child.Snapshot(1), "snapshot exists already")
	volume, err := nbdclient.Dial("unix", config(dir).Socket, export.Volume, nbdclient.Options{})
	require.NoError(t, err)
	raw, err := nbdclient.Dial("unix", config(dir).Socket, export.Raw, nbdclient.Options{})
	require.NoError(t, err)
	want := bytes.Repeat([]byte{5}, 4096)
	_, err = volume.WriteAt(want, 1<<20)
	require.NoError(t, err)
	got := make([]byte, 4096)
	_, err = raw.ReadAt(got, 1<<20)
	require.NoError(t, err)
	require.Equal(t, want, got, "both are one origin")
	require.NoError(t, child.Delete(1))
	require.ErrorContains(t, child.Delete(1), "no such snapshot")
	require.NoError(t, volume.Close())
	require.NoError(t, raw.Close())
	require.NoError(t, child.Close())
}

func TestStartPassesOnWhatFails(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(asChild, dir)
	self, err := os.Executable()
	require.NoError(t, err)
	_, err = export.Start([]string{self}, config(dir))
	require.ErrorContains(t, err, "no such file")
	_, err = export.Start([]string{filepath.Join(dir, "none")}, config(dir))
	require.ErrorContains(t, err, "starting the export")
}

func TestCheck(t *testing.T) {
	c := config("/")
	require.NoError(t, c.Check())
	c.Variant = "raw"
	require.ErrorContains(t, c.Check(), "no placement")
}
