// SPDX-License-Identifier: Apache-2.0

package cuttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/volume"
)

// The volumes' sizes, in bytes.
const (
	volumeSize = 1 << 20
	chunkSize  = 4096
	extentSize = 16 << 10
)

func newRig() (*rig.Rig, error) {
	return rig.New(rig.Options{
		OriginSize: volumeSize, StoreSize: 16 << 20, ChunkSize: chunkSize, Placement: layout.PlacementInline, CacheBytes: 1 << 20, AheadBytes: -1,
	}, rig.Wrappers{})
}

// source is the sender's machine.
type source struct {
	rig     *rig.Rig
	writing sync.Mutex // held by who writes to the origin
}

func newSource() (*source, error) {
	r, err := newRig()
	return &source{rig: r}, err
}

func (s *source) close() { s.rig.Abandon() }

// write overwrites some sectors; some with zeroes, or what others hold.
func (s *source) write(rng *rand.Rand, times int) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for range times {
		p := make([]byte, block.SectorSize*(1+rng.IntN(12)))
		switch rng.IntN(4) {
		case 0:
		case 1:
			if _, err := s.rig.Volume.ReadAt(p, 0); err != nil {
				return err
			}
		default:
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
		}
		off := rng.IntN((volumeSize-len(p))/block.SectorSize) * block.SectorSize
		if _, err := s.rig.Volume.WriteAt(p, int64(off)); err != nil {
			return err
		}
	}
	return nil
}

// snapshot writes, makes a snapshot, and returns what the origin held then.
func (s *source) snapshot(rng *rand.Rand, tag block.Tag) ([]byte, error) {
	if err := s.write(rng, 60); err != nil {
		return nil, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, err := s.rig.Server.CreateSnapshot(tag); err != nil {
		return nil, err
	}
	return s.rig.ReadOrigin()
}

// loadPause leaves the machine that the test runs on some time.
const loadPause = 200 * time.Microsecond

// load writes to the origin until stop.
func (s *source) load(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 1))
		for ctx.Err() == nil && s.write(rng, 1) == nil { // what it cannot write is missed by nobody
			time.Sleep(loadPause)
		}
	})
	return func() {
		cancel()
		writer.Wait()
	}
}

// forget deletes a snapshot.
func (s *source) forget(tag block.Tag) error {
	if tag == 0 {
		return nil
	}
	if err := s.rig.Server.DeleteSnapshot(tag); err != nil {
		return err
	}
	return s.rig.Maintain()
}

// offer offers a snapshot. What it opens is closed by done.
func (s *source) offer(tag block.Tag) (o replicate.Offer, done func()) {
	var opened []io.Closer
	open := func(tag block.Tag) (*volume.Snapshot, error) {
		v, err := volume.OpenSnapshot(s.rig.Source(), tag)
		if err == nil {
			opened = append(opened, v)
		}
		return v, err
	}
	end := func(tag block.Tag) delta.End {
		return delta.End{Identity: delta.Identity{Store: idOf(tag), Generation: 1}, Tag: tag, Size: volumeSize}
	}
	o = replicate.Offer{To: nameOf(tag), Size: volumeSize, Open: func(ctx context.Context, base *replicate.Copy) (*replicate.Delta, error) {
		d := &replicate.Delta{Options: delta.EncodeOptions{
			Header:  delta.Header{ChunkSize: chunkSize, Extent: extentSize, Codecs: []codec.ID{codec.Raw, codec.Zstd}, To: end(tag)},
			Workers: 2, Memory: 1, Join: chunkSize,
			Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.Zstd, codec.Options{Extent: extentSize}) },
		}}
		target, err := open(tag)
		if err != nil {
			return nil, err
		}
		d.Source.Target = target
		q := admin.ChangeQuery{To: &admin.Ref{Tag: tag}}
		if base != nil {
			from := end(base.Tag)
			d.Options.From, q.From = &from, &admin.Ref{Tag: base.Tag}
			if d.Source.Base, err = open(base.Tag); err != nil {
				return nil, err
			}
		}
		r, err := admin.Local{Store: s.rig.Server}.Do(ctx, admin.Request{Verb: admin.VerbChanges, Changes: &q})
		if err != nil {
			return nil, err
		}
		if r.Changes.Next > q.First {
			return nil, errors.New("more changed than one answer has")
		}
		for _, x := range r.Changes.Runs {
			d.Source.Extents = append(d.Source.Extents, delta.Extent{Offset: int64(x[0]) * chunkSize, Length: int64(x[1]) * chunkSize})
		}
		return d, nil
	}}
	return o, func() {
		for _, c := range opened {
			_ = c.Close() // it was read from only
		}
	}
}

