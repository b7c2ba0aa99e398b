// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x5107)) }

// state is what a model knows of a slot.
type state uint8

const (
	isFree state = iota
	isLeased
	isUsed
	isFreed  // since the last Freeze
	isFrozen // by a checkpoint that is not durable
	isHeld   // by a pin, and free otherwise
	states
)

// model drives a Slots beside an array with the state of every slot, and fails
// the test where they differ. Operations that miss a page are interrupted by
// others, as the store's lock allows.
type model struct {
	t       testing.TB
	rng     *rand.Rand
	area    *area
	slots   *alloc.Slots
	state   []state
	count   [states]uint64
	limit   uint64 // slots from there on must not be leased
	pinned  bool
	depth   int // of operations that interrupt each other
	blocked int // operations interrupted
}

func newModel(t testing.TB, seed uint64, words uint64, cacheBytes int64) *model {
	m := &model{t: t, rng: newRand(seed), area: newArea(cacheBytes), state: make([]state, words*64)}
	m.count[isFree], m.limit = words*64, words*64
	m.slots = m.area.filled(t, words, func(index uint64) uint64 {
		bits := random(m.rng)
		for i := range uint64(64) {
			if bits>>i&1 != 0 {
				m.move(run(index*64+i, index*64+i+1), isFree, isUsed)
			}
		}
		return bits
	})
	return m
}

// move changes the state of a run, all of which must be in state from.
func (m *model) move(r layout.SlotRun, from, to state) {
	for i := range r.Len {
		s := uint64(r.First) + i
		if m.state[s] != from {
			require.FailNow(m.t, fmt.Sprintf("slot %d is in state %d, not %d", s, m.state[s], from))
		}
		m.state[s] = to
	}
	m.count[from] -= r.Len
	m.count[to] += r.Len
}

// pick returns a run of up to limit slots in the state, from a random place on.
func (m *model) pick(s state, limit uint64) (layout.SlotRun, bool) {
	if m.count[s] == 0 {
		return layout.SlotRun{}, false
	}
	total := uint64(len(m.state))
	for i := m.rng.Uint64N(total); ; i = (i + 1) % total {
		if m.state[i] != s {
			continue
		}
		end := i + 1
		for end < total && end-i < limit && m.state[end] == s {
			end++
		}
		return run(i, end), true
	}
}

// resolve runs an operation, which others interrupt.
func (m *model) resolve(fn func() error) error {
	l := &lock{between: func() {
		if m.blocked++; m.depth < 2 {
			m.depth++
			m.step()
			m.depth--
		}
	}}
	return btree.Resolve(l, fn)
}

// step does a random operation.
func (m *model) step() {
	limit := uint64(1) << m.rng.IntN(10)
	switch op := m.rng.IntN(17); {
	case op < 5:
		m.lease(limit * 4)
	case op < 8:
		if r, ok := m.pick(isLeased, limit); ok && m.mayUse() {
			m.slots.Use(r)
			m.move(r, isLeased, isUsed)
		}
	case op < 11:
		if r, ok := m.pick(isUsed, limit); ok {
			m.slots.Free(r)
			m.move(r, isUsed, isFreed)
		}
	case op < 12:
		if r, ok := m.pick(isLeased, limit); ok && m.mayUse() {
			m.slots.Return(r)
			m.move(r, isLeased, isFreed)
		}
	case op < 14 && m.depth == 0:
		m.checkpoint()
	case op < 15 && m.depth == 0 && !m.pinned:
		m.claim(limit)
	case op == 15 && m.depth == 0:
		m.pin()
	case op == 16 && m.depth == 0:
		m.setLimit()
	}
	m.check()
}

// setLimit limits what is leased, for a while.
func (m *model) setLimit() {
	m.limit = uint64(len(m.state))
	if m.rng.IntN(2) == 0 {
		m.limit = m.rng.Uint64N(m.limit)
	}
	m.depth = 2 // nobody else is there
	require.NoError(m.t, m.resolve(func() error { return m.slots.SetLimit(m.limit) }))
	m.depth = 0
	beyond := uint64(0)
	for _, s := range m.state[m.limit:] {
		if s == isLeased || s == isUsed || s == isFreed {
			beyond++
		}
	}
	require.Equal(m.t, beyond, m.slots.Beyond())
}

// freeBelow counts the free slots before the limit.
func (m *model) freeBelow() uint64 {
	n := uint64(0)
	for _, s := range m.state[:m.limit] {
		if s == isFree {
			n++
		}
	}
	return n
}

// mayUse reports whether leases may be split: the superblock has room.
func (m *model) mayUse() bool { return len(m.slots.Leases()) < alloc.MaxLeases }

