// SPDX-License-Identifier: Apache-2.0

package memdev

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// Fate says what a power cut does to each write that no flush has covered: with
// probability Keep it survives whole; with probability Tear it is torn, and a
// share of its sectors drawn for it survives; else it is lost. The zero Fate
// loses all, Fate{Keep: 1} keeps all.
type Fate struct {
	Keep, Tear float64
}

// RandomFate returns a fate for one power cut of many: a quarter of them lose or
// keep all, the others mix.
func RandomFate(rng *rand.Rand) Fate {
	switch rng.IntN(8) {
	case 0:
		return Fate{}
	case 1:
		return Fate{Keep: 1}
	}
	keep := rng.Float64()
	return Fate{Keep: keep, Tear: (1 - keep) * rng.Float64()}
}

// Draw returns the probability with which each piece of one write survives. It
// is for implementations of [Part].
func (f Fate) Draw(rng *rand.Rand) float64 {
	switch x := rng.Float64(); {
	case x < f.Keep:
		return 1
	case x < f.Keep+f.Tear:
		return rng.Float64()
	default:
		return 0
	}
}

// Clone returns a device with the same content, durable and not, and no hook.
// It costs a pointer a block. Writes under way elsewhere are wholly in it or not
// at all.
func (d *Device) Clone() *Device {
	d.gate.Lock()
	defer d.gate.Unlock()
	to := &Device{data: d.data.clone(), gate: new(sync.RWMutex)}
	to.size.Store(d.Size())
	if d.cache != nil {
		to.cache = d.cache.clone()
	}
	return to
}

// Crash returns the device as a power cut at this instant may leave it: what was
// flushed, and of the rest what fate lets survive, sector by sector. All of that
// is durable in the new device, which is volatile if d is. d goes on unharmed.
// To crash several devices at one instant use a [Machine].
func (d *Device) Crash(rng *rand.Rand, fate Fate) *Device {
	d.gate.Lock()
	defer d.gate.Unlock()
	return d.crash(new(sync.RWMutex), rng, fate)
}

func (d *Device) crash(gate *sync.RWMutex, rng *rand.Rand, fate Fate) *Device {
	to := &Device{data: d.data.clone(), gate: gate}
	to.size.Store(d.Size())
	if d.cache != nil {
		d.cache.survive(to.data, rng, fate)
		to.cache = newCache()
	}
	return to
}

// PowerCut implements [Part].
func (d *Device) PowerCut(to *Machine, rng *rand.Rand, fate Fate) Part {
	return d.crash(&to.gate, rng, fate)
}

// Part is a piece of a [Machine] that a power cut reaches: a [Device], or a
// simulation of another kind that holds the machine's [Machine.Gate] for reading
// while it changes.
type Part interface {
	// PowerCut returns what survives, as a part that holds the gate of to. The
	// machine's gate is held for writing.
	PowerCut(to *Machine, rng *rand.Rand, fate Fate) Part
}

// Machine is a set of parts, by name, that lose power at one instant. Parts are
// added before use; the other methods are safe for concurrent use.
type Machine struct {
	gate  sync.RWMutex
	names []string
	parts map[string]Part
}

// NewMachine returns a machine without parts.
func NewMachine() *Machine { return &Machine{parts: make(map[string]Part)} }

// New adds and returns a device as the function [New] makes it.
func (m *Machine) New(name string, size int64) *Device {
	d := newDevice(size, nil, &m.gate)
	m.Attach(name, d)
	return d
}

// NewVolatile adds and returns a device as the function [NewVolatile] makes it.
func (m *Machine) NewVolatile(name string, size int64) *Device {
	d := newDevice(size, newCache(), &m.gate)
	m.Attach(name, d)
	return d
}

// Attach adds a part that holds this machine's gate. It panics when the name is
// taken.
func (m *Machine) Attach(name string, p Part) {
	if m.parts[name] != nil {
		panic(fmt.Sprintf("memdev: the machine has a part %q already", name))
	}
	m.names = append(m.names, name)
	m.parts[name] = p
}

// Gate returns the lock that a [Part] holds for reading while it changes.
func (m *Machine) Gate() *sync.RWMutex { return &m.gate }

// Names returns the parts' names in the order of adding.
func (m *Machine) Names() []string { return slices.Clone(m.names) }

// Part returns the part of that name, nil if there is none.
func (m *Machine) Part(name string) Part { return m.parts[name] }

// Device returns the device of that name, nil if there is none.
func (m *Machine) Device(name string) *Device {
	d, _ := m.parts[name].(*Device)
	return d
}

// SetHook sets f as the hook of every device, see [Device.SetHook].
func (m *Machine) SetHook(f func(Event)) {
	for _, p := range m.parts {
		if d, ok := p.(*Device); ok {
			d.SetHook(f)
		}
	}
}

// Crash returns the machine as a power cut at this instant may leave it, each
// part under its name. m goes on unharmed. A hook may call it.
func (m *Machine) Crash(rng *rand.Rand, fate Fate) *Machine {
	m.gate.Lock()
	defer m.gate.Unlock()
	to := NewMachine()
	for _, name := range m.names {
		to.Attach(name, m.parts[name].PowerCut(to, rng, fate))
	}
	return to
}
