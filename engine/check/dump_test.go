// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// records returns how many lines a dump has of each kind.
func records(t testing.TB, dump string) map[string]int {
	count := map[string]int{}
	for line := range strings.Lines(dump) {
		var v struct{ Record string }
		require.NoError(t, json.Unmarshal([]byte(line), &v), line)
		count[v.Record]++
	}
	return count
}

func TestDumpShowsEverything(t *testing.T) {
	for _, s := range shapes() {
		r := unclean(t, s)
		st, err := check.ReadStats(r.checked())
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, check.Dump(r.checked(), &out, check.DumpOptions{JSON: true, Log: true, End: 1 << 40}))
		count := records(t, out.String())
		require.Equal(t, 2, count["superblock"])
		require.Equal(t, layout.Kinds, count["root"])
		require.Equal(t, layout.Kinds, count["tree"])
		require.Equal(t, 5, count["snapshot"]) // 1 to 6 but for 2
		require.Equal(t, 3+len(r.batches()), count["record"])
		require.EqualValues(t, st.Exceptions(), count["exception"])
		require.Equal(t, 2, count["end"])
		require.Equal(t, 1, count["metadata"])
		require.Zero(t, count["violation"])

		out.Reset()
		require.NoError(t, check.Dump(r.checked(), &out, check.DumpOptions{First: 3, End: 5}))
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "exception ") {
				require.Regexp(t, `^exception branch=0 chunk=[34] generation=\d+ slot=\d+ offset=\d+ sum=[0-9a-f]{8}\n$`, line)
			}
		}
		require.Contains(t, out.String(), "exception branch=0 chunk=4 ")
	}
}

func TestDumpOfDamage(t *testing.T) {
	r := closed(t, shape{layout.PlacementInline, false})
	r.editExceptions(1, func(p *exceptionPage) { p.Children[0] = 3 })
	var out bytes.Buffer
	require.NoError(t, check.Dump(r.checked(), &out, check.DumpOptions{JSON: true}))
	require.Equal(t, 1, records(t, out.String())["violation"])
	_, err := check.ReadStats(r.checked())
	require.ErrorContains(t, err, "page 3")

	r.setPage(0, make([]byte, block.PageSize))
	r.setPage(1, make([]byte, block.PageSize))
	require.Error(t, check.Dump(r.checked(), &out, check.DumpOptions{}))
	require.Error(t, check.Dump(check.Devices{}, &out, check.DumpOptions{}))
	_, err = check.ReadStats(r.checked())
	require.Error(t, err)
	_, err = check.ReadStats(check.Devices{})
	require.Error(t, err)
}

// full is a writer that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestDumpReportsWriteErrors(t *testing.T) {
	r := closed(t, shape{layout.PlacementInline, false})
	require.ErrorContains(t, check.Dump(r.checked(), full{}, check.DumpOptions{}), "disk full")
}

// A sequential writer's exceptions form runs, and take few bytes.
func TestRunsTakeFewBytes(t *testing.T) {
	r := newRig(t, shape{layout.PlacementInline, false})
	r.snapshot(1)
	require.NoError(t, r.volume.Do([]device.Op{{Kind: device.Write, Data: make([]byte, 4<<20)}}))
	r.close()
	st, err := check.ReadStats(r.checked())
	require.NoError(t, err)
	require.EqualValues(t, 4<<20/chunkSize, st.Exceptions())
	for _, tree := range st.Trees {
		if tree.Name == "leases" || tree.Name == "digests" {
			require.Zero(t, tree.Pages(), "%s of a store that is closed, and of which no digest was taken", tree.Name)
			continue
		}
		require.EqualValues(t, 1, tree.Pages(), tree.Name)
		require.LessOrEqual(t, tree.Fill(), 1.0)
	}
	require.EqualValues(t, 4*block.PageSize, st.TreeBytes())
	require.InDelta(t, 4*block.PageSize/512.0, st.BytesPerException(), 1e-9)
}
