// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/group"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/replicate/pin"
	"zumastor.org/zumastor/engine/store"
)

// Exit codes. Scripts rely on them: they must not change. 0, 1, 2 and 9 are also
// what "status --state" answers with.
const (
	exitDone     = 0
	exitAbsent   = 1
	exitSquashed = 2
	exitExists   = 3
	exitInUse    = 4
	exitRefused  = 5
	exitWrong    = 6
	exitDamaged  = 7
	exitUsage    = 8
	exitError    = 9
	exitNoSpace  = 10
)

// exitMeanings says what each exit code means.
func exitMeanings() []string {
	return []string{
		exitDone:     "done; of status --state: the snapshot is normal",
		exitAbsent:   "there is no such snapshot",
		exitSquashed: "the snapshot was squashed: its content was given up for space",
		exitExists:   "a snapshot with this tag or name, or a file to be made, exists already",
		exitInUse:    "the snapshot, store or device is in use, or held",
		exitRefused:  "refused, because something would be lost: see --force, --recursive and --yes",
		exitWrong:    "not a store, not this store's device, or a size that does not fit",
		exitDamaged:  "the store is damaged, or check or verify found something wrong",
		exitUsage:    "the command line is wrong",
		exitError:    "any other error; of status --state: any error at all",
		exitNoSpace:  "no space left in the store, or under it",
	}
}

// exitCodesTopic is "ddsnap help exit-codes".
func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Ddsnap exits with:\n\n")
	for code, meaning := range exitMeanings() {
		fmt.Fprintf(&b, "  %2d  %s\n", code, meaning)
	}
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimSuffix(b.String(), "\n")}
}

// usageError is an error in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// refusal is an error that insisting would avoid.
type refusal struct{ error }

func (e refusal) Unwrap() error { return e.error }

// codeError exits with a code of its own.
type codeError struct {
	error
	code int
}

func (e codeError) Unwrap() error { return e.error }

// exitCode returns the code for an error that ended a verb.
func exitCode(err error) int {
	if e, ok := errors.AsType[codeError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if r, ok := errors.AsType[*replicate.Refusal](err); ok {
		return refusalCode(r)
	}
	if _, ok := errors.AsType[refusal](err); ok {
		return exitRefused
	}
	for _, c := range []struct {
		is   error
		code int
	}{
		{backup.ErrNoPoint, exitAbsent}, {backup.ErrExists, exitExists}, {backup.ErrLocked, exitInUse}, {backup.ErrLockLost, exitInUse},
		{backup.ErrNoRepository, exitWrong}, {backup.ErrKey, exitWrong}, {seal.ErrNoKey, exitWrong}, {storage.ErrNoBucket, exitWrong},
		{backup.ErrDamaged, exitDamaged}, {backup.ErrVersion, exitDamaged}, {seal.ErrDamaged, exitDamaged}, {seal.ErrVersion, exitDamaged},
		{store.ErrNoSnapshot, exitAbsent},
		{store.ErrExists, exitExists}, {store.ErrSquashed, exitSquashed}, {store.ErrHasSnapshots, exitRefused}, {store.ErrName, exitUsage},
		{store.ErrNoGroup, exitAbsent}, {group.ErrIncomplete, exitRefused}, {store.ErrRestoring, exitInUse}, {store.ErrNotRestoring, exitAbsent}, {store.ErrApplying, exitInUse}, {store.ErrResizing, exitInUse}, {store.ErrTooSmall, exitWrong}, {store.ErrSize, exitWrong}, {store.ErrDamaged, exitDamaged},
		{store.ErrHeld, exitInUse}, {store.ErrInUse, exitInUse}, {store.ErrAttached, exitInUse}, {device.ErrInUse, exitInUse},
		{alloc.ErrNoSpace, exitNoSpace}, {unix.ENOSPC, exitNoSpace}, {unix.EDQUOT, exitNoSpace}, {unix.EFBIG, exitNoSpace},
		{store.ErrNoStore, exitWrong}, {block.ErrGeometry, exitWrong}, {placement.ErrNoJournal, exitWrong}, {device.ErrAlign, exitWrong}, {device.ErrKind, exitWrong}, {os.ErrNotExist, exitWrong}, {os.ErrExist, exitExists},
		{layout.ErrCorrupt, exitDamaged}, {layout.ErrVersion, exitDamaged},
		{pin.ErrPeer, exitRefused}, {pin.ErrKey, exitWrong}, {replicate.ErrFull, exitRefused}, {replicate.ErrBase, exitWrong}, {replicate.ErrOther, exitInUse},
		{replica.ErrNotEmpty, exitRefused}, {replica.ErrChanged, exitRefused}, {replica.ErrOther, exitInUse}, {replica.ErrNothing, exitWrong},
		{delta.ErrBase, exitWrong}, {delta.ErrChain, exitWrong}, {delta.ErrNeedsVolume, exitRefused}, {delta.ErrCut, exitDamaged}, {delta.ErrCorrupt, exitDamaged}, {delta.ErrVersion, exitDamaged},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return exitError
}

// refusalCode returns the code for what the other side of a replication did not want.
func refusalCode(r *replicate.Refusal) int {
	switch r.Code {
	case replicate.CodeBusy:
		return exitInUse
	case replicate.CodeFull:
		return exitRefused
	case replicate.CodeBase:
		return exitWrong
	case replicate.CodeAbsent:
		return exitAbsent
	}
	return exitError
}
