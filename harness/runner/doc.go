// SPDX-License-Identifier: Apache-2.0

// Package runner carries out the experiments of a suite and records what they
// gave.
//
// It owns how an experiment is measured: which windows are timed, in which order
// the variants take turns, and what makes a sample. It does not own the
// experiments' settings (package spec), the devices (stack), the record
// (results) or anything made of it (analysis). Command zbench calls [Run].
//
// An experiment is a number of rounds. In a round every setting is measured once,
// all variants of it in turns: each window is cut into slices, and the order of
// the variants is drawn anew for each slice, so that what slows the machine for a
// while slows all of them. A round is recorded as a whole or not at all, so a run
// that is interrupted goes on with the round that it was in. Nothing is dropped.
//
// Modelled figures are taken in an experiment's first round. One goroutine issues
// each of them, to models with clocks of their own, so they are the same in
// every run.
//
// A Run takes place in one goroutine, but for what it measures. An error ends it;
// what was recorded stays.
package runner
