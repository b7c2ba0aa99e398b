// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "4096": 4096, "64k": 64 << 10, "64K": 64 << 10, "64KiB": 64 << 10, "64kb": 64 << 10, "512b": 512,
		"100m": 100 << 20, "10g": 10 << 30, "2T": 2 << 40, "8388607t": 8388607 << 40,
	} {
		got, err := parseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "k", "0", "0k", "-1", "+1", "1.5g", "1p", "1kk", "1 k", "0x10", "9223372036854775808", "8388608t", "1bb"} {
		_, err := parseSize(in)
		require.Error(t, err, in)
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("64k")
	f.Add("8388608t")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		require.True(t, err != nil || n > 0)
	})
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 100 << 10: "100 KiB", 1 << 40: "1 TiB", 1 << 50: "1 PiB", 1 << 62: "4096 PiB", 10 << 20: "10 MiB",
	} {
		require.Equal(t, want, formatSize(n))
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, formatCount(n))
	}
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 s", 0: "0 s", 119 * time.Second: "119 s", 2 * time.Minute: "2 min", 119 * time.Minute: "119 min",
		47 * time.Hour: "47 h", 48 * time.Hour: "2 d",
	} {
		require.Equal(t, want, formatAge(d))
	}
}

func TestSharingClasses(t *testing.T) {
	var names []string
	for k := 1; k < store.SharingClasses; k++ {
		names = append(names, className(k))
	}
	require.Equal(t, []string{"1", "2-3", "4-7", "8-15", "16-31", "32-63", "64 or more"}, names)
}

func TestPrintTable(t *testing.T) {
	var b strings.Builder
	require.NoError(t, printTable(&b, 1, []string{"NAME", "N"}, [][]string{{"ä", "10"}, {"long name", "1"}}))
	require.Equal(t, "NAME        N\nä          10\nlong name   1\n", b.String())
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		exitAbsent: store.ErrNoSnapshot, exitExists: store.ErrExists, exitInUse: device.ErrInUse,
		exitSquashed: store.ErrSquashed, exitRefused: refusal{errors.New("x")}, exitWrong: block.ErrGeometry, exitDamaged: layout.ErrCorrupt,
		exitUsage: usageError{errors.New("x")}, exitError: errors.New("x"), exitNoSpace: alloc.ErrNoSpace,
	} {
		require.Equal(t, want, exitCode(fmt.Errorf("doing something: %w", err)), "%v", err)
	}
	require.Equal(t, 42, exitCode(codeError{store.ErrExists, 42}))
	// A device without a store has corrupt superblocks, and is the wrong device.
	require.Equal(t, exitWrong, exitCode(fmt.Errorf("%w: %w", store.ErrNoStore, layout.ErrCorrupt)))
	require.Len(t, exitMeanings(), exitNoSpace+1)
}

// TestExitCodesInGuide holds docs/ddsnap.md to the codes.
func TestExitCodesInGuide(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/ddsnap.md")
	require.NoError(t, err)
	plain := strings.ReplaceAll(string(guide), "`", "")
	for code, meaning := range exitMeanings() {
		require.Contains(t, plain, fmt.Sprintf("| %d | %s |", code, meaning))
	}
}

func TestPermissionHint(t *testing.T) {
	denied := fmt.Errorf("opening: %w", os.ErrPermission)
	require.Contains(t, permissionHint(denied, 1000), "root may")
	require.Empty(t, permissionHint(denied, 0))
	require.Empty(t, permissionHint(os.ErrNotExist, 1000))
}
