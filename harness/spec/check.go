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
		Probes:     {"rewrite"},
		Scale:      {"recovery", "check", "foreground", "delete"},
		Crashes:    {"resize-the-origin", "resize-the-store", "revert", "merge", "delete", "delete-recursively", "drop", "squash", "group-snapshot"},
		Kills:      nil,
		Deltas:     nil, // what is coded how is in the other axes
		Streams:    nil,
		Changes:    nil,
		Cuts:       nil,
		Gate:       nil,
	}
)

// Bounds of settings.
const (
	maxSnapshots = 1 << 20
	maxSpread    = 1<<16 - 1 // of procedure scale
	maxDepth     = 4096
	minChunk     = 4 << 10
	maxChunk     = 1 << 20
	minExtent    = 4 << 10 // of deltas
	maxExtent    = 16 << 20
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
	case e.Procedure == Deltas || e.Procedure == Streams || e.Procedure == Changes || e.Procedure == Cuts:
		return e.checkDeltas(bad)
	case e.Procedure == Crashes && (!e.Measured || len(e.Ops) == 0 || e.MinOps < 1):
		return bad("procedure crashes is measured, and needs ops and min-ops")
	case e.Procedure == Kills && (!e.Measured || len(e.Chunks) != 1 || e.Origin <= 0 || e.Store <= 0 || e.MinOps < 1):
		return bad("procedure kills is measured, and needs origin, store, one chunk size and min-ops")
	case e.Procedure == Gate && (!e.Measured || e.MinOps < 2):
		return bad("procedure gate is measured, and needs min-ops of two at least")
	case e.Procedure == Crashes || e.Procedure == Kills || e.Procedure == Gate:
		break // they make volumes of their own
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
		if v == QCOW2 && e.Procedure != Peer && e.Procedure != FIO || v == Served && e.Procedure != Server || v == Probed && e.Procedure != Probes || IsPlacement(v) && !slices.Contains(placements, v) {
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

// checkDeltas is check for the procedures of deltas, which have axes of their own.
func (e *Experiment) checkDeltas(bad func(string, ...any) error) error {
	switch {
	case !e.Measured:
		return bad("procedure %s is measured", e.Procedure)
	case e.Procedure == Deltas && (len(e.Data) == 0 || len(e.Variants) == 0 || len(e.Extents) == 0 || len(e.Links) == 0):
		return bad("procedure %s needs data, variants, extents and links", e.Procedure)
	case e.Procedure == Cuts && e.MinOps < 1:
		return bad("procedure %s needs min-ops", e.Procedure)
	case e.Procedure == Streams && (e.Origin < minChunk || e.Origin%minChunk != 0):
		return bad("procedure %s needs an origin of whole chunks", e.Procedure)
	case e.Procedure == Changes && (e.Exceptions < 1 || len(e.Snapshots) != 1 || e.Snapshots[0] < 4 || e.Snapshots[0] > maxSpread || e.MinOps < 1):
		return bad("procedure %s needs exceptions, min-ops and one number of snapshots from 4 to %d", e.Procedure, maxSpread)
	}
	for _, x := range e.Extents {
		if x < minExtent || x > maxExtent || x&(x-1) != 0 {
			return bad("extents of %d bytes are no power of two from 4K to 16M", x)
		}
	}
	for _, l := range e.Links {
		if l < 1 {
			return bad("a link of %d Mbit/s", l)
		}
	}
	return nil
}
