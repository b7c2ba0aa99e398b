// SPDX-License-Identifier: Apache-2.0

package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Account is where the time and the traffic of a setting went, in all rounds.
type Account struct {
	Experiment string `json:"experiment"`
	Kind       Kind   `json:"kind"`
	Config     Config `json:"config"` // as that of the setting's samples

	// What the driver of the load counted and timed, by clock readings of its own:
	// requests and their bytes, and the sum of their latencies; of modelled settings
	// the time that went by.
	Requests     int64 `json:"requests"`
	ReadBytes    int64 `json:"read_bytes"`
	WrittenBytes int64 `json:"written_bytes"`
	Nanoseconds  int64 `json:"ns"`
	// Deviation is the standard deviation of a request's latency; zero where none were
	// timed by themselves.
	Deviation float64 `json:"deviation_ns,omitempty"`

	Classes []Class `json:"classes"`
	Flows   []Flow  `json:"flows"`
	// Distances counts operations of devices by how far from the end of the one before
	// they begin, in sectors of 512 bytes: the first number is of those that are next
	// to it, number i of distances from 2^(i-1) to 2^i-1. The store is taken to be
	// behind the origin, on one disk.
	Distances []int64 `json:"distances"`
}

// Class is the requests of one class. Some were looked at; those stand for all.
type Class struct {
	Name string `json:"name"`
	// Looked is how many groups were looked at, Groups how many they stand for; a group
	// is of one request, or of those that were submitted at once.
	Looked      int64   `json:"looked_at"`
	Groups      int64   `json:"groups"`
	Requests    int64   `json:"requests"`
	Nanoseconds int64   `json:"ns"` // of all groups, from begin to end
	Times       *Times  `json:"times,omitempty"`
	Stages      []Stage `json:"stages"` // in the order of a request
}

// Stage is a part of the time of a class.
type Stage struct {
	Name string `json:"name"`
	// Waits says that nothing is done for the request meanwhile: others are before it.
	Waits       bool   `json:"waits,omitempty"`
	Nanoseconds int64  `json:"ns"`
	Times       *Times `json:"times,omitempty"` // of each group, in which it may be zero
}

// Flow is what one of the devices was asked to do.
type Flow struct {
	Device     string `json:"device"` // "origin", "store", "metadata" or "journal"
	Kind       string `json:"kind"`   // "read", "write" or "flush"
	Operations int64  `json:"operations"`
	Bytes      int64  `json:"bytes"`
}

// Times is a histogram of nanoseconds. Its JSON is that of HdrHistogram, V2,
// compressed.
type Times struct{ *hdrhistogram.Histogram }

// NewTimes returns an empty histogram of two significant digits, up to 10 minutes.
func NewTimes() *Times { return &Times{hdrhistogram.New(1, maxLatency, 2)} }

// Add counts a time n times.
func (t *Times) Add(ns, n int64) {
	_ = t.RecordValues(min(max(ns, 0), maxLatency), n) // within its range
}

// MarshalJSON writes the histogram as a string.
func (t *Times) MarshalJSON() ([]byte, error) {
	text, err := t.EncodeV2()
	if err != nil {
		return nil, fmt.Errorf("encoding a histogram: %w", err)
	}
	return json.Marshal(string(text))
}

// UnmarshalJSON reads what MarshalJSON wrote. Errors wrap [ErrCorrupt].
func (t *Times) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%w: a histogram that is no string: %w", ErrCorrupt, err)
	}
	h, err := decodeHistogram(text)
	if err != nil {
		return err
	}
	t.Histogram = h
	return nil
}

// merge adds other to t and returns the sum; either may be nil.
func (t *Times) merge(other *Times) *Times {
	if t == nil || other == nil {
		if t == nil {
			return other
		}
		return t
	}
	t.Merge(other.Histogram)
	return t
}

// name is the identity of the account's setting.
func (a *Account) name() string {
	s := Sample{Experiment: a.Experiment, Config: a.Config}
	return string(a.Kind) + " " + s.Name()
}

