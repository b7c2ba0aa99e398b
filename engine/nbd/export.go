// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// ErrNoExport is wrapped by [Exports] for a name that it does not know. The
// client is told so; any other error is told as a refusal.
var ErrNoExport = errors.New("no such export")

// Exports finds exports by name, anew for each connection, so that a snapshot
// made a moment ago can be attached. Implementations are safe for concurrent
// use.
type Exports interface {
	// List returns the names that clients may see.
	List() []string
	// Open returns the export, or an error wrapping ErrNoExport. The empty name
	// asks for the default export. The server calls Close of every Export that
	// it opened, once, when no request uses it any more.
	Open(name string) (*Export, error)
}

// Export is one block device as a client sees it.
type Export struct {
	Name        string // canonical, told to clients that ask; at most 4096 bytes
	Description string // for people; at most 4096 bytes
	// Device is shared by all connections to the export: what one has flushed is
	// durable for all, which is what lets clients use several connections.
	Device   device.Device
	ReadOnly bool
	// BlockSizes are told to clients. A request that is not a multiple of Min
	// fails with EINVAL. Zero fields become 512, 4096 and 32 MiB.
	BlockSizes BlockSizes
	// FastZero says that the Device's WriteZeroes costs much less than writing
	// zeroes would. Without it, clients that insist on speed get ENOTSUP.
	FastZero bool
	// ZeroKeeps says that the Device's WriteZeroes leaves the range allocated.
	// Without it, clients that forbid holes have their zeroes written out.
	ZeroKeeps bool
	// Contexts are the metadata contexts by full name, such as
	// "qemu:dirty-bitmap:NAME". "base:allocation" is added where missing, saying
	// that all is allocated.
	Contexts map[string]StatusFunc
	// Close releases the export; it may be nil.
	Close func() error
}

// BlockSizes are the sizes of requests in bytes that suit an export. Each is a
// power of two but for Max, a multiple of Min.
type BlockSizes struct{ Min, Preferred, Max int }

// Extent is a run of bytes with one status. The meaning of Flags is the
// context's: see wire.StateHole, wire.StateZero and wire.StateDirty.
type Extent struct {
	Length int64 // bytes
	Flags  uint32
}

// StatusFunc tells the status of the n bytes at off, n > 0, as extents in order.
// It may stop short of n, but not at zero; what reaches beyond n is cut off. With
// one set, a single extent suffices. It is called concurrently.
type StatusFunc func(off, n int64, one bool) ([]Extent, error)

// DirtyContext returns the name of the context that says which bytes changed
// since the snapshot or bitmap name.
func DirtyContext(name string) string { return wire.ContextDirtyPrefix + name }

// allAllocated is base:allocation of an export that does not know better.
func allAllocated(_, n int64, _ bool) ([]Extent, error) { return []Extent{{Length: n}}, nil }

// open finds an export and fills in what it left out.
func (s *Server) open(name string) (*Export, error) {
	e, err := s.cfg.Exports.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening export %q: %w", name, err)
	}
	full := *e
	full.Contexts = maps.Clone(e.Contexts)
	if full.Contexts == nil {
		full.Contexts = make(map[string]StatusFunc, 1)
	}
	if full.Contexts[wire.ContextAllocation] == nil {
		full.Contexts[wire.ContextAllocation] = allAllocated
	}
	b := &full.BlockSizes
	b.Min = max(b.Min, block.SectorSize)
	b.Preferred = max(b.Preferred, b.Min, 4096)
	if b.Max <= 0 || b.Max > wire.MaxPayload {
		b.Max = wire.MaxPayload
	}
	if b.Min&(b.Min-1) != 0 || b.Preferred&(b.Preferred-1) != 0 || b.Max < b.Min || full.Device.Size()%int64(b.Min) != 0 {
		return nil, errors.Join(fmt.Errorf("export %q: block sizes %+v do not fit a device of %d bytes", name, *b, full.Device.Size()), e.close())
	}
	return &full, nil
}

func (e *Export) close() error {
	if e.Close == nil {
		return nil
	}
	return e.Close()
}

// flags returns the transmission flags.
func (e *Export) flags(structured bool) uint16 {
	f := wire.FlagHasFlags | wire.FlagSendFlush | wire.FlagSendFUA | wire.FlagCanMultiConn
	if structured {
		f |= wire.FlagSendDF
	}
	if e.ReadOnly {
		return f | wire.FlagReadOnly
	}
	return f | wire.FlagSendTrim | wire.FlagSendWriteZeroes | wire.FlagSendFastZero
}

// match returns the names of e's contexts that a client's queries select, each
// once, sorted. A query is a full name; where a listing is asked for, it may be
// a namespace with its colon, or a leaf's prefix as in "qemu:dirty-bitmap:", and
// no query at all means everything.
func (e *Export) match(queries []string, listing bool) []string {
	all := slices.Sorted(maps.Keys(e.Contexts))
	if listing && len(queries) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(name string) bool {
		return !slices.ContainsFunc(queries, func(q string) bool {
			return q == name || listing && strings.HasSuffix(q, ":") && strings.HasPrefix(name, q)
		})
	})
}