func (m *model) lease(want uint64) {
	var room bool
	var got []layout.SlotRun
	err := m.resolve(func() (err error) {
		room = len(m.slots.Leases()) < alloc.MaxLeases
		got, err = m.slots.Lease(want)
		if err == nil {
			for _, r := range got {
				m.move(r, isFree, isLeased)
				require.LessOrEqual(m.t, uint64(r.First)+r.Len, m.limit)
			}
		}
		return err
	})
	switch {
	case errors.Is(err, alloc.ErrLeases):
		require.False(m.t, room)
		return
	case errors.Is(err, alloc.ErrNoSpace):
		require.True(m.t, room)
		require.Zero(m.t, m.freeBelow())
		return
	}
	require.NoError(m.t, err)
	require.NotEmpty(m.t, got)
	require.LessOrEqual(m.t, len(m.slots.Leases()), alloc.MaxLeases)
	if m.depth == 0 {
		require.LessOrEqual(m.t, size(got), want)
	}
}

// claim is what recovery does: it allocates free slots, and frees used ones.
func (m *model) claim(limit uint64) {
	if r, ok := m.pick(isFree, limit); ok {
		m.depth = 2 // nobody else is there
		require.NoError(m.t, m.resolve(func() error { return m.slots.Claim(r) }))
		m.move(r, isFree, isUsed)
		if m.rng.IntN(2) == 0 {
			require.NoError(m.t, m.resolve(func() error { return m.slots.Release(r) }))
			m.move(r, isUsed, isFree)
		}
		m.depth = 0
	}
}

// checkpoint freezes, writes the tree, lets others work, and thaws; a crash then
// would find exactly the slots in use at the freeze, once leases are released.
func (m *model) checkpoint() {
	var root layout.Root
	var total uint64
	var leases []layout.SlotRun
	require.NoError(m.t, m.resolve(func() error {
		if err := m.slots.Freeze(); err != nil {
			return err
		}
		root, total = m.area.write(m.t, m.slots.Tree()), m.slots.Allocated()
		leases = append(leases, m.slots.Leases()...)
		for s, st := range m.state {
			if st == isFreed {
				m.move(run(uint64(s), uint64(s)+1), isFreed, isFrozen)
			}
		}
		return nil
	}))
	m.check()
	used := m.count[isUsed]
	for range m.rng.IntN(4) {
		m.depth++
		m.step()
		m.depth--
	}
	crashed := alloc.NewSlots(m.area.open(root), uint64(len(m.state)), total)
	for _, r := range leases {
		require.NoError(m.t, btree.Resolve(&lock{}, func() error { return crashed.Release(r) }))
	}
	require.Equal(m.t, used, crashed.Allocated(), "a crash leaks slots")
	m.area.alloc.Thaw(m.area.alloc.Deferred())
	m.slots.Thaw()
	to := isFree
	if m.pinned {
		to = isHeld
	}
	m.moveAll(isFrozen, to)
}

// moveAll changes the state of all slots in state from.
func (m *model) moveAll(from, to state) {
	for s, st := range m.state {
		if st == from {
			m.move(run(uint64(s), uint64(s)+1), from, to)
		}
	}
}

// pin pins what is used, or ends that.
func (m *model) pin() {
	if m.pinned = !m.pinned; m.pinned {
		m.slots.Pin()
		return
	}
	m.slots.Unpin()
	m.moveAll(isHeld, isFree)
}

// check compares the counts.
func (m *model) check() {
	require.Equal(m.t, m.count[isUsed], m.slots.Used())
	require.Equal(m.t, m.count[isFreed]+m.count[isFrozen], m.slots.Waiting())
	require.Equal(m.t, m.count[isHeld], m.slots.Held())
	if m.depth == 0 {
		require.Equal(m.t, m.freeBelow(), m.slots.Leasable())
		require.Equal(m.t, m.count[isUsed]+m.count[isLeased]+m.count[isFreed], m.slots.Allocated())
	}
}

// deep compares every slot.
func (m *model) deep() {
	m.check()
	got := allocated(m.t, m.slots.Tree(), uint64(len(m.state)))
	for s, on := range got {
		require.Equal(m.t, m.state[s] == isUsed || m.state[s] == isLeased || m.state[s] == isFreed, on, "slot %d in state %d", s, m.state[s])
	}
	leased := uint64(0)
	end := block.Slot(0)
	for i, r := range m.slots.Leases() {
		require.True(m.t, i == 0 || r.First >= end, "leases are not apart and ascending")
		end = r.First + block.Slot(r.Len)
		leased += r.Len
		for j := range r.Len {
			require.Equal(m.t, isLeased, m.state[uint64(r.First)+j])
		}
	}
	require.Equal(m.t, m.count[isLeased], leased)
}

// Random operations against the model; with no cache, each of them is cut short
// by misses and interrupted by others.
func TestAgainstAModel(t *testing.T) {
	for _, c := range []struct {
		name         string
		words        uint64
		cache        int64
		seeds, steps int
	}{
		{"few slots", 3, 1 << 20, 20, 400},
		{"in memory", 300, 1 << 20, 3, 800},
		{"without cache", 6000, 0, 2, 150},
		{"small cache", 6000, 100 << 10, 2, 150},
	} {
		t.Run(c.name, func(t *testing.T) {
			blocked := 0
			for seed := range c.seeds {
				m := newModel(t, uint64(seed), c.words, c.cache)
				for range c.steps {
					m.step()
				}
				m.deep()
				blocked += m.blocked
			}
			if c.cache < 1<<20 {
				require.Greater(t, blocked, 10)
			}
		})
	}
}
