// SPDX-License-Identifier: Apache-2.0

// Package store is the state of a volume's snapshots on its devices: it formats,
// opens and recovers a store, takes in reports of copied chunks, makes and
// deletes snapshots, and writes checkpoints.
//
// It is the only mutator of a store. It does not own the data path: clients copy
// chunks and write batches by themselves (package volume), into slots leased
// here, and report them. Package server is its caller. A Store is safe for
// concurrent use. Reading a metadata page never happens under its lock. When a
// write of metadata fails, the store goes from read-write to failed, and never
// back: what is durable stays as it was, reads go on, changes return ErrFailed.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/exception"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// Errors that callers decide on.
var (
	// ErrNoSnapshot is wrapped when no live snapshot has the tag.
	ErrNoSnapshot = errors.New("no such snapshot")
	// ErrExists is wrapped when a snapshot with the tag exists already.
	ErrExists = errors.New("snapshot exists already")
	// ErrInUse is wrapped when a snapshot to be deleted is open.
	ErrInUse = errors.New("snapshot is in use")
	// ErrReadOnly is wrapped by changes of a store that was opened read-only.
	ErrReadOnly = errors.New("store is read-only")
	// ErrFailed is wrapped by changes of a store after an error in writing
	// metadata.
	ErrFailed = errors.New("store has failed")
	// ErrStale is wrapped when a client reports a batch that is not the next one of
	// the present session.
	ErrStale = errors.New("report is not of this session")
	// ErrAttached is returned when a store has an origin client already.
	ErrAttached = errors.New("store has an origin client already")
	// ErrHeld is wrapped when a snapshot to be deleted is held.
	ErrHeld = errors.New("snapshot is held")
	// ErrHasSnapshots is wrapped when a snapshot to be deleted has some of its own.
	ErrHasSnapshots = errors.New("snapshot has snapshots of its own")
	// ErrSquashed is wrapped when a snapshot was given up for space.
	ErrSquashed = fmt.Errorf("snapshot was squashed: its content was given up for space: %w", unix.EIO)
	// ErrApplying is wrapped when something cannot be done while a delta is being
	// applied to the origin.
	ErrApplying = errors.New("a delta is being applied")
	// ErrName is wrapped when a name cannot be a snapshot's.
	ErrName = errors.New("bad name")
)

// Options tune an open store; the zero value of each field means its default.
type Options struct {
	ReadOnly        bool  // write nothing, not even what recovery finds
	Await           bool  // an origin client of an earlier opening lives: see Store.Resume
	CacheBytes      int64 // bound of the metadata cache in memory; default 64 MiB
	CheckpointBytes int64 // copied data after which a checkpoint is due; default 256 MiB
	LeaseBytes      int64 // slots that a client holds in advance; default 64 MiB
	// DeleteRate is how many exceptions a second a deletion in the background looks at
	// at least, in the long run: it takes a larger share of the devices if it must, up
	// to 32 reads at a time. Left alone it goes as fast as it can. Default 1000.
	DeleteRate int
	// ClientWait bounds how long the origin waits for the client of a snapshot that
	// is squashed; default 5 s.
	ClientWait time.Duration
	// OnFailure says what becomes of origin writes while the devices take no writes;
	// default HoldWrites.
	OnFailure FailurePolicy
	Retry     time.Duration // between two tries of such devices; default 2 s
	Now       func() int64
	Logger    *slog.Logger
}

// Defaults of Options.
const (
	DefaultCacheBytes      = 64 << 20
	DefaultCheckpointBytes = 256 << 20
	DefaultLeaseBytes      = 64 << 20
	DefaultDeleteRate      = 1000
	DefaultClientWait      = 5 * time.Second
)

