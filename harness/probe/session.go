// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Unit is what the values of a histogram are counted in.
type Unit string

// The units.
const (
	Nanoseconds Unit = "ns"
	Bytes       Unit = "B"
	Sectors     Unit = "sectors" // of 512 bytes
	Operations  Unit = "ops"
	Chunks      Unit = "chunks"
	SlotsLeased Unit = "slots"
	Pages       Unit = "pages"
)

// Series is a histogram with what it is about.
type Series struct {
	Probe   string // block, stage, target, process
	Subject string // a device's name; empty where there is one subject only
	Kind    string // of operation or stage; "any" for all
	Metric  string // latency, size, distance, depth, ran, waited and more
	Unit    Unit
	Histogram
}

// name is the identity of a series.
func (s *Series) name() [4]string { return [4]string{s.Probe, s.Subject, s.Kind, s.Metric} }

// Options say what to look at.
type Options struct {
	// Block says to look at block devices: at Devices, or at all if there are none.
	Block   bool
	Devices []Device
	// Process, if not zero, is one that runs ddsnap or zbench, the stages and threads of
	// which are looked at.
	Process int
	// Program, if not empty, is a file: the stages of all processes that run it are looked
	// at, rather than those of Process.
	Program string
	// Target says to look at the kernel's own targets; see [TargetLoaded].
	Target bool
	// Event, if not nil, is called with one of SampleEvery operations of block
	// devices, from one goroutine; it must not block for long, or events are lost.
	Event       func(Event)
	SampleEvery uint32
}

// AtSelf returns the options of looking at the device that a directory is on, or all if
// that is on none, and a block device if it is not empty; at the stages of all processes
// of this program, and the threads of this one; at the kernel's targets if it has them.
func AtSelf(dir, device string) (Options, error) {
	self, err := os.Executable()
	if err != nil {
		return Options{}, fmt.Errorf("finding this program: %w", err)
	}
	o := Options{Block: true, Process: os.Getpid(), Program: self, Target: TargetLoaded()}
	d, err := DeviceOf(dir)
	if errors.Is(err, ErrUnavailable) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.Devices = []Device{d}
	if device != "" {
		if d, err = FindDevice(device); err == nil { // it may be a file too
			o.Devices = append(o.Devices, d)
		}
	}
	return o, nil
}

// Reading is what a session has counted from its beginning until At.
type Reading struct {
	At       time.Time
	Series   []Series // by probe, subject, kind and metric
	InFlight map[string]uint64
	Lost     uint64 // what there was no room to count
}

// Session is a set of probes that are attached.
type Session struct {
	mu     sync.Mutex
	all    []*programs
	closed bool
	// Notices say which probes are not attached, and what they need.
	Notices []string
}

// Attach loads and attaches all probes that Options ask for. Those that are not
// possible here are in the Notices.
func Attach(o Options) (*Session, error) {
	s := &Session{}
	if o.Process != 0 {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", o.Process)); err != nil {
			return nil, fmt.Errorf("no process %d", o.Process)
		}
	}
	for _, open := range []func(Options) (*programs, error){openBlock, openStage, openTarget, openProcess} {
		p, err := open(o)
		switch {
		case errors.Is(err, ErrUnavailable):
			s.Notices = append(s.Notices, err.Error())
		case err != nil:
			return nil, errors.Join(err, s.Close())
		case p != nil:
			s.all = append(s.all, p)
		}
	}
	if len(s.all) == 0 {
		return nil, fmt.Errorf("%w: no probe is left: %v", ErrUnavailable, s.Notices)
	}
	return s, nil
}

// Read returns all that was counted so far.
func (s *Session) Read() (Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Reading{At: time.Now()}
	for _, p := range s.all {
		series, err := p.read()
		if err != nil {
			return r, err
		}
		r.Series = append(r.Series, series...)
		lost, err := p.lost()
		if err != nil {
			return r, err
		}
		r.Lost += lost
		if p.name == "block" {
			if r.InFlight, err = inFlight(p); err != nil {
				return r, err
			}
		}
	}
	slices.SortFunc(r.Series, func(a, b Series) int {
		x, y := a.name(), b.name()
		return slices.CompareFunc(x[:], y[:], cmp.Compare[string])
	})
	return r, nil
}

// Close takes the programs out of the kernel. Closing again does nothing.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, p := range s.all {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// Since returns what was counted after before. Series without anything are left out.
func (r Reading) Since(before Reading) Reading {
	old := map[[4]string]*Histogram{}
	for i := range before.Series {
		old[before.Series[i].name()] = &before.Series[i].Histogram
	}
	d := Reading{At: r.At, InFlight: r.InFlight, Lost: r.Lost - before.Lost}
	for _, s := range r.Series {
		if o := old[s.name()]; o != nil {
			s.Histogram = s.Histogram.Since(o)
		}
		if s.Count > 0 {
			d.Series = append(d.Series, s)
		}
	}
	return d
}

// Find returns the histogram of a series, an empty one where there is none.
func (r Reading) Find(probe, subject, kind, metric string) Histogram {
	for i := range r.Series {
		if r.Series[i].name() == [4]string{probe, subject, kind, metric} {
			return r.Series[i].Histogram
		}
	}
	return Histogram{}
}
