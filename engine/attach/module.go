// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"os"
	"os/exec"
)

// loadModule loads a kernel module unless what it brings is there. That it can't
// be loaded shows when the thing is used.
func loadModule(module, brings string) {
	if _, err := os.Stat(brings); err == nil {
		return
	}
	_ = exec.Command("modprobe", "--quiet", module).Run()
}