// Store is an open store.
type Store struct {
	devs placement.Devices
	meta device.Device
	opts Options
	geo  block.Geometry // of the chunks; the origin's size may have changed: see geometry
	due  chan struct{}  // has a token when Maintain has something to do

	// dropping is held by who makes space in a full store. Taken before admin.
	dropping sync.Mutex
	// admin is held through every change that a client is told of, so that it hears
	// of them in their order. Taken before a client's own locks, checkpointing, mu.
	admin         sync.Mutex
	checkpointing sync.Mutex // held through a checkpoint; taken before mu
	// steps is held for reading by a change that a missing page may cut in two,
	// until it is whole, and for writing by a checkpoint that takes its image: it
	// must not hold one half. Taken before mu, and never twice.
	steps sync.RWMutex
	// making is held for reading by who makes a snapshot, and for writing by a resize
	// that cannot end otherwise. Taken before all others.
	making sync.RWMutex
	// resize is held through a resize.
	resize sync.Mutex
	failed atomic.Pointer[error]
	// closing says that nobody is to wait for space any more.
	closing atomic.Bool
	// awaiting says that the log of an origin client that outlived its server may go
	// on after what was recovered: see Resume.
	awaiting  atomic.Bool
	suspended atomic.Bool
	distress  atomic.Pointer[error] // why the devices take no writes, or nil
	troubled  atomic.Bool           // events have told of trouble, and not of its end
	scrub     scrub
	feed      feed                          // of events
	space     atomic.Pointer[chan struct{}] // is closed, and replaced, when there may be space

	mu      sync.Mutex // guards all below
	sb      layout.Superblock
	cache   *btree.Cache
	index   exception.Index
	slots   *alloc.Slots
	leases  *btree.Tree[layout.SlotRun] // as the last checkpoint has them
	pages   *alloc.Pages
	snaps   table
	digests digests
	// reclaiming is how far the deletion under way has come.
	reclaiming reclaiming
	pace       pace
	handles    map[wire.Handle]*opened // of the snapshots that are open
	control    *journal.Ring
	position   layout.Position // of the first batch that was not reported
	released   layout.Position // of the first batch that is not in a durable checkpoint
	heads      []layout.SlotRun
	copied     int64 // bytes reported since the last checkpoint
	logged     int   // batches reported since
	count      Counters
	lost       losses
	client     wire.Client
	renewals   int // since a batch was reported
	aside      aside
	probing    []layout.SlotRun // leased by nobody: they are being tried
	headless   bool             // the client has no slot for its next descriptor
	pin        *Pin             // a checkpoint that is kept, or nil
	closed     bool
	changed    bool // since the last checkpoint
	full       bool // a client has found no space, and there is little since
	taken      rate // of slots
	grown      rate // of metadata pages
	mark       int  // how many of marks the fill has passed
	// lastPages is how many metadata pages the last checkpoint left in use.
	lastPages uint64
	// generation is the origin's current one. Other snapshots may have been made since.
	generation block.Generation
	lastHandle wire.Handle
	moving     []layout.SlotRun // leased by a resize
	resizing   bool
	ending     bool // no resize is to go on
	squeezed   bool // a client needs the space that a shrink has taken from it
	// restoring is the generation that clients are told the origin is being restored
	// from, or zero: from before the superblock says so until it is durable that it
	// does no longer.
	restoring block.Generation
	trouble   string // why the restore does not go on
	skipped   uint64 // chunks that it has left as they were
}

// resolve runs fn with the lock held, and again after each page that it misses
// was read without the lock. What fn does before a miss must bear repetition.
func (s *Store) resolve(fn func() error) error { return btree.Resolve(&s.mu, fn) }

// step is resolve for a change that may be cut in two: every checkpoint has all of
// it or nothing.
func (s *Store) step(fn func() error) error {
	s.steps.RLock()
	defer s.steps.RUnlock()
	return s.resolve(fn)
}

// ErrWaiting is wrapped when nothing can be changed yet, since an origin client of the
// server before lives and has not come back.
var ErrWaiting = fmt.Errorf("the store waits for its origin client to come back: %w", wire.ErrAway)

// mutable returns the reason why the store cannot be changed, or nil.
func (s *Store) mutable() error {
	switch {
	case s.opts.ReadOnly:
		return ErrReadOnly
	case s.awaiting.Load():
		return ErrWaiting
	case s.suspended.Load():
		return fmt.Errorf("the store was closed: %w", wire.ErrAway)
	}
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, *err)
	}
	return nil
}

