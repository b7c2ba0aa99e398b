// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// parseTag reads a snapshot's tag.
func parseTag(text string) (block.Tag, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, usageError{fmt.Errorf("snapshot tag %q is not a number from 0 to %d", text, uint32(math.MaxUint32))}
	}
	return block.Tag(n), nil
}

// parseRef reads a snapshot's tag or name. What looks like a number is a tag.
func parseRef(text string) (admin.Ref, error) {
	if text == "" || strings.TrimLeft(text, "-0123456789") == "" {
		tag, err := parseTag(text)
		return admin.Ref{Tag: tag}, err
	}
	return admin.Ref{Name: text}, checkName(text)
}

// checkName refuses what could not be told from a tag or a flag, or would spoil a
// list or an export's name.
func checkName(name string) error {
	switch {
	case len(name) > layout.MaxName:
		return usageError{fmt.Errorf("name %q has %d bytes, more than %d", name, len(name), layout.MaxName)}
	case strings.TrimLeft(name, "-0123456789") == "", strings.HasPrefix(name, "-"):
		return usageError{fmt.Errorf("%q is no name: one is not a number, and does not begin with a dash", name)}
	case strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r == unicode.ReplacementChar || !unicode.IsPrint(r) || unicode.IsSpace(r)
	}):
		return usageError{fmt.Errorf("%q is no name: spaces, slashes and control characters are not allowed", name)}
	}
	return nil
}

// matches reports whether ref names the snapshot.
func matches(ref admin.Ref) func(admin.Snapshot) bool {
	return func(s admin.Snapshot) bool {
		if ref.Name != "" {
			return s.Name == ref.Name
		}
		return s.Tag == ref.Tag
	}
}

// find returns the snapshot that ref names.
func find(ctx context.Context, t *target, ref admin.Ref) (admin.Snapshot, error) {
	snaps, err := t.list(ctx)
	if err != nil {
		return admin.Snapshot{}, err
	}
	i := slices.IndexFunc(snaps, matches(ref))
	if i < 0 {
		return admin.Snapshot{}, absent(t, ref)
	}
	return snaps[i], nil
}

func absent(t *target, ref admin.Ref) error {
	return codeError{fmt.Errorf("there is no snapshot %v on %s: \"ddsnap list\" shows those that there are", ref, t.name), exitAbsent}
}

// explain says of an error about a snapshot what to do next.
func explain(t *target, ref admin.Ref, doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoSnapshot):
		return absent(t, ref)
	case errors.Is(err, store.ErrSquashed):
		return codeError{fmt.Errorf("snapshot %v on %s was squashed: its content was given up for space, and it can only be deleted", ref, t.name), exitSquashed}
	}
	return fmt.Errorf("%s snapshot %v on %s: %w", doing, ref, t.name, err)
}

// under returns the snapshot that ref names and all under it, each after what it
// is a snapshot of.
func under(snaps []admin.Snapshot, ref admin.Ref) []admin.Snapshot {
	var list []admin.Snapshot
	in := map[block.Generation]bool{}
	for _, s := range snaps { // a snapshot is younger than what it is one of
		if matches(ref)(s) || s.Parent != 0 && in[s.Parent] {
			in[s.Generation] = true
			list = append(list, s)
		}
	}
	return list
}
