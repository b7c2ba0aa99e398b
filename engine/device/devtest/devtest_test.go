// SPDX-License-Identifier: Apache-2.0

package devtest_test

import (
	"testing"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/devtest"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
)

const size = 5<<20 + 512

// bare hides optional abilities, so that the package's own ways are tested.
type bare struct{ device.Device }

func TestMemdev(t *testing.T) {
	devtest.Run(t, func(*testing.T) device.Device { return memdev.New(size) })
}

func TestMemdevVolatile(t *testing.T) {
	devtest.Run(t, func(*testing.T) device.Device { return memdev.NewVolatile(size) })
}

func TestErrdev(t *testing.T) {
	devtest.Run(t, func(*testing.T) device.Device { return errdev.New(memdev.New(size)) })
}

func TestWithoutAbilities(t *testing.T) {
	devtest.Run(t, func(*testing.T) device.Device { return bare{memdev.New(size)} })
}
