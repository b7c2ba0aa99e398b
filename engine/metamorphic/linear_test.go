// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// registers is how many sectors of a disk the clients use: several of one chunk, and
// of several chunks.
const registers = 6

// contents are what the registers hold.
type contents [registers]uint16

// offset returns where a register is.
func offset(reg, chunkSize int) int64 { return int64(reg/2*chunkSize + reg%2*block.SectorSize) }

// access is what a client asks for: to write or read a register, or to make a
// snapshot, which reads all at one instant.
type access struct {
	branch bool // of the snapshot that is written to; else of the origin
	kind   Kind // Write, Read or Snapshot
	reg    int
	value  uint16
}

// atomically is the specification: each access takes place at one instant between its
// call and its return. Origin and written snapshot have nothing to do with each other.
var atomically = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, 2)
		for _, op := range history {
			i := 0
			if op.Input.(access).branch {
				i = 1
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return contents{} },
	Step: func(state, input, output any) (bool, any) {
		now, in := state.(contents), input.(access)
		switch in.kind {
		case Write:
			now[in.reg] = in.value
			return true, now
		case Read:
			return now[in.reg] == output.(contents)[in.reg], now
		}
		return now == output.(contents), now
	},
}

// slow is a device on which others go first.
type slow struct{ device.Device }

func (d slow) WriteAt(p []byte, off int64) (int, error) {
	for range 30 {
		runtime.Gosched()
	}
	return d.Device.WriteAt(p, off)
}

// clients use an origin and a snapshot of it that is written to, at the same time, and
// note when each access began and ended.
type clients struct {
	rig     *rig.Rig
	branch  *volume.Snapshot
	start   time.Time
	mu      sync.Mutex
	history []porcupine.Operation
	values  atomic.Uint32
	err     error
}

const branchTag block.Tag = 1000

// use returns the history of some clients.
func use(o rig.Options, w rig.Wrappers, seed uint64) (history []porcupine.Operation, err error) {
	r, err := rig.New(o, w)
	if err != nil {
		return nil, err
	}
	defer r.Abandon()
	if _, err := r.Server.CreateSnapshot(branchTag); err != nil {
		return nil, err
	}
	c := &clients{rig: r, start: time.Now()}
	if c.branch, err = volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: branchTag}, true); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	for id := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			for n := range 25 {
				if err := c.access(rng, id, n); err != nil {
					c.mu.Lock()
					c.err = errors.Join(c.err, err)
					c.mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return c.history, errors.Join(c.err, c.branch.Close())
}

// access does one access. Clients 0 and 1 make snapshots, and delete them.
func (c *clients) access(rng *rand.Rand, id, n int) (err error) {
	a := access{branch: id%2 == 1, kind: pick(rng, Write, Write, Read), reg: rng.IntN(registers)}
	if id < 2 && n%3 == 0 {
		a.kind = Snapshot
	}
	var disk device.Device = c.rig.Volume
	if a.branch {
		disk = c.branch
	}
	var out contents
	call := time.Since(c.start)
	p := make([]byte, block.SectorSize)
	switch a.kind {
	case Write:
		a.value = uint16(c.values.Add(1))
		p[0], p[1] = byte(a.value), byte(a.value>>8)
		_, err = disk.WriteAt(p, offset(a.reg, c.rig.ChunkSize))
	case Read:
		_, err = disk.ReadAt(p, offset(a.reg, c.rig.ChunkSize))
		out[a.reg] = uint16(p[0]) | uint16(p[1])<<8
	case Snapshot:
		n := store.NewSnapshot{Tag: block.Tag(id*100 + n)}
		if a.branch {
			n.Parent = &wire.SnapshotRef{Tag: branchTag}
		}
		_, err = c.rig.Server.Create(n)
	}
	if err != nil {
		return err
	}
	end := time.Since(c.start)
	if a.kind == Snapshot {
		if out, err = c.look(block.Tag(id*100 + n)); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, porcupine.Operation{ClientId: id, Input: a, Call: int64(call), Output: out, Return: int64(end)})
	return nil
}

// look reads a snapshot several times, which must always say the same, and deletes it.
func (c *clients) look(tag block.Tag) (first contents, err error) {
	for i := range 4 {
		var now contents
		for reg := range now {
			p, err := c.rig.ReadSnapshot(tag, offset(reg, c.rig.ChunkSize), block.SectorSize)
			if err != nil {
				return first, err
			}
			now[reg] = uint16(p[0]) | uint16(p[1])<<8
		}
		if i == 0 {
			first = now
		}
		if now != first {
			return first, fmt.Errorf("snapshot %d held %v, and now %v", tag, first, now)
		}
	}
	return first, c.rig.Server.DeleteSnapshot(tag)
}

// linearizable returns an error unless the clients' accesses have an order.
func linearizable(o rig.Options, w rig.Wrappers, seed uint64) error {
	history, err := use(o, w, seed)
	if err != nil {
		return err
	}
	switch porcupine.CheckOperationsTimeout(atomically, history, 10*time.Second) {
	case porcupine.Illegal:
		return fmt.Errorf("seed %d: %d accesses have no order", seed, len(history))
	case porcupine.Unknown:
		return fmt.Errorf("seed %d: no order of %d accesses was found in 10 s", seed, len(history))
	}
	return nil
}

func slowly(name string, d device.Device) device.Device { return slow{d} }

func TestAccessesAreLinearizable(t *testing.T) {
	for i, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			o.Background = i%2 == 0
			for seed := range uint64(soaking(2, 100)) {
				require.NoError(t, linearizable(o, rig.Wrappers{Device: slowly}, seed))
			}
		})
	}
}

