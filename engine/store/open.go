// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

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

// ErrNoStore is wrapped when a device holds no store: nothing on it is or was a
// superblock.
var ErrNoStore = errors.New("no store on this device")

// Open opens the store on the devices. After a crash it recovers: it takes the
// newest checkpoint and replays what the logs say happened since. It writes
// nothing if the store is opened read-only.
func Open(d placement.Devices, o Options) (*Store, error) {
	o.CacheBytes = orDefault(o.CacheBytes, DefaultCacheBytes)
	o.CheckpointBytes = orDefault(o.CheckpointBytes, DefaultCheckpointBytes)
	o.LeaseBytes = orDefault(o.LeaseBytes, DefaultLeaseBytes)
	if o.DeleteRate == 0 {
		o.DeleteRate = DefaultDeleteRate
	}
	if o.Retry == 0 {
		o.Retry = DefaultRetry
	}
	if o.ClientWait == 0 {
		o.ClientWait = DefaultClientWait
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixNano() }
	}
	sb, err := readSuperblock(d.MetaDevice())
	if err != nil {
		return nil, err
	}
	if err := checkDevices(d, sb); err != nil {
		return nil, err
	}
	geo, err := block.NewGeometry(sb.OriginSize, 1<<sb.ChunkShift)
	if err != nil {
		return nil, err
	}
	s := &Store{
		devs: d, meta: d.MetaDevice(), opts: o, geo: geo, sb: *sb, due: make(chan struct{}, 1),
		handles: make(map[wire.Handle]*opened), restoring: sb.Restore.Generation,
		pace: pace{least: float64(o.DeleteRate), width: 1},
	}
	space := make(chan struct{})
	s.space.Store(&space)
	s.openTrees()
	if err := s.claimPages(); err != nil {
		return nil, err
	}
	if err := s.digests.load(); err != nil {
		return nil, fmt.Errorf("reading which digests there are: %w", err)
	}
	if err := s.loadSnapshots(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	now := o.Now()
	s.taken, s.grown, s.lastPages = newRate(now), newRate(now), s.pagesKept()
	s.wake()
	return s, nil
}

func orDefault(v, byDefault int64) int64 {
	if v == 0 {
		return byDefault
	}
	return v
}

// noSuperblock tells a device without a store from a store whose superblocks are all
// damaged.
func noSuperblock(errs []error) error {
	for _, err := range errs {
		if !errors.Is(err, layout.ErrNoSuperblock) {
			return fmt.Errorf("no superblock is whole: %w", errors.Join(errs...))
		}
	}
	return fmt.Errorf("%w: there is no superblock", ErrNoStore)
}

// readSuperblock returns the newer of the superblocks. A crash leaves each whole,
// new or old. So one that is damaged may have been the newer one, and what the
// other points at may have been written over since: then none is good.
func readSuperblock(meta device.Device) (*layout.Superblock, error) {
	if meta.Size() < layout.Superblocks*block.PageSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrNoStore, meta.Size())
	}
	var newest *layout.Superblock
	var errs []error
	blank := false // the last of errs is about zeroes
	page := device.Buffer(block.PageSize)
	for i := range int64(layout.Superblocks) {
		if _, err := meta.ReadAt(page, i*block.PageSize); err != nil {
			return nil, fmt.Errorf("reading superblock %d: %w", i, err)
		}
		p := page[:layout.SuperblockSize]
		sb, err := layout.DecodeSuperblock(p)
		switch {
		case errors.Is(err, layout.ErrVersion):
			return nil, fmt.Errorf("superblock %d: %w", i, err)
		case err != nil:
			errs, blank = append(errs, fmt.Errorf("superblock %d: %w", i, err)), layout.NeverWritten(p)
		case newest == nil || sb.Checkpoint > newest.Checkpoint:
			newest = sb
		}
	}
	if newest == nil {
		return nil, noSuperblock(errs)
	}
	if len(errs) > 0 && !(blank && newest.Checkpoint == 0) {
		return nil, fmt.Errorf("%w; checkpoint %d in the other one may be older than the store, so that it was not opened and nothing was changed",
			errs[0], newest.Checkpoint)
	}
	return newest, nil
}

