// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMounts(t *testing.T) {
	const text = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 7:3 / /mnt/a\040b rw,relatime - xfs /dev/loop3 rw,attr2
31 22 7:3 /sub /mnt/again rw - xfs /dev/loop3 rw,attr2
32 22 7:4 / /mnt/ro ro shared:2 master:3 - ext4 /dev/loop4 ro,norecovery
33 22 0:45 / /proc rw - proc proc rw
34 22 7:5 / /other rw - ext4 /dev/loop5 rw
a line that is none
`
	seen := map[string]bool{}
	got := parseMounts(text, "/proc/9/root", map[string]bool{"7:3": true, "7:4": true, "7:9": true}, seen)
	require.Equal(t, []mount{
		{path: "/proc/9/root/mnt/a b", number: "7:3"},
		{path: "/proc/9/root/mnt/ro", number: "7:4", readOnly: true},
	}, got)
	require.Empty(t, parseMounts(text, "", map[string]bool{"7:3": true}, seen), "each file system once")
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\040b`: "a b", `\134`: `\`, `x\04`: `x\04`, `\999`: `\999`, "": ""} {
		require.Equal(t, want, unescape(in))
	}
}

func TestFamily(t *testing.T) {
	sys := t.TempDir()
	put := func(file, text string) {
		file = filepath.Join(sys, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	put("dev/block/7:0/loop0p1/partition", "1\n")
	put("dev/block/7:0/loop0p1/dev", "259:0\n")
	put("dev/block/259:0/holders/dm-0/dev", "253:0\n")
	put("dev/block/253:0/holders/dm-1/dev", "253:1\n")
	put("dev/block/253:1/size", "1\n")
	put("dev/block/7:1/holders/dm-2/dev", "253:2\n")
	family := map[string]bool{}
	require.NoError(t, addFamily(family, "7:0", sys))
	require.Equal(t, map[string]bool{"7:0": true, "259:0": true, "253:0": true, "253:1": true}, family)
}

func TestNoBlockDevice(t *testing.T) {
	_, err := Freeze(t.Context(), "/dev/null", 1)
	require.ErrorContains(t, err, "no block device")
	_, err = Freeze(t.Context(), "/dev/null", 0)
	require.ErrorContains(t, err, "not positive")
	_, err = Freeze(t.Context(), "/nowhere", 1)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// FuzzParseMounts shows that no text makes the parser panic or find the mount of
// a device that is not of the family: the mount has its number, or, where it has none
// that is a device's, its source.
func FuzzParseMounts(f *testing.F) {
	f.Add("30 22 7:3 / /mnt/a\\040b rw,relatime - xfs /dev/loop3 rw,attr2\n")
	f.Add("30 22 0:45 / /mnt rw - btrfs /dev/loop3 rw\n")
	f.Add("30 22 7:3 / / rw - xfs x\n - \n 1 2 3 4 5 6 - \\04")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text, "/root", map[string]bool{"7:3": true}, map[string]bool{}) {
			if strings.HasPrefix(m.number, "0:") {
				require.Contains(t, text, "/dev/") // as on a machine that has a loop3
				continue
			}
			require.Equal(t, "7:3", m.number)
		}
	})
}
