// SPDX-License-Identifier: Apache-2.0

// Package checktest lets tests check a store.
//
// It owns no test of its own and knows nothing that package check does not. Tests
// of the engine call it after every recovery. Its functions may be called from
// any test goroutine in which t.Fatal may; the devices must not change meanwhile.
// On violations it fails the test and prints them all.
package checktest

import (
	"strings"
	"testing"

	"zumastor.org/zumastor/engine/check"
)

// MustBeClean fails the test unless the store on the devices has no damage and no
// leak, the checksum of every preserved chunk included. The store may be one that
// was not closed, or never recovered after a crash. Notes are let pass.
func MustBeClean(t testing.TB, d check.Devices) {
	t.Helper()
	if found := Violations(d, check.Leak); len(found) > 0 {
		t.Fatalf("store has %d violations:\n%s", len(found), Format(found))
	}
}

// Violations returns what a check of the store with data finds, of at least the
// severity.
func Violations(d check.Devices, least check.Severity) []check.Violation {
	var found []check.Violation
	for v := range check.Check(d, check.Options{Data: true}) {
		if v.Severity >= least {
			found = append(found, v)
		}
	}
	return found
}

// Format returns the violations, one a line.
func Format(found []check.Violation) string {
	var b strings.Builder
	for _, v := range found {
		b.WriteString("  " + v.String() + "\n")
	}
	return b.String()
}
