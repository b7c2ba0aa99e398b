// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cilium/ebpf"
)

// programs are those of one object, loaded and attached.
type programs struct {
	name   string
	loaded *ebpf.Collection
	closer []io.Closer                                // links, and readers of maps
	labels func(*programs) (map[uint32]Series, error) // of the histograms, by their numbers in the kernel
	series uint32                                     // numbers of histograms in each copy
	copies uint32                                     // of all histograms
}

// maxCopies bounds the copies of all histograms, and so the kernel's memory for them: 5 MiB
// a copy for block devices. Beyond, processors share one.
const maxCopies = 8

// copiesFor returns how many copies of all histograms processors are to have: a power of
// two.
func copiesFor(processors int) uint32 {
	n := uint32(1)
	for n < maxCopies && int(n) < processors {
		n *= 2
	}
	return n
}

// open loads an object, after setting its constants, and attaches its programs by
// attach. What it loaded is gone again when it fails.
func open(name string, spec *ebpf.CollectionSpec, constants map[string]any, attach func(*programs) error) (*programs, error) {
	for variable, value := range constants {
		if err := spec.Variables[variable].Set(value); err != nil {
			return nil, fmt.Errorf("probe %s: setting %s: %w", name, variable, err)
		}
	}
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("probe %s: counting processors: %w", name, err)
	}
	histograms := spec.Maps[blockMapHistograms]
	p := &programs{name: name, series: histograms.MaxEntries, copies: copiesFor(processors)}
	histograms.MaxEntries *= p.copies
	if err := spec.Variables[blockVarLastCopy].Set(p.copies - 1); err != nil {
		return nil, fmt.Errorf("probe %s: setting copies: %w", name, err)
	}
	if p.loaded, err = ebpf.NewCollection(spec); err != nil {
		return nil, fmt.Errorf("probe %s: loading its programs: %w", name, refused(err))
	}
	if err := attach(p); err != nil {
		return nil, errors.Join(fmt.Errorf("probe %s: attaching its programs: %w", name, refused(err)), p.close())
	}
	return p, nil
}

// keep has c closed with the programs; it returns err for its caller.
func (p *programs) keep(c io.Closer, err error) error {
	if err == nil {
		p.closer = append(p.closer, c)
	}
	return err
}

// read returns all histograms with something in them. Each is of one moment within the
// call; operations that end meanwhile may be in some of a device's and not yet in others.
func (p *programs) read() ([]Series, error) {
	labels, err := p.labels(p)
	if err != nil {
		return nil, err
	}
	var all []Series
	for number, s := range labels {
		s.Probe = p.name
		for i := range p.copies {
			h, err := p.readOne(i*p.series + number)
			if err != nil {
				return nil, fmt.Errorf("probe %s: reading its histograms: %w", p.name, err)
			}
			s.Histogram.Merge(&h)
		}
		if s.Count > 0 {
			all = append(all, s)
		}
	}
	return all, nil
}

// readOne returns a copy of a histogram.
func (p *programs) readOne(at uint32) (Histogram, error) {
	var read blockHistogram
	if err := p.loaded.Maps[blockMapHistograms].Lookup(at, &read); err != nil {
		return Histogram{}, err
	}
	h := Histogram{Sum: read.Sum, Max: read.Max, Slots: read.Slots}
	for _, n := range h.Slots {
		h.Count += n
	}
	return h, nil
}

// always returns the labels that a probe has always, of kinds and metrics in the order in
// which its programs number them.
func always(labels ...Series) func(*programs) (map[uint32]Series, error) {
	all := map[uint32]Series{}
	for number, s := range labels {
		all[uint32(number)] = s
	}
	return func(*programs) (map[uint32]Series, error) { return all, nil }
}

// lost returns how often there was no room to count something.
func (p *programs) lost() (n uint64, err error) {
	if err = p.loaded.Variables[blockVarLost].Get(&n); err != nil {
		return 0, fmt.Errorf("probe %s: reading what was lost: %w", p.name, err)
	}
	return n, nil
}

// close takes the programs out of the kernel, all at once: each waits for the kernel
// to have done with it.
func (p *programs) close() error {
	errs := make([]error, len(p.closer))
	var wg sync.WaitGroup
	for i, c := range p.closer {
		wg.Go(func() { errs[i] = c.Close() })
	}
	wg.Wait()
	p.loaded.Close()
	return errors.Join(errs...)
}
