// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/gen"
)

func TestReplayGroups(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		want  []string
	}{
		"depth":           {[]string{"read 0+512", "read 512+512", "read 1024+512", "read 1536+512"}, []string{"group of 3", "group of 1"}},
		"flush":           {[]string{"write 0+512", "write 512+512", "flush", "write 0+512"}, []string{"group of 2", "flush", "group of 1"}},
		"fua":             {[]string{"write 0+512", "write 512+512 fua", "write 0+512"}, []string{"group of 2", "flush", "group of 1"}},
		"discard, zero":   {[]string{"write 0+512", "discard 0+512", "zero 0+512 fua"}, []string{"group of 1", "discard 0+512", "zero 0+512", "flush"}},
		"overlap":         {[]string{"write 0+1024", "read 512+512", "write 1024+512"}, []string{"group of 1", "group of 2"}},
		"reads overlap":   {[]string{"read 0+1024", "read 512+512"}, []string{"group of 2"}},
		"a flush at last": {[]string{"flush"}, []string{"flush"}},
	} {
		t.Run(name, func(t *testing.T) {
			dev := &recorder{}
			opts := apply.Options{Depth: 3, Submit: func(ops []device.Op) error {
				dev.log = append(dev.log, fmt.Sprintf("group of %d", len(ops)))
				return nil
			}}
			r, err := apply.Replay(t.Context(), dev, stream(tc.lines...), opts)
			require.NoError(t, err)
			require.Equal(t, tc.want, dev.log)
			require.Equal(t, int64(len(tc.lines)), r.Ops())
		})
	}
}

func TestReplayFillsAndAligns(t *testing.T) {
	for _, align := range []int{512, 4096} {
		dev := &recorder{}
		groups := 0
		_, err := apply.Replay(t.Context(), dev, stream("write 0+512", "write 4096+8192", "write 512+512", "write 65536+65536"),
			apply.Options{Depth: 4, BufferAlign: align, Seed: 3, Version: 4, Submit: func(ops []device.Op) error {
				groups++
				for _, op := range ops {
					require.True(t, device.Aligned(op.Data, align))
				}
				return device.Do(dev, ops)
			}})
		require.NoError(t, err)
		require.Equal(t, 1, groups)
		require.NoError(t, gen.Verify(dev.bytes[:1024], 3, 0, 4))
		require.NoError(t, gen.Verify(dev.bytes[4096:12288], 3, 4096, 4))
		require.NoError(t, gen.Verify(dev.bytes[65536:131072], 3, 65536, 4))
	}
}

func TestReplayBoundsItsBuffers(t *testing.T) {
	var most int64
	s, err := gen.New(gen.Spec{Pattern: gen.Sequential, Range: 1 << 30, Block: 8 << 20, Count: 20})
	require.NoError(t, err)
	r, err := apply.Replay(t.Context(), quiet{}, s, apply.Options{Depth: 1000, Submit: func(ops []device.Op) error {
		var sum int64
		for _, op := range ops {
			sum += int64(len(op.Data))
		}
		most = max(most, sum)
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, int64(128<<20), most)
	require.Equal(t, int64(20), r.ByKind[workloads.Write].Ops)
}
