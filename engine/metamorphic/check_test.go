// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"fmt"

	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// checkStore has the independent checker judge what is on a rig's devices. The
// content of preserved chunks is left to the comparison with the model.
func checkStore(r *rig.Rig) error {
	var found []check.Violation
	devices := check.Devices{Store: r.Devices.Store, Meta: r.Devices.Meta, Journal: r.Devices.Journal}
	for v := range check.Check(devices, check.Options{}) {
		if v.Severity >= check.Leak {
			found = append(found, v)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("store has %d violations:\n%s", len(found), checktest.Format(found))
	}
	return nil
}
