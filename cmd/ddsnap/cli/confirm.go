// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// confirm asks on a terminal whether to go on, after saying what would be lost.
// Where there is no terminal, it refuses.
func (a *app) confirm(loss string) error {
	if !isTerminal(a.In) {
		return refusal{fmt.Errorf("%s: standard input is no terminal to ask on: confirm with --yes", strings.TrimSuffix(loss, "."))}
	}
	fmt.Fprintf(a.Err, "%s Go on? [y/N] ", loss)
	answer, _ := bufio.NewReader(a.In).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return refusal{errors.New("not confirmed: nothing was changed")}
}
