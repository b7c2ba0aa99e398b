// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPaceKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := pace{rate: 1 << 20}
		for range 10 {
			require.NoError(t, p.wait(t.Context(), 1<<19))
		}
		require.Equal(t, 5*time.Second, time.Since(began))
		ctx, stop := context.WithCancel(t.Context())
		stop()
		require.ErrorIs(t, p.wait(ctx, 1<<30), context.Canceled)
		none := pace{}
		require.NoError(t, none.wait(t.Context(), 1<<40))
		require.Equal(t, 5*time.Second, time.Since(began))
	})
}