// Merge adds another account of the same setting.
func (a *Account) Merge(b Account) {
	if n, m := float64(a.Requests), float64(b.Requests); n+m > 0 { // that within rounds
		a.Deviation = math.Sqrt((n*a.Deviation*a.Deviation + m*b.Deviation*b.Deviation) / (n + m))
	}
	a.Requests += b.Requests
	a.ReadBytes += b.ReadBytes
	a.WrittenBytes += b.WrittenBytes
	a.Nanoseconds += b.Nanoseconds
	for _, c := range b.Classes {
		i := slices.IndexFunc(a.Classes, func(o Class) bool { return o.Name == c.Name })
		if i < 0 {
			a.Classes = append(a.Classes, c)
			continue
		}
		a.Classes[i].merge(c)
	}
	for _, f := range b.Flows {
		i := slices.IndexFunc(a.Flows, func(o Flow) bool { return o.Device == f.Device && o.Kind == f.Kind })
		if i < 0 {
			a.Flows = append(a.Flows, f)
			continue
		}
		a.Flows[i].Operations += f.Operations
		a.Flows[i].Bytes += f.Bytes
	}
	for i, n := range b.Distances {
		if i == len(a.Distances) {
			a.Distances = append(a.Distances, 0)
		}
		a.Distances[i] += n
	}
}

// merge adds the requests of the same class. Its stages are those of all accounts, in
// the same order.
func (c *Class) merge(o Class) {
	c.Looked += o.Looked
	c.Groups += o.Groups
	c.Requests += o.Requests
	c.Nanoseconds += o.Nanoseconds
	c.Times = c.Times.merge(o.Times)
	for n, s := range o.Stages {
		i := c.place(s.Name)
		if i < 0 {
			c.Stages = slices.Insert(c.Stages, c.placeFor(o.Stages, n), s)
			continue
		}
		c.Stages[i].Nanoseconds += s.Nanoseconds
		c.Stages[i].Times = c.Stages[i].Times.merge(s.Times)
	}
}

// place returns where the stage of a name is, or -1.
func (c *Class) place(name string) int {
	return slices.IndexFunc(c.Stages, func(s Stage) bool { return s.Name == name })
}

// placeFor returns where the n-th of other stages belongs: behind that which is before
// it there, or before one that is behind it there.
func (c *Class) placeFor(other []Stage, n int) int {
	if n > 0 {
		return c.place(other[n-1].Name) + 1
	}
	for _, next := range other {
		if i := c.place(next.Name); i >= 0 {
			return i
		}
	}
	return len(c.Stages)
}

// accountsFile is the name of the file with an experiment's accounts.
func accountsFile(experiment string) string { return "accounts-" + experiment + ".json" }

// IsAccountsFile reports whether a file of that name, in a run's directory, has the
// accounts of an experiment, and of which.
func IsAccountsFile(name string) (experiment string, ok bool) {
	experiment, ok = strings.CutPrefix(strings.TrimSuffix(name, ".json"), "accounts-")
	return experiment, ok && isWord(experiment) && name == accountsFile(experiment)
}

// AddAccounts adds accounts to those that an experiment of the run has, setting by
// setting. It replaces the file as a whole.
func (r *Run) AddAccounts(experiment string, more ...Account) error {
	if !isWord(experiment) {
		return fmt.Errorf("adding accounts: %w: experiment %q", ErrSample, experiment)
	}
	if len(more) == 0 {
		return nil
	}
	all, err := r.Accounts(experiment)
	if err != nil {
		return err
	}
	for _, a := range more {
		i := slices.IndexFunc(all, func(o Account) bool { return o.name() == a.name() })
		if i < 0 {
			all = append(all, a)
			continue
		}
		all[i].Merge(a)
	}
	return r.WriteJSON(accountsFile(experiment), all)
}

// Accounts returns the accounts of an experiment; none if none were recorded. An error
// about the content wraps [ErrCorrupt].
func (r *Run) Accounts(experiment string) ([]Account, error) {
	var all []Account
	err := r.ReadJSON(accountsFile(experiment), &all)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Kind != Measured && a.Kind != Modelled || a.Experiment != experiment {
			return nil, fmt.Errorf("reading the accounts of %s: %w: one is of experiment %q, kind %q", experiment, ErrCorrupt, a.Experiment, a.Kind)
		}
	}
	return all, nil
}