// checkDevices reports devices that are not the store's, or too small for it.
func checkDevices(d placement.Devices, sb *layout.Superblock) error {
	if sb.Separate != (d.Meta != nil) {
		if sb.Separate {
			return fmt.Errorf("%w: this is the metadata device of store %v: name the store device, and this one for the metadata", block.ErrGeometry, sb.UUID)
		}
		return fmt.Errorf("%w: store %v has no metadata device: name the store alone", block.ErrGeometry, sb.UUID)
	}
	if end := sb.DataOffset + int64(sb.Slots<<sb.ChunkShift); d.Store.Size() < end {
		return fmt.Errorf("%w: store device has %d bytes, its superblock says at least %d", block.ErrGeometry, d.Store.Size(), end)
	}
	for _, e := range sb.TreeExtents() {
		if end := int64(e.End()) * block.PageSize; d.MetaDevice().Size() < end {
			return fmt.Errorf("%w: metadata device has %d bytes, its superblock says at least %d", block.ErrGeometry, d.MetaDevice().Size(), end)
		}
	}
	label := device.Buffer(layout.LabelSize)
	if sb.Separate {
		if _, err := d.Store.ReadAt(label, 0); err != nil {
			return fmt.Errorf("reading the store device's label: %w", err)
		}
		if err := layout.CheckLabel(label, sb.UUID, layout.RoleData); err != nil {
			return fmt.Errorf("store device: %w", err)
		}
	}
	if sb.JournalSize == 0 {
		return nil
	}
	if d.Journal == nil {
		return fmt.Errorf("placement %v: %w", sb.Placement, placement.ErrNoJournal)
	}
	if _, err := d.Journal.ReadAt(label, 0); err != nil {
		return fmt.Errorf("reading the journal device's label: %w", err)
	}
	if err := layout.CheckLabel(label, sb.UUID, layout.RoleJournal); err != nil {
		return fmt.Errorf("journal device: %w", err)
	}
	return nil
}

// pager reads pages of the metadata area.
type pager struct{ device.Device }

// ReadPage reads one page.
func (p pager) ReadPage(page block.Page, buf []byte) error {
	_, err := p.ReadAt(buf, int64(page)*block.PageSize)
	return err
}

// openTrees makes the trees of the checkpoint, and what counts on them.
func (s *Store) openTrees() {
	p := pager{s.meta}
	s.cache = btree.NewCache(s.opts.CacheBytes)
	root := func(kind uint8) layout.Root { return s.sb.Roots[kind-1] }
	s.index = exception.Index{
		Exceptions: btree.Open(layout.ExceptionCodec{}, layout.KindExceptions, p, s.cache, s.sb.UUID, root(layout.KindExceptions)),
		Changes:    btree.Open(layout.ChangeCodec{}, layout.KindChanges, p, s.cache, s.sb.UUID, root(layout.KindChanges)),
	}
	slots := btree.Open(layout.SlotWordCodec{}, layout.KindSlots, p, s.cache, s.sb.UUID, root(layout.KindSlots))
	s.slots = alloc.NewSlots(slots, s.sb.Slots, s.sb.Allocated)
	s.snaps = newTable(btree.Open(layout.SnapshotCodec{}, layout.KindSnapshots, p, s.cache, s.sb.UUID, root(layout.KindSnapshots)))
	s.leases = btree.Open(layout.LeaseCodec{}, layout.KindLeases, p, s.cache, s.sb.UUID, root(layout.KindLeases))
	s.digests.tree = btree.Open(layout.DigestCodec{}, layout.KindDigests, p, s.cache, s.sb.UUID, root(layout.KindDigests))
	s.pages = alloc.NewPages(s.sb.TreeExtents()...)
	s.control = journal.New(journal.OnDevice{Device: s.meta}, int64(s.sb.Control.First)*block.PageSize,
		int64(s.sb.Control.Len)*block.PageSize, block.PageSize, s.sb.UUID)
}

// claimPages learns from the trees which pages are in use.
func (s *Store) claimPages() error {
	claim := func(p block.Page, _ bool) error { return s.pages.Claim(p) }
	for _, t := range s.trees() {
		if err := t.Pages(claim); err != nil {
			return fmt.Errorf("reading the trees: %w", err)
		}
	}
	return nil
}

// loadSnapshots reads the snapshot tree into memory.
func (s *Store) loadSnapshots() error {
	err := s.snaps.tree.Ascend(layout.Snapshot{}, func(e layout.Snapshot) bool {
		s.snaps.put(e)
		return true
	})
	if err != nil {
		return fmt.Errorf("reading the snapshot table: %w", err)
	}
	return nil
}

// recover replays what happened after the checkpoint and makes the result the
// next checkpoint, of a new epoch.
func (s *Store) recover() error {
	s.position, s.released = s.sb.LogPos, s.sb.LogPos
	clean := s.sb.Clean
	if !clean {
		if err := s.replay(); err != nil {
			return fmt.Errorf("recovering store %v: %w", s.sb.UUID, err)
		}
	}
	s.generation = s.sb.Generation
	if s.opts.Await && !clean && !s.opts.ReadOnly {
		s.awaiting.Store(true)
		return nil
	}
	s.nextEpoch()
	if clean || s.opts.ReadOnly {
		return nil // the next checkpoint, at the latest Attach's, is soon enough
	}
	s.changed = true
	return s.Checkpoint()
}

func (s *Store) replay() error {
	if err := s.releaseLeases(); err != nil {
		return err
	}
	if err := s.control.Replay(s.sb.Epoch, s.sb.ControlPos, s.replayControl); err != nil {
		return err
	}
	session := s.session(nil)
	session.Position = s.sb.LogPos
	log, err := placement.OpenLog(s.devs, session)
	if err != nil {
		return err
	}
	if err := log.Replay(s.sb.Epoch, s.sb.LogPos, s.replayBatch); err != nil {
		return err
	}
	return s.flushReplayed(s.sb.LogPos)
}

