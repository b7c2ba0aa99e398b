// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/backup/storage/s3test"
	"zumastor.org/zumastor/engine/block"
)

// TestBackupToS3: the verbs on a bucket of a real server.
func TestBackupToS3(t *testing.T) {
	server := s3test.Start(t)
	dir := t.TempDir()
	t.Chdir(dir)
	content := bytes.Repeat([]byte("some content of the volume\n"), 40000)[:1<<20]
	require.NoError(t, os.WriteFile("org", content, 0o600))
	run := func(code int, args ...string) string {
		var out, errs strings.Builder
		got := Run(args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		require.Equal(t, code, got, "%v: %s%s", args, out.String(), errs.String())
		return out.String() + errs.String()
	}
	run(exitDone, "initialize", "-y", "--size", "4m", "-c", "4k", "store", "org")
	run(exitDone, "create", "--origin", "org", "store", "1")
	run(exitDone, "backup", "key", "key")
	repo := "s3:http://" + server.Address + "/" + s3test.Bucket + "/vm"
	t.Setenv("AWS_ENDPOINT_URL", "http://"+server.Address)
	short := "s3://" + s3test.Bucket + "/vm"
	require.Contains(t, run(exitWrong, "backup", "list", repo), "there is no backup repository in s3:http")
	run(exitDone, "backup", "init", "--key", "key", short)
	require.Contains(t, run(exitDone, "backup", "create", "--key", "key", "--origin", "org", "store", "1", repo), "as a full image")
	require.Contains(t, run(exitDone, "backup", "list", "--key", "key", short), " full ")
	run(exitDone, "backup", "restore", "--key", "key", repo, "1", "new")
	got, err := os.ReadFile("new")
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	run(exitDone, "backup", "check", "--data", "--key", "key", repo)
	run(exitDone, "backup", "prune", "--keep-last", "1", "--key", "key", repo)
	stored, err := filepath.Glob(filepath.Join(server.Dir, s3test.Bucket, "vm", "data", "*", "*", "*"))
	require.NoError(t, err)
	require.Len(t, stored, 1)
	run(exitWrong, "backup", "list", "s3:http://"+server.Address+"/none")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	require.Contains(t, run(exitError, "backup", "list", "--key", "key", repo), "access is denied")
}

func TestChoosePoint(t *testing.T) {
	point := func(id, name string, tag, volume int, at string) backup.Point {
		when, err := time.ParseInLocation("2006-01-02 15:04", at, time.Local)
		require.NoError(t, err)
		p := backup.Point{ID: id}
		p.Snapshot.Name, p.Snapshot.Tag, p.Snapshot.Created = name, block.Tag(tag), when.UnixNano()
		p.Snapshot.Store[0] = byte(volume)
		return p
	}
	points := []backup.Point{
		point("20261120t100000z-aaaaaaaa", "first", 1, 1, "2026-11-20 10:00"),
		point("20261121t100000z-bbbbbbbb", "second", 2, 1, "2026-11-21 10:00"),
		point("20261121t180000z-cccccccc", "", 20, 1, "2026-11-21 18:00"),
		point("20261122t100000z-dddddddd", "second", 20261122, 1, "2026-11-22 10:00"),
	}
	for text, want := range map[string]int{
		"latest": 3, "first": 0, "2": 1, "20": 2, "20261122": 3, "20261120t": 0, "20261121t18": 2, "@2026-11-20": 0, "@2026-11-21": 2, "@2026-11-21T10:00": 1,
		"@2026-11-21T17:59:59": 1, "@2030-01-01T00:00:00Z": 3,
	} {
		p, err := choosePoint(points, text)
		require.NoError(t, err, text)
		require.Equal(t, points[want].ID, p.ID, text)
	}
	for text, code := range map[string]int{
		"": exitUsage, "third": exitAbsent, "20261121t": exitUsage, "second": exitUsage, "@2026-11-19": exitAbsent, "@": exitUsage, "@2026": exitUsage, "3": exitAbsent,
	} {
		_, err := choosePoint(points, text)
		require.Error(t, err, text)
		require.Equal(t, code, exitCode(err), "%q: %v", text, err)
	}
	points = append(points, point("20261123t100000z-eeeeeeee", "", 1, 2, "2026-11-23 10:00"))
	_, err := choosePoint(points, "latest")
	require.ErrorContains(t, err, "is not clear: there are 20261121t180000z-cccccccc, 20261122t100000z-dddddddd, 20261123t100000z-eeeeeeee, 2 more")
}

// TestRestoreOverDevice: all of it is overwritten, zeroes included, and nothing beyond the
// volume's size; a smaller one is refused. A file stands in for the device.
func TestRestoreOverDevice(t *testing.T) {
	t.Chdir(t.TempDir())
	content := make([]byte, 3<<20)
	copy(content[1<<20:], bytes.Repeat([]byte("content"), 1000))
	require.NoError(t, os.WriteFile("org", content, 0o600))
	s := Streams{In: strings.NewReader(""), Out: &strings.Builder{}, Err: &strings.Builder{}}
	for _, args := range [][]string{
		{"initialize", "-y", "--size", "4m", "-c", "4k", "store", "org"}, {"create", "--origin", "org", "store", "1"},
		{"backup", "init", "repo"}, {"backup", "create", "--origin", "org", "store", "1", "repo"},
	} {
		require.Equal(t, exitDone, Run(args, s), "%v: %v", args, s.Err)
	}
	var f repositoryFlags
	r, err := f.open(t.Context(), "repo")
	require.NoError(t, err)
	points, _, err := r.Points(t.Context())
	require.NoError(t, err)
	m, err := r.NewReader().Image(t.Context(), points[0].ID)
	require.NoError(t, err)
	b := &backupRestoration{app: &app{Streams: s}, yes: true}
	require.NoError(t, os.WriteFile("dev", bytes.Repeat([]byte{9}, 4<<20), 0o600))
	require.NoError(t, b.toDevice(t.Context(), m, "dev", nil))
	got, err := os.ReadFile("dev")
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got[:3<<20]))
	require.True(t, bytes.Equal(bytes.Repeat([]byte{9}, 1<<20), got[3<<20:]))
	require.NoError(t, os.WriteFile("small", make([]byte, 1<<20), 0o600))
	require.Equal(t, exitWrong, exitCode(b.toDevice(t.Context(), m, "small", nil)))
	require.ErrorContains(t, b.toDevice(t.Context(), m, "store", nil), "it is no place to restore to")
	b.yes = false
	require.Equal(t, exitRefused, exitCode(b.toDevice(t.Context(), m, "dev", nil)))
}
