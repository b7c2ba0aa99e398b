// SPDX-License-Identifier: Apache-2.0

// Package spec describes the experiments that the harness runs: what each
// shows, at which settings, and how large it is in each suite.
//
// It owns the experiments' files (experiments/*.exp, built into the program) and
// their strict format. It does not know how anything is measured: package runner
// carries a procedure out by its name. Its functions are pure, its values belong
// to the caller. A file that cannot be understood, or a setting that makes no
// sense, is an error that names the file and the line.
//
// A file has a line "key = value" for each setting; lists are separated by
// spaces; text after # is a comment. What follows a line "[suite]" holds in that
// suite only, and replaces what is above:
//
//	title     = Chunk size
//	procedure = write
//	chunks    = 64K
//	[full]
//	chunks    = 4K 16K 64K 256K 1M
package spec