// fail puts the store into failed mode, for good.
func (s *Store) fail(err error) error {
	if s.failed.CompareAndSwap(nil, &err) {
		s.emit(Event{Kind: EventFailed, Text: err.Error()})
		s.spaceChanged() // nobody is to wait for it any more
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// Geometry returns the origin's shape as it is now.
func (s *Store) Geometry() block.Geometry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.geometry()
}

// geometry is Geometry with the lock held. The superblock's sizes were checked.
func (s *Store) geometry() block.Geometry {
	geo, err := block.NewGeometry(s.sb.OriginSize, s.geo.ChunkSize())
	if err != nil {
		panic(err)
	}
	return geo
}

// UUID returns the store's identity.
func (s *Store) UUID() layout.UUID { return s.sb.UUID }

// Due has a token when [Store.Maintain] has something to do.
func (s *Store) Due() <-chan struct{} { return s.due }

// wake lets Maintain know that there is something to do.
func (s *Store) wake() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// Maintain does the background work that is due: a checkpoint, a step of a
// deletion. It gives up no snapshot. It reports whether more is due right away.
func (s *Store) Maintain() (more bool, err error) {
	if err := s.mutable(); err != nil {
		return false, err
	}
	if s.inTrouble() {
		return false, nil
	}
	more, err = s.reclaim(1)
	if err == nil && !more {
		more, err = s.sweepDigests()
	}
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	due := s.checkpointDue()
	s.mu.Unlock()
	if due {
		err = s.Checkpoint()
	}
	return more, err
}

// Thresholds of a checkpoint.
const (
	maxFixed      = 0.25    // of the cache, that may be dirty or on its way to the device
	maxFill       = 0.4     // of the log's or the snapshot records' room
	maxFreedSlots = 1 << 16 // that wait for a checkpoint
	maxLogged     = 1 << 13 // batches: recovery reads each, one after the other
)

// checkpointDue reports whether a checkpoint should be taken. The lock is held.
func (s *Store) checkpointDue() bool {
	return s.copied >= s.opts.CheckpointBytes || s.logged >= maxLogged || s.fixed() >= maxFixed ||
		float64(s.control.Used()) > maxFill*float64(s.control.Size()) ||
		s.journalFill() > maxFill || s.cramped() ||
		s.slots.Waiting() > maxFreedSlots || s.slots.Waiting() > 0 && s.starving()
}

// cramped reports whether a checkpoint would take half of the free pages. The
// lock is held.
func (s *Store) cramped() bool { return 2*s.dirtyPages() >= s.pages.Free() }

// dirtyPages returns how many pages a checkpoint would write. The lock is held.
func (s *Store) dirtyPages() uint64 {
	n := 0
	for _, t := range s.trees() {
		n += t.Dirty()
	}
	return uint64(n)
}

// journalFill returns how full the journal of batches is. The lock is held.
func (s *Store) journalFill() float64 {
	size := s.journalRegion().Size
	if size == 0 {
		return 0
	}
	used := (int64(s.position.Place) - int64(s.released.Place) + size) % size
	return float64(used) / float64(size)
}

// starving reports whether less than a lease is free while slots wait to be
// freed. The lock is held.
func (s *Store) starving() bool {
	return s.slots.Total()-s.slots.Allocated() < s.leaseSlots()
}

// fixed returns which part of the cache cannot be dropped. The lock is held.
func (s *Store) fixed() float64 {
	return float64(s.cache.Fixed()) / float64(s.opts.CacheBytes)
}

// journalRegion returns where the journal of batches lies.
func (s *Store) journalRegion() wire.JournalRegion {
	switch s.sb.Placement {
	case layout.PlacementDisk:
		return wire.JournalRegion{Start: int64(s.sb.Journal.First) * block.PageSize, Size: int64(s.sb.Journal.Len) * block.PageSize}
	case layout.PlacementNVRAM, layout.PlacementPMem:
		return wire.JournalRegion{Start: layout.LabelSize, Size: s.sb.JournalSize}
	}
	return wire.JournalRegion{}
}

// Attach makes c the origin client. Its batches go on with the numbers of the last
// client's, at a new place.
func (s *Store) Attach(c wire.Client) (*wire.Session, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.awaiting.Load() { // the one that was waited for has ended: it would hold the lock
		if err := s.abandon(); err != nil {
			return nil, err
		}
	}
	return s.begins(c)
}

// begins begins a session of an origin client.
func (s *Store) begins(c wire.Client) (*wire.Session, error) {
	if err := s.mutable(); err != nil {
		return nil, err
	}
	leases, err := s.attach(c)
	if err != nil {
		return nil, err
	}
	// The first batch's place must be durable before the batch is.
	if err := s.Checkpoint(); err != nil {
		s.mu.Lock()
		s.client = nil
		s.mu.Unlock()
		return nil, err
	}
	s.emit(Event{Kind: EventAttached, Text: "the origin"})
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session(leases), nil
}

func (s *Store) attach(c wire.Client) (leases []layout.SlotRun, err error) {
	err = s.step(func() error {
		if s.client != nil {
			return ErrAttached
		}
		if s.restoring != 0 && !restores(c) {
			return fmt.Errorf("%w, which this client cannot carry out: attach it otherwise until that is done", ErrRestoring)
		}
		if leases, err = s.startLog(); err == nil {
			s.client = c
		}
		return err
	})
	return leases, err
}

// startLog has the batches go on at a new place. The lock is held.
func (s *Store) startLog() ([]layout.SlotRun, error) {
	leases, err := s.takeSlots(s.leaseSlots(), s.originRuns())
	if errors.Is(err, alloc.ErrNoSpace) {
		leases, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The last client's last batch may have had this number, and not have been
	// reported; or it could not be made durable.
	s.position = layout.Position{Seq: s.position.Seq + 1}
	s.headless = s.sb.Placement == layout.PlacementInline
	s.giveHead(leases)
	s.changed = true
	return leases, nil
}

// giveHead makes the first slot leased the place of the next descriptor, if the
// client has none, and reports whether it did. The lock is held.
func (s *Store) giveHead(leases []layout.SlotRun) bool {
	if !s.headless || len(leases) == 0 {
		return false
	}
	s.headless = false
	s.position.Place = uint64(leases[0].First)
	return true
}

func (s *Store) leaseSlots() uint64 {
	return max(4, min(uint64(s.opts.LeaseBytes)>>s.geo.ChunkShift(), s.slots.Limit()/16))
}

// session describes the store to its client. The lock is held.
func (s *Store) session(leases []layout.SlotRun) *wire.Session {
	return &wire.Session{
		UUID: s.sb.UUID, Placement: s.sb.Placement, Geometry: s.geometry(),
		DataOffset: s.sb.DataOffset, Slots: s.sb.Slots, Journal: s.journalRegion(),
		Epoch: s.sb.Epoch, Position: s.position, Leases: slices.Clone(leases),
		State: s.state(),
	}
}

// state is what clients know of the snapshots. The lock is held.
func (s *Store) state() wire.State {
	return wire.State{
		Generation: s.generation, Newest: s.snaps.newest(), Size: s.sb.OriginSize, Largest: s.snaps.largest(),
		Restoring: s.restoring, Failed: s.failed.Load() != nil,
	}
}

// Detach ends the client's session: its leases are taken back.
func (s *Store) Detach() error {
	s.emit(Event{Kind: EventDetached, Text: "the origin"})
	defer s.spaceChanged()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.aside = nil, aside{}
	s.takeBack()
	return nil
}

// originLeases returns what is leased to the origin's client. The lock is held.
func (s *Store) originLeases() []layout.SlotRun {
	runs := without(slices.Clone(s.slots.Leases()), s.moving)
	runs = without(without(runs, s.aside.runs), s.probing)
	for _, o := range s.handles {
		runs = without(runs, o.leases)
	}
	return runs
}

// Close takes a last checkpoint, that says that there is nothing to replay. The
// client must have been detached. The devices stay open.
func (s *Store) Close() error {
	s.StopScrub()
	s.endResize()
	s.mu.Lock()
	if s.closed || s.client != nil && !s.suspended.Load() {
		s.mu.Unlock()
		return errors.New("store is closed already, or has a client")
	}
	s.closed = true
	s.mu.Unlock()
	defer s.feed.close()
	if s.mutable() != nil {
		return nil
	}
	return s.Checkpoint()
}

// DataOffset returns the byte offset of slot 0 on the store device.
func (s *Store) DataOffset() int64 { return s.sb.DataOffset }
