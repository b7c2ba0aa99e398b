// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
)

const storeUUID = "00112233-4455-6677-8899-aabbccddeeff"

// What the kernel is told, and what it says, is the same table.
func TestTablesOfTargets(t *testing.T) {
	origin := Table{
		Target: Target{UUID: storeUUID, Origin: true, Writable: true}, OriginDevice: "/dev/sdb", StoreDevice: "8:32",
		Size: 1 << 30, ChunkSize: 64 << 10, Features: []string{"batch_kib", "512"},
	}
	require.Equal(t, "0 2097152 ddsnap-origin "+storeUUID+" /dev/sdb 8:32 - 128 2 batch_kib 512", origin.line())
	snapshot := Table{
		Target: Target{UUID: storeUUID, Tag: 7, Writable: true}, OriginDevice: "/dev/sdb", StoreDevice: "8:32",
		Size: 1 << 30, ChunkSize: 64 << 10, DataOffset: 1 << 20,
	}
	require.Equal(t, "0 2097152 ddsnap-snapshot "+storeUUID+" 7 rw /dev/sdb 8:32 128 2048", snapshot.line())

	got, err := parseTable(origin.line())
	require.NoError(t, err)
	got.Writable = true
	require.Equal(t, origin, got)
	got, err = parseTable(snapshot.line())
	require.NoError(t, err)
	require.Equal(t, "/dev/sdb", got.OriginDevice)
	require.Equal(t, "8:32", got.StoreDevice)
	for _, bad := range []string{"", "0 8 linear 8:0 0", "0 x ddsnap-origin u a b - 8", "0 8 ddsnap-origin u a b -", "0 8 ddsnap-snapshot u 7 ro a b 8"} {
		_, err := parseTable(bad)
		require.Error(t, err, bad)
	}
	origin.Features = nil
	require.Equal(t, "0 2097152 ddsnap-origin "+storeUUID+" /dev/sdb 8:32 - 128", origin.line())
}

// Targets are found by the identifiers that they were given, and others' devices are not.
func TestTargetsAreFound(t *testing.T) {
	sys := t.TempDir()
	add := func(node, name, id, ro string) {
		dir := filepath.Join(sys, "block", node)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "dm"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "dm/name"), []byte(name+"\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "dm/uuid"), []byte(id+"\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "ro"), []byte(ro+"\n"), 0o600))
	}
	snap := Target{UUID: storeUUID, Tag: 12}
	second := Target{UUID: storeUUID, Tag: 3, Writable: true}
	origin := Target{UUID: storeUUID, Origin: true, Writable: true}
	add("dm-0", snap.name(), snap.id(), "1")
	add("dm-1", "vg-lv", "LVM-abc-origin", "0")
	add("dm-2", origin.name(), origin.id(), "0")
	add("dm-3", second.name(), second.id(), "0")
	add("dm-4", "other", Target{UUID: "ff112233-4455-6677-8899-aabbccddeeff", Origin: true}.id(), "0")
	add("dm-5", "no number", mapperID+compactUUID(storeUUID)+"-x", "0")
	found, err := targetsBelow(sys, compactUUID(storeUUID))
	require.NoError(t, err)
	short := compactUUID(storeUUID)
	require.Equal(t, []Target{
		{UUID: short, Origin: true, Writable: true, Path: "/dev/mapper/ddsnap-00112233-origin", Node: "/dev/dm-2"},
		{UUID: short, Tag: 3, Writable: true, Path: "/dev/mapper/ddsnap-00112233-3", Node: "/dev/dm-3"},
		{UUID: short, Tag: block.Tag(12), Path: "/dev/mapper/ddsnap-00112233-12", Node: "/dev/dm-0"},
	}, found)
	all, err := targetsBelow(sys, "")
	require.NoError(t, err)
	require.Len(t, all, 4)
}
