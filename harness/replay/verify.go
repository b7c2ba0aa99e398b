// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/volume"
)

// Options are what a log is of.
type Options struct {
	// Origin and Store are sizes: the logged device is the origin with the store
	// behind it. Of the origin, the load was on the first Loaded bytes.
	Origin, Store, Loaded int64
	// Promise returns what a snapshot is to hold. A mark "made-N" says that snapshot N
	// is there from now on, and a mark "delete-N" that it may be gone.
	Promise func(tag block.Tag) (pattern.Bounds, error)
	// Points is how many points are looked at, chosen at random by Seed; 0: all.
	Points int
	Seed   uint64
}

// Report is what was done.
type Report struct {
	Entries, Points, Snapshots int // of the log; looked at; snapshots compared
}

// run is a log that is played.
type run struct {
	Options
	log           *Log
	rng           *rand.Rand
	origin, store *memdev.Device
	made          map[block.Tag]bool
	held          map[block.Tag][]byte // what a snapshot was found to hold
	report        Report
}

// Verify plays the log, and checks at points where a flush or a write by FUA had ended
// what a power cut would have left: there, and with some of the sectors that were
// written next. Before the first mark there is nothing to check.
func Verify(l *Log, o Options) (Report, error) {
	r := &run{
		Options: o, log: l, rng: rand.New(rand.NewPCG(o.Seed, 7)),
		origin: memdev.New(o.Origin), store: memdev.New(o.Store),
		made: map[block.Tag]bool{}, held: map[block.Tag][]byte{}, report: Report{Entries: len(l.Entries)},
	}
	points, begun := r.choose(), false
	for i, e := range l.Entries {
		if e.Flags&Mark != 0 {
			begun = true
			if err := r.mark(e.Text); err != nil {
				return r.report, fmt.Errorf("entry %d: %w", i, err)
			}
		}
		if err := r.play(r.origin, r.store, e, 1); err != nil {
			return r.report, fmt.Errorf("playing entry %d: %w", i, err)
		}
		if !begun || !points[i] {
			continue
		}
		if err := r.cut(i); err != nil {
			return r.report, fmt.Errorf("a power cut after entry %d of %d: %w", i, len(l.Entries), err)
		}
	}
	return r.report, nil
}

// choose returns the points to look at, with the last of all.
func (r *run) choose() map[int]bool {
	var all []int
	for i, e := range r.log.Entries {
		if e.durable() {
			all = append(all, i)
		}
	}
	chosen := map[int]bool{}
	if len(all) == 0 {
		return chosen
	}
	last := all[len(all)-1]
	r.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if r.Points > 0 {
		all = all[:min(len(all), r.Points)]
	}
	for _, i := range append(all, last) {
		chosen[i] = true
	}
	return chosen
}

// mark does what a mark says.
func (r *run) mark(text string) error {
	verb, number, _ := strings.Cut(text, "-")
	n, err := strconv.ParseUint(number, 10, 32)
	switch {
	case verb == "made" && err == nil:
		r.made[block.Tag(n)] = true
	case verb == "delete" && err == nil:
		delete(r.made, block.Tag(n))
	case verb == "made" || verb == "delete":
		return fmt.Errorf("mark %q: %w", text, err)
	}
	return nil
}

// play does an entry, each sector of it with a probability.
func (r *run) play(origin, store *memdev.Device, e Entry, probability float64) error {
	if e.Len == 0 || e.Flags&Mark != 0 {
		return nil
	}
	to, off := origin, e.Off
	if off >= r.Origin {
		to, off = store, off-r.Origin
	}
	p, err := r.log.data(e)
	if err != nil || probability == 1 {
		return errors.Join(err, write(to, p, off))
	}
	for ; len(p) > 0; p, off = p[block.SectorSize:], off+block.SectorSize {
		if r.rng.Float64() < probability {
			if err := write(to, p[:block.SectorSize], off); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(to *memdev.Device, p []byte, off int64) error {
	_, err := to.WriteAt(p, off)
	return err
}

// cut checks what a power cut after entry i would have left: nothing of what follows,
// and then any sectors of all up to the next that is durable.
func (r *run) cut(i int) error {
	r.report.Points++
	if err := r.recover(r.origin.Clone(), r.store.Clone()); err != nil {
		return err
	}
	origin, store := r.origin.Clone(), r.store.Clone()
	probability := r.rng.Float64()
	for _, e := range r.log.Entries[i+1:] {
		if e.Flags&Mark != 0 {
			break // what it says is not so yet
		}
		if err := r.play(origin, store, e, min(probability, 0.999)); err != nil {
			return err
		}
		if e.durable() {
			break
		}
	}
	if err := r.recover(origin, store); err != nil {
		return fmt.Errorf("with some of the next sectors: %w", err)
	}
	return nil
}

// recover checks the store, recovers it, and compares its snapshots.
func (r *run) recover(origin, store *memdev.Device) error {
	for v := range check.Check(check.Devices{Store: store}, check.Options{Data: true}) {
		if v.Severity > check.Note {
			return fmt.Errorf("check: %v", v)
		}
	}
	devs := placement.Devices{Store: store}
	srv, err := server.Open(devs, server.Options{Manual: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("recovering the store: %w", err)
	}
	defer srv.Close()
	vol, err := volume.OpenOrigin(srv, origin, devs, volume.Options{Manual: true})
	if err != nil {
		return fmt.Errorf("opening the origin: %w", err)
	}
	defer vol.Close()
	src := volume.SnapshotSource{Server: srv, Origin: origin, Store: devs, ChunkSize: srv.Geometry().ChunkSize(), DataOffset: srv.DataOffset()}
	for tag := range r.made {
		if err := r.compare(src, tag); err != nil {
			return fmt.Errorf("snapshot %d: %w", tag, err)
		}
		r.report.Snapshots++
	}
	return nil
}

// compare checks that a snapshot is what was promised, and then always the same.
func (r *run) compare(src volume.SnapshotSource, tag block.Tag) error {
	snap, err := volume.OpenSnapshot(src, tag)
	if err != nil {
		return err
	}
	defer snap.Close()
	now := device.Buffer(int(r.Loaded))
	if _, err := snap.ReadAt(now, 0); err != nil {
		return err
	}
	before, ok := r.held[tag]
	if !ok {
		promise, err := r.Promise(tag)
		if err != nil {
			return err
		}
		if _, err := promise.Check(bytes.NewReader(now)); err != nil {
			return err
		}
		r.held[tag] = now
		return nil
	}
	for at := 0; at < len(now); at += block.SectorSize {
		if !bytes.Equal(now[at:at+block.SectorSize], before[at:at+block.SectorSize]) {
			return fmt.Errorf("%w at %d: it was something else before", pattern.ErrWrong, at)
		}
	}
	return nil
}
