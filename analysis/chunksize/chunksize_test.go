// SPDX-License-Identifier: Apache-2.0

package chunksize_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/chunksize"
)

func TestBest(t *testing.T) {
	for name, c := range map[string]struct {
		all    []chunksize.Choice
		best   int
		reason string
	}{
		"none":             {nil, -1, ""},
		"one":              {[]chunksize.Choice{{4096, 5, 10}}, 0, "the least of all, and no other within 5 % of it takes less space"},
		"clearly fastest":  {[]chunksize.Choice{{4096, 2, 10}, {65536, 1, 90}}, 1, "the least of all, and no other within 5 % of it takes less space"},
		"saves space":      {[]chunksize.Choice{{4096, 1.05, 2048}, {65536, 1, 4096}}, 0, "within 5 % of the fastest, 64 KiB, which takes 4 KiB of space"},
		"just too slow":    {[]chunksize.Choice{{4096, 1.051, 2048}, {65536, 1, 4096}}, 1, "the least of all, and no other within 5 % of it takes less space"},
		"larger is denser": {[]chunksize.Choice{{4096, 1, 4096}, {65536, 1.01, 1024}}, 1, "within 5 % of the fastest, 4 KiB, which takes 4 KiB of space"},
		"space not known":  {[]chunksize.Choice{{65536, 1, 0}, {4096, 1.04, 0}}, 1, "within 5 % of the fastest, 64 KiB, and smaller chunks copy less"},
		"smallest fastest": {[]chunksize.Choice{{4096, 1, 0}, {65536, 1, 0}}, 0, "the least of all, and no smaller size is within 5 % of it"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.best, chunksize.Best(c.all))
			require.Equal(t, c.reason, chunksize.Reason(c.all))
		})
	}
}
