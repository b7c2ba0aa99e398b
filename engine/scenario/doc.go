// SPDX-License-Identifier: Apache-2.0

// Package scenario holds the test scenarios of the original Zumastor (its cbtb/tests/1),
// each as a Go test that bears its name, and nothing else.
//
// It owns those that are about the engine: snapshot-microtests, snapshot-ddsnap,
// ddsnap_replay_journal, the revert and resize of snapshot-zumastor, its very large
// volumes, and stores named by symbolic links. Of the others, ddsnap_msg is the script of that name
// in cmd/ddsnap/cli/testdata, ddsnap_autodelete the tests of a full store in package
// store, and those about a kernel module, an init script or the volume manager have no
// place here. Nobody imports it. Its tests run volumes of package rig in memory, on one
// goroutine each; a difference from the model fails the test with the sector's number.
package scenario