// idOf is the identity of a snapshot's state: all of them have generation 1 of a store of
// their own.
func idOf(tag block.Tag) [16]byte { return [16]byte{0xc0, byte(tag >> 8), byte(tag)} }

func nameOf(tag block.Tag) replicate.Copy {
	return replicate.Copy{Store: layout.UUID(idOf(tag)).String(), Generation: 1, Tag: tag}
}

// copied is the receiver's machine.
type copied struct {
	rig      *rig.Rig
	receiver *replicate.Receiver
	dead     *atomic.Bool // killed: what it does after is not seen
	written  func(end int64)
}

func newCopy() (*copied, error) {
	r, err := newRig()
	if err != nil {
		return nil, err
	}
	return started(r), nil
}

// started is a receiver that runs on a machine, without memory.
func started(r *rig.Rig) *copied {
	c := &copied{rig: r, dead: new(atomic.Bool)}
	c.receiver = &replicate.Receiver{Full: true, Open: func(context.Context) (replica.Volume, func() error, error) {
		return replica.Volume{
			Manager: admin.Local{Store: r.Server}, Origin: seen{replica.OnDevice(r.Volume), c},
			Open: func(s admin.Snapshot) (delta.Content, io.Closer, error) {
				v, err := volume.OpenSnapshot(r.Source(), s.Tag)
				return v, v, err
			},
		}, func() error { return nil }, nil
	}}
	return c
}

// seen notes which records were written whole.
type seen struct {
	delta.Receiver
	c *copied
}

// WriteAt implements delta.Receiver.
func (s seen) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.Receiver.WriteAt(p, off)
	if err == nil && !s.c.dead.Load() {
		s.c.written(off + int64(n))
	}
	return n, err
}

// Zero implements delta.Receiver.
func (s seen) Zero(off, n int64) error {
	err := s.Receiver.Zero(off, n)
	if err == nil && !s.c.dead.Load() {
		s.c.written(off + n)
	}
	return err
}

// forget deletes a snapshot.
func (c *copied) forget(tag block.Tag) error {
	if err := c.rig.Server.DeleteSnapshot(tag); err != nil {
		return err
	}
	return c.rig.Maintain()
}

// state is all that a copy holds.
type state struct {
	snapshots map[block.Tag][]byte
	newest    block.Tag // zero: none
	applying  bool      // the origin is between two snapshots
	origin    []byte
}

func (c *copied) state() (st state, err error) {
	st.snapshots = make(map[block.Tag][]byte)
	r, err := admin.Local{Store: c.rig.Server}.Do(context.Background(), admin.Request{Verb: admin.VerbList})
	if err != nil {
		return st, err
	}
	for _, s := range r.List {
		if st.snapshots[s.Tag], err = c.rig.ReadSnapshot(s.Tag, 0, volumeSize); err != nil {
			return st, fmt.Errorf("reading snapshot %d of the copy: %w", s.Tag, err)
		}
		st.newest, st.applying = max(st.newest, s.Tag), s.Applying != ""
	}
	st.origin, err = c.rig.ReadOrigin()
	return st, err
}