// flushReplayed makes durable what the batches from a position on lead to. The last of
// them may have been found in the cache of a device that has not lost power, and their
// records be forgotten with the next checkpoint.
func (s *Store) flushReplayed(from layout.Position) error {
	if s.opts.ReadOnly || s.devs.Meta == nil || s.nextSeq() == from.Seq {
		return nil // or the checkpoint does, on the same device
	}
	if err := s.devs.Store.Flush(); err != nil {
		return fmt.Errorf("flushing what the log has: %w", err)
	}
	return nil
}

// nextEpoch begins the epoch after the one that was recovered. The lock is held, or
// nobody else has the store.
func (s *Store) nextEpoch() {
	if !s.sb.Clean {
		s.position.Seq++ // a torn batch may have had the number: it is never used again
	}
	s.sb.Epoch++
	s.control.Reset(s.sb.Epoch, s.control.Position().Seq+1)
	s.position.Place = 0
}

// releaseLeases gives back the slots that were leased at the checkpoint.
func (s *Store) releaseLeases() error {
	var leases []layout.SlotRun
	err := s.leases.Ascend(layout.SlotRun{}, func(r layout.SlotRun) bool {
		leases = append(leases, r)
		return true
	})
	if err != nil {
		return fmt.Errorf("reading the leases: %w", err)
	}
	for _, r := range leases {
		if uint64(r.First)+r.Len > s.sb.Slots {
			return fmt.Errorf("%w: lease of slots %d+%d of %d", layout.ErrCorrupt, r.First, r.Len, s.sb.Slots)
		}
		if err := s.resolve(func() error { return s.slots.Release(r) }); err != nil {
			return err
		}
	}
	return nil
}

// replayControl takes in a record of a snapshot that was made, changed or deleted,
// or of chunks that were written to one.
func (s *Store) replayControl(h layout.RecordHeader, body []byte) error {
	if h.Kind == layout.RecordBatch {
		b, err := layout.DecodeBatch(body)
		if err != nil {
			return err
		}
		return s.replayBranch(b)
	}
	e, err := layout.DecodeSnapshotRecord(body)
	if err != nil {
		return err
	}
	s.sb.Generation = max(s.sb.Generation, e.Generation)
	return s.resolve(func() error { return s.snaps.store(e) })
}

// replayBatch takes in a batch that was durable but may not have been reported.
func (s *Store) replayBatch(r placement.Replayed) error {
	if err := s.checkBatch(r.Batch); err != nil {
		return err
	}
	var heads []layout.SlotRun
	if s.sb.Placement == layout.PlacementInline {
		heads = []layout.SlotRun{{First: r.Head, Len: 1}}
	}
	for _, run := range append(slotRuns(r.Batch.Copies), heads...) {
		if err := s.resolve(func() error { return s.claim(run) }); err != nil {
			return err
		}
	}
	if err := s.insert(r.Batch); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads = append(s.heads, heads...)
	s.position, s.changed = r.After, true
	return nil
}

// claim takes slots that a batch of the log was written to: leased ones if its
// client is attached, else such as are free since recovery gave the leases back.
func (s *Store) claim(run layout.SlotRun) error {
	if s.client == nil {
		return s.slots.Claim(run)
	}
	if !covers(s.slots.Leases(), run) {
		return fmt.Errorf("%w: batch in slots %d+%d, which are not leased", layout.ErrCorrupt, run.First, run.Len)
	}
	s.slots.Use(run)
	return nil
}

// checkBatch reports a batch that cannot be this store's.
func (s *Store) checkBatch(b *layout.Batch) error {
	s.mu.Lock()
	current, chunks, slots := s.sb.Generation, s.geometry().Chunks(), s.sb.Slots
	s.mu.Unlock()
	for _, c := range b.Copies {
		if c.Slot == layout.LostSlot && c.Sum == 0 && uint64(c.Chunk) < chunks {
			continue
		}
		if uint64(c.Chunk) >= chunks || uint64(c.Slot) >= slots {
			return fmt.Errorf("%w: batch copies chunk %d to slot %d", layout.ErrCorrupt, c.Chunk, c.Slot)
		}
	}
	if b.Generation > current || b.Branch != 0 {
		return fmt.Errorf("%w: batch of branch %d, generation %d of %d", layout.ErrCorrupt, b.Branch, b.Generation, current)
	}
	return nil
}

// slotRuns returns the slots of copies as runs; what is lost has none.
func slotRuns(copies []layout.Copy) []layout.SlotRun {
	var runs []layout.SlotRun
	for _, c := range copies {
		if c.Slot == layout.LostSlot {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].First+block.Slot(runs[n-1].Len) == c.Slot {
			runs[n-1].Len++
			continue
		}
		runs = append(runs, layout.SlotRun{First: c.Slot, Len: 1})
	}
	return slices.Clip(runs)
}
