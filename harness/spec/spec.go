// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Suite is how much is run.
type Suite string

// The suites.
const (
	Smoke Suite = "smoke" // does everything work? Seconds
	Quick Suite = "quick" // every goal gets a value. Minutes
	Full  Suite = "full"  // all settings, many rounds. Hours
	Delta Suite = "delta" // deltas only, of data from the network. Minutes
)

// Suites returns all suites: the shortest first, and those that are of one subject.
func Suites() []Suite { return []Suite{Smoke, Quick, Full, Delta} }

// general are the suites that an experiment is in unless its file says others.
func general() []string { return []string{string(Smoke), string(Quick), string(Full)} }

// ErrSpec is wrapped by every error about an experiment's file or settings.
var ErrSpec = errors.New("bad experiment")

// Procedure says how an experiment is carried out.
type Procedure string

// The procedures.
const (
	Write     Procedure = "write"     // first writes, rewrites and sequential first writes
	Untar     Procedure = "untar"     // a trace's phases with a snapshot between them
	Read      Procedure = "read"      // origin reads with snapshots held
	Snapshots Procedure = "snapshots" // the cost of snapshots by their number
	Peer      Procedure = "peer"      // against another program, over NBD
	FIO       Procedure = "fio"       // the same with fio as the client
	// SnapshotIO reads and writes snapshots.
	SnapshotIO Procedure = "snapshot-io"
	// Server measures a metadata server in another process against an embedded one.
	Server Procedure = "server"
	// Scale measures stores of very many exceptions.
	Scale Procedure = "scale"
	// Crashes cuts the power in the middle of operations, on volumes in memory.
	Crashes Procedure = "crashes"
	// Probes measures what eBPF probes cost.
	Probes Procedure = "probes"
	// Kills kills the server's process under a load that is verified.
	Kills Procedure = "kills"
	// Deltas makes and applies deltas of real data, beside other programs.
	Deltas Procedure = "deltas"
	// Streams carries raw deltas as fast as it can, and applies them.
	Streams Procedure = "streams"
	// Changes lists what changed between snapshots of a very large volume.
	Changes Procedure = "changes"
	// Cuts cuts and kills replication between machines in memory.
	Cuts Procedure = "cuts"
	// Gate compares builds that are equal, and one that is slower, by the clock.
	Gate Procedure = "gate"
)

// Look says how it is found out where the time of an experiment's requests goes.
type Look int

// The ways.
const (
	LookInside Look = iota // in each round, by the stack of the volume in this process
	LookProbes             // in one more round, by eBPF probes: the work is that of other processes
	LookNot                // there is nothing to see
)

// Look returns how it is found out where the time of a procedure's requests goes and, where
// that is not in each round, why.
func (p Procedure) Look() (Look, string) {
	switch p {
	case Peer, FIO, Server, Scale, Kills:
		return LookProbes, "Its requests go through other processes."
	case Deltas, Streams:
		return LookProbes, "Its work is that of several goroutines and processes at a time."
	case Crashes, Cuts:
		return LookNot, "Volumes and machines are in memory, and lose power or connections: nothing is timed."
	case Changes:
		return LookNot, "A list is one scan of an index: it has no stages."
	case Gate:
		return LookNot, "It compares builds with each other, each in a process of its own that runs a part of E6."
	case Probes:
		return LookNot, "It is the rewrite of E6, in turns without probes and with all of them."
	}
	return LookInside, ""
}

// Variants with a meaning of their own. All others are placements.
const (
	Raw       = "raw"           // the bare origin device
	CopyBound = "copybound"     // the least that copy-before-write costs
	Served    = "inline-server" // placement inline, with a server in another process
	Probed    = "inline-probes" // placement inline, with eBPF probes attached
	QCOW2     = "qcow2"         // qemu-nbd on an image with an internal snapshot
)

