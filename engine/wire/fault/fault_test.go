// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// What a caller decides on survives the way to the other side and back.
func TestSentinelsTravel(t *testing.T) {
	codes := map[wire.Code]bool{}
	for _, s := range sentinels {
		sent := fmt.Errorf("snapshot 7: %w by 2 readers", s.err)
		p := wire.AppendFault(nil, From(sent))
		f, err := wire.DecodeFault(p)
		require.NoError(t, err)
		got := Err(f)
		require.ErrorIs(t, got, s.err)
		require.EqualError(t, got, sent.Error())
		require.False(t, codes[s.code], "code %d is given twice", s.code)
		codes[s.code] = true
	}
	require.Len(t, codes, int(NoOrigin-Other))
}

func TestOthersKeepTheirText(t *testing.T) {
	f := From(errors.New("disk on fire"))
	require.Equal(t, wire.Fault{Code: Other, Text: "disk on fire"}, f)
	require.EqualError(t, Err(f), "disk on fire")
	require.NotErrorIs(t, Err(f), store.ErrStale)
	require.NotErrorIs(t, Err(wire.Fault{Code: 9999}), store.ErrStale)
}
