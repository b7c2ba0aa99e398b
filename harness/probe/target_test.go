// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTargetIsNotThere: without the module the probe is left out with what it needs. With it,
// kernel test 140 has it count.
func TestTargetIsNotThere(t *testing.T) {
	if TargetLoaded() {
		t.Skip("dm-ddsnap is loaded")
	}
	p, err := openTarget(Options{})
	require.NoError(t, err)
	require.Nil(t, p, "it was not asked for")
	_, err = openTarget(Options{Target: true})
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "probe target needs ")
}
