// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"slices"
)

// What settings may name.
var (
	placements = []string{"inline", "disk", "nvram", "pmem"}
	models     = []string{"hdd", "ssd", "nvme"}
	operations = map[Procedure][]string{
		Write:     {"firstwrite", "rewrite", "sequential"},
		Untar:     nil,
		Read:      {"read"},
		Snapshots: {"delete", "create", "firstwrite", "read", "space"},
		Peer:      {"firstwrite", "rewrite"},
		FIO:       nil, // its jobs are fio's own

		SnapshotIO: {"read-shared", "read-stored", "write-chunk"},
		Server:     {"firstwrite", "rewrite"},
		Scale:      {"recovery", "check", "foreground", "delete"},
		Crashes:    {"resize-the-origin", "resize-the-store", "revert", "merge", "delete", "delete-recursively", "drop", "squash", "group-snapshot"},
	}
)

// Bounds of settings.
const (
	maxSnapshots = 1 << 20
	maxSpread    = 1<<16 - 1 // of procedure scale
	maxDepth     = 4096
	minChunk     = 4 << 10
	maxChunk     = 1 << 20
)

// check returns an error wrapping [ErrSpec] unless the experiment can be run.
func (e *Experiment) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrSpec, fmt.Sprintf(format, args...))
	}
	known, ok := operations[e.Procedure]
	switch {
	case !ok:
		return bad("unknown procedure %q", e.Procedure)
	case e.Title == "" || e.Shows == "":
		return bad("title or shows is missing")
	case e.Rounds < 1:
		return bad("rounds = %d: at least one is needed", e.Rounds)
	case e.Procedure == Crashes && (!e.Measured || len(e.Ops) == 0 || e.MinOps < 1):
		return bad("procedure crashes is measured, and needs ops and min-ops")
	case e.Procedure == Crashes:
		break // it makes volumes of its own
	case len(e.Variants) == 0:
		return bad("no variants")
	case e.Procedure == Untar && (e.Trace == "" || e.Phases < 1 || e.ModelPhases < 1):
		return bad("procedure untar needs trace, phases and model-phases")
	case e.Procedure != Untar && (e.Origin <= 0 || e.Store <= 0 && e.Procedure != Scale || e.Window <= 0 || e.MinOps < 1 || e.MaxOps < e.MinOps):
		return bad("origin, store, window, min-ops and max-ops must be positive, and max-ops not below min-ops")
	case e.Procedure == Scale && (!e.Measured || e.Exceptions < 1 || len(e.Snapshots) == 0):
		return bad("procedure scale is measured, and needs exceptions and snapshots")
	case !e.Measured && len(e.Models) == 0:
		return bad("nothing to do: neither measured nor modelled")
	case len(e.Chunks) == 0 || len(e.Depths) == 0:
		return bad("chunks or depths is missing")
	}
	for _, op := range e.Ops {
		if !slices.Contains(known, op) {
			return bad("procedure %s has no op %q: it has %q", e.Procedure, op, known)
		}
	}
	return e.checkAxes(bad)
}

func (e *Experiment) checkAxes(bad func(string, ...any) error) error {
	for _, v := range e.Variants {
		if v == QCOW2 && e.Procedure != Peer && e.Procedure != FIO || v == Served && e.Procedure != Server || IsPlacement(v) && !slices.Contains(placements, v) {
			return bad("unknown variant %q: there are %s, %s and the placements %q", v, Raw, CopyBound, placements)
		}
	}
	for _, v := range e.Variants {
		if IsPlacement(v) && v != "inline" && e.inlineOnly() {
			return bad("procedure %s has no variant %q: it is of placement inline", e.Procedure, v)
		}
	}
	for _, m := range e.Models {
		if !slices.Contains(models, m) {
			return bad("unknown model %q: there are %q", m, models)
		}
	}
	for _, c := range e.Chunks {
		if c < minChunk || c > maxChunk || c&(c-1) != 0 {
			return bad("chunk size %d is not a power of two from 4K to 1M", c)
		}
		if e.Block > c || e.Block%512 != 0 {
			return bad("block %d is larger than a chunk of %d, or no multiple of 512", e.Block, c)
		}
	}
	for _, d := range e.Depths {
		if d < 1 || d > maxDepth {
			return bad("queue depth %d is not from 1 to %d", d, maxDepth)
		}
	}
	for _, n := range e.Snapshots {
		if e.Procedure == Scale && (n < 1 || n > maxSpread) {
			return bad("exceptions are spread over 1 to %d snapshots, not %d", maxSpread, n)
		}
		if n < 0 || n > maxSnapshots {
			return bad("%d snapshots are not from 0 to %d", n, maxSnapshots)
		}
	}
	return nil
}
