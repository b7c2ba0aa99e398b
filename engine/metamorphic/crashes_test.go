// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"context"
	"flag"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
)

var crashCount = flag.Int("crashes", 80, "how many crashes in each verb TestThousandCrashes makes; with -short at most 20")

// TestThousandCrashes makes more than 1000 crashes in all verbs together and, in a
// soak, in each of them.
func TestThousandCrashes(t *testing.T) {
	n := soaking(*crashCount, 1000)
	if testing.Short() {
		n = min(n, 20)
	}
	for _, verb := range Verbs {
		t.Run(string(verb), func(t *testing.T) {
			report, err := Crashes(context.Background(), verb, n, 1)
			require.NoError(t, err)
			require.GreaterOrEqual(t, report.Crashes, n)
			t.Logf("%d crashes in %q, on %d volumes, and %d more in recoveries: every promise held", report.Crashes, verb, report.Runs, report.Nested)
		})
	}
}

// TestCrashesNoticeLies lets devices say that they have flushed when they have not:
// there is no verb in which that goes unnoticed.
func TestCrashesNoticeLies(t *testing.T) {
	for _, verb := range Verbs {
		t.Run(string(verb), func(t *testing.T) {
			var b breaker
			b.Device = func(_ string, d device.Device) device.Device { return liar{d, &b.broken} }
			_, err := crashes(context.Background(), verb, 500, 1, &b)
			require.ErrorContains(t, err, "power cut")
		})
	}
}
