// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"math/bits"
	"sync/atomic"

	"zumastor.org/zumastor/results"
)

// role is which of the devices it is.
type role uint8

const (
	origin role = iota
	store
	metadata
	journalRole
	roles
)

// kind is what an operation of a device does.
type kind uint8

const (
	reads kind = iota
	writes
	flushes
	kinds
)

var (
	roleNames = [roles]string{"origin", "store", "metadata", "journal"}
	kindNames = [kinds]string{"read", "write", "flush"}
)

// traffic counts operations of devices.
type traffic struct {
	ops, bytes [roles][kinds]atomic.Int64
	distance   [48]atomic.Int64
	end        atomic.Int64 // of the operation before, on the one disk; -1: there was none
}

func (t *traffic) reset() {
	for i := range t.ops {
		for k := range t.ops[i] {
			t.ops[i][k].Store(0)
			t.bytes[i][k].Store(0)
		}
	}
	for i := range t.distance {
		t.distance[i].Store(0)
	}
	t.end.Store(-1)
}

// add counts an operation at a place of the disk.
func (t *traffic) add(d role, k kind, at, n int64) {
	t.ops[d][k].Add(1)
	if k == flushes {
		return
	}
	t.bytes[d][k].Add(n)
	if d == journalRole {
		return // another device
	}
	before := t.end.Swap(at + n)
	if before < 0 {
		return
	}
	sectors := uint64(max(at-before, before-at)) >> 9
	t.distance[min(bits.Len64(sectors), len(t.distance)-1)].Add(1)
}

// flows returns what was counted, but for what never happened.
func (t *traffic) flows() []results.Flow {
	var all []results.Flow
	for d := range roles {
		for k := range kinds {
			if n := t.ops[d][k].Load(); n > 0 {
				all = append(all, results.Flow{Device: roleNames[d], Kind: kindNames[k], Operations: n, Bytes: t.bytes[d][k].Load()})
			}
		}
	}
	return all
}

func (t *traffic) distances() []int64 {
	var all []int64
	last := 0
	for i := range t.distance {
		n := t.distance[i].Load()
		if all = append(all, n); n > 0 {
			last = i + 1
		}
	}
	return all[:last]
}