// TestNoticesAccessesWithoutOrder breaks the rules by which snapshots are instants.
func TestNoticesAccessesWithoutOrder(t *testing.T) {
	for what, broken := range map[string]rig.Wrappers{
		"the origin does not wait for writes under way": {Device: slowly, Server: func(s wire.Server) wire.Server { return impatient{s} }},
		"writers of snapshots are not told":             {Device: slowly, Server: func(s wire.Server) wire.Server { return deaf{s} }},
	} {
		t.Run(what, func(t *testing.T) {
			var err error
			for seed := uint64(0); err == nil && seed < 200; seed++ {
				err = linearizable(setups()[0], broken, seed)
			}
			require.Error(t, err)
			t.Log(err)
		})
	}
}

// TestModelKnowsOrder shows what the specification takes for an order.
func TestModelKnowsOrder(t *testing.T) {
	write := func(reg int, value uint16) access { return access{kind: Write, reg: reg, value: value} }
	read, look := access{kind: Read}, access{kind: Snapshot}
	at := func(call, end int64, in access, out contents) porcupine.Operation {
		return porcupine.Operation{ClientId: int(call), Input: in, Call: call, Output: out, Return: end}
	}
	for _, c := range []struct {
		what    string
		ordered bool
		history []porcupine.Operation
	}{
		{"the last write is read", true, []porcupine.Operation{at(1, 2, write(0, 1), contents{}), at(3, 4, write(0, 2), contents{}), at(5, 6, read, contents{2})}},
		{"an older one is", false, []porcupine.Operation{at(1, 2, write(0, 1), contents{}), at(3, 4, write(0, 2), contents{}), at(5, 6, read, contents{1})}},
		{"either is while both are under way", true, []porcupine.Operation{at(1, 9, write(0, 1), contents{}), at(2, 8, write(0, 2), contents{}), at(10, 11, read, contents{1})}},
		{"a snapshot has the first of two writes", true, []porcupine.Operation{at(1, 2, write(0, 1), contents{}), at(4, 5, write(1, 2), contents{}), at(3, 6, look, contents{1})}},
		{"it has the second only", false, []porcupine.Operation{at(1, 2, write(0, 1), contents{}), at(4, 5, write(1, 2), contents{}), at(1, 6, look, contents{0, 2})}},
	} {
		require.Equal(t, c.ordered, porcupine.CheckOperations(atomically, c.history), c.what)
	}
}
