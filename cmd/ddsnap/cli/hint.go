// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagError says of an error in a verb's flags what to write instead.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		switch name := unknown.GetSpecifiedName(); {
		case strings.Trim(unknown.GetSpecifiedShortnames(), "0123456789") == "" && unknown.GetSpecifiedShortnames() != "":
			return usageError{fmt.Errorf("%w: a negative number comes after --, as in -- -%s", err, unknown.GetSpecifiedShortnames())}
		case (name == "metadev" || name == "m") && strings.Contains(cmd.Use, "METADEV"):
			return usageError{fmt.Errorf("%w: METADEV is an argument of %s", err, cmd.Name())}
		}
	}
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if number, isNumber := errors.AsType[*strconv.NumError](err); ok && isNumber {
		return usageError{fmt.Errorf("--%s %q: %w", bad.GetFlag().Name, bad.GetValue(), number.Err)}
	}
	return usageError{err}
}

// permissionHint says who may what a user who is not root may not.
func permissionHint(err error, uid int) string {
	if uid == 0 || !errors.Is(err, os.ErrPermission) {
		return ""
	}
	return ": root may, or whoever owns it"
}