// Experiment is one experiment at the size of one suite.
type Experiment struct {
	Name      string // such as "E6": the name of its file
	Title     string
	Shows     string // one sentence
	Procedure Procedure
	Suites    []string // that it is in
	Measured  bool     // on devices, by the wall clock
	Models    []string // disk models that the same is put through
	Variants  []string
	Ops       []string
	Chunks    []int64  // bytes
	Depths    []int    // queue depths
	Snapshots []int    // numbers held
	Volumes   []int64  // sizes of volumes that only metadata is kept of, bytes
	Data      []string // sets of package evolve
	Extents   []int64  // bounds of extents, bytes; the first is the default
	Links     []int    // speeds of links, Mbit/s
	Block     int64    // bytes an op
	Origin    int64    // bytes
	Store     int64    // bytes of each variant's store
	Window    time.Duration
	// Exceptions is how many the stores of procedure scale have.
	Exceptions int
	MinOps     int
	MaxOps     int
	Rounds     int
	Trace      string
	// Phases and ModelPhases are how many of the trace's are replayed, measured
	// and modelled; from the first again when there are fewer.
	Phases, ModelPhases int
	// First and End are the rounds that a trial has of it, from First to before End;
	// both are 0 for all, and in no file. See [Trial.Take].
	First, End int
}

// Load returns the experiments of a suite, by name.
func Load(s Suite) ([]Experiment, error) {
	return load(files, "experiments", s)
}

//go:embed experiments/*.exp
var files embed.FS

func load(in fs.FS, dir string, s Suite) ([]Experiment, error) {
	if !slices.Contains(Suites(), s) {
		return nil, fmt.Errorf("%w: no suite %q: there are %s, %s, %s and %s", ErrSpec, s, Smoke, Quick, Full, Delta)
	}
	entries, err := fs.ReadDir(in, dir)
	if err != nil {
		return nil, err
	}
	var all []Experiment
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		text, err := fs.ReadFile(in, name)
		if err != nil {
			return nil, err
		}
		e, err := Parse(name, string(text), s)
		if err != nil {
			return nil, err
		}
		if slices.Contains(e.Suites, string(s)) {
			all = append(all, e)
		}
	}
	return all, nil
}

// Select returns the experiments of the given names, in that order; all when
// there are no names.
func Select(all []Experiment, names []string) ([]Experiment, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Experiment
	for _, name := range names {
		i := slices.IndexFunc(all, func(e Experiment) bool { return strings.EqualFold(e.Name, name) })
		if i < 0 {
			return nil, fmt.Errorf("%w: no experiment %q: zbench list shows those that there are", ErrSpec, name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// inlineOnly reports whether the experiment's procedure knows no placement but inline.
func (e *Experiment) inlineOnly() bool {
	switch e.Procedure {
	case Peer, FIO, Server, Probes, Scale, Deltas, Streams, Changes:
		return true
	}
	return false
}

// Axes replaces the axes of experiments; an empty one stays as it is, and so do the
// placements of experiments that are of inline only.
type Axes struct {
	Chunks     []int64
	Placements []string
	Snapshots  []int
}

// Apply returns the experiment with the axes replaced, where it has them.
func (a Axes) Apply(e Experiment) (Experiment, error) {
	if len(a.Chunks) > 0 && len(e.Chunks) > 0 {
		e.Chunks = a.Chunks
	}
	if len(a.Snapshots) > 0 && len(e.Snapshots) > 0 {
		e.Snapshots = a.Snapshots
	}
	if len(a.Placements) > 0 && len(e.Variants) > 0 && !e.inlineOnly() {
		kept := slices.DeleteFunc(slices.Clone(e.Variants), IsPlacement)
		e.Variants = append(kept, a.Placements...)
	}
	return e, e.check()
}

// IsPlacement reports whether a variant is one of the engine's placements.
func IsPlacement(variant string) bool {
	return variant != Raw && variant != CopyBound && variant != QCOW2 && variant != Served && variant != Probed
}
