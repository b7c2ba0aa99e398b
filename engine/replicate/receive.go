// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/store"
)

// Errors of a receiver.
var (
	// ErrBusy is returned when another session is receiving.
	ErrBusy = errors.New("the copy is receiving already")
	// ErrFull is returned when all of a volume would be received, which was not allowed.
	ErrFull = errors.New("what the origin of the copy holds would be lost")
)

// Receiver is a volume that takes snapshots of another one. It is used by any number of
// sessions, of which one at a time receives.
type Receiver struct {
	// Open opens the volume for a session, which closes it.
	Open func(ctx context.Context) (replica.Volume, func() error, error)
	Full bool          // a volume without snapshots takes all of one, over what it holds
	Idle time.Duration // see DefaultIdle
	// FlushEvery is how often what was received is made durable, and noted to be; zero: 5 seconds.
	FlushEvery time.Duration
	// Away reports whether an error of Open, or of the volume, says that the server which has
	// the volume is away: then it may be tried again. It may be nil.
	Away func(error) bool
	// Progress is told how far a session is, as offsets in the volume; it may be nil.
	Progress func(done, total int64)

	receiving sync.Mutex
	known     resume // what the store does not say about that; guarded by receiving
}

// How often what was received is made durable, and said to be there.
const (
	flushEvery = 5 * time.Second
	ackEvery   = 100 * time.Millisecond
)

// Received says what a session did.
type Received struct {
	Snapshot Copy  // that was proposed
	There    bool  // before
	Verified bool  // it was compared, and nothing is received
	Repaired int64 // bytes of it that were put right
	Start    int64
	Applied  int64 // up to which offset; all of it is durable if there is no error
	Summary  delta.Summary
}

// Serve has the sender at the other end of a connection make a snapshot, and returns
// when that is there for good and the sender knows. It closes the connection. After an
// error the volume is as it was, or is half the newer snapshot and says so: the same
// sender may go on in another session.
func (r *Receiver) Serve(ctx context.Context, conn io.ReadWriteCloser) (Received, error) {
	l := newLink(ctx, conn, r.Idle)
	l.strict = true
	defer l.close()
	s := &receiving{receiver: r, link: l}
	err := s.run(ctx)
	if err != nil && l.failed.Load() == nil {
		_ = l.write(kindRefuse, refusal(r.codeOf(err), err)) // the error is the one that counts
	}
	l.linger()
	return s.result, err
}

// codeOf returns the code of the refusal that an error is.
func (r *Receiver) codeOf(err error) string {
	if r.Away != nil && r.Away(err) {
		return CodeAway
	}
	for _, c := range []struct {
		is   error
		code string
	}{{ErrBusy, CodeBusy}, {ErrVersion, CodeVersion}, {ErrFull, CodeFull}, {delta.ErrBase, CodeBase}, {store.ErrNoSnapshot, CodeAbsent}} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return CodeError
}

// receiving is one session of a receiver.
type receiving struct {
	receiver *Receiver
	link     *link
	volume   replica.Volume
	base     *replica.Copy // nil: all of a volume is received
	delta    string        // that is applied; empty: none yet
	size     int64
	result   Received
	proven   int64 // up to where the sender may begin
	durable  int64
	flushed  time.Time
	acked    time.Time
}

func (s *receiving) run(ctx context.Context) (err error) {
	to, err := s.greet()
	if err != nil {
		return err
	}
	if !s.receiver.receiving.TryLock() {
		return ErrBusy
	}
	defer s.receiver.receiving.Unlock()
	v, done, err := s.receiver.Open(ctx)
	if err != nil {
		return fmt.Errorf("opening the copy: %w", err)
	}
	defer func() { err = errors.Join(err, done()) }()
	s.volume = v
	if to.Verify != "" {
		s.result.Verified = true
		return s.compare(ctx, to)
	}
	st, err := s.standing(ctx, to)
	if err != nil {
		return err
	}
	if err := s.link.write(kindStanding, encodeJSON(st)); err != nil || st.There {
		return err
	}
	if err := s.prove(); err != nil {
		return err
	}
	if err := s.apply(ctx); err != nil {
		return err
	}
	return s.link.write(kindDone, encodeJSON(doneWith{to.To.Tag}))
}

// greet begins a session, and returns what the sender has.
func (s *receiving) greet() (to proposal, err error) {
	p, err := s.expect(kindHello)
	if err != nil {
		return to, err
	}
	theirs, err := decodeHello(p)
	if err != nil {
		return to, s.link.fail(err)
	}
	mine := hello{minVersion, maxVersion, roleReceiver, s.link.idle}
	if err := s.link.write(kindHello, mine.encode()); err != nil {
		return to, err
	}
	if err := mine.meets(theirs); err != nil {
		return to, err
	}
	s.link.keepAlive(theirs.idle)
	if p, err = s.expect(kindPropose); err != nil {
		return to, err
	}
	if to, err = decodeJSON[proposal](p); err != nil {
		return to, err
	}
	s.result.Snapshot = to.To
	return to, nil
}

// expect reads a frame of one kind.
func (s *receiving) expect(want kind) ([]byte, error) {
	k, p, err := s.link.read()
	switch {
	case err != nil:
		return nil, err
	case k == kindRefuse:
		return nil, s.link.fail(decodeRefusal(p))
	case k != want:
		return nil, fmt.Errorf("%w: a %v frame where it was to be %v", ErrProtocol, k, want)
	}
	return p, nil
}

// standing finds out how far the volume is.
func (s *receiving) standing(ctx context.Context, to proposal) (st standing, err error) {
	is, err := s.volume.Standing(ctx, admin.Source{Store: to.To.Store, Generation: to.To.Generation})
	if err != nil {
		return st, err
	}
	s.size, s.base, s.result.There = is.Size, is.Newest, is.There
	if is.Newest != nil && is.Applying != s.receiver.known.Delta {
		s.receiver.known = resume{} // it was given up, or done by somebody else
	}
	st = standing{Size: is.Size, There: is.There, Applying: is.Applying, Resume: s.receiver.known}
	if is.Applied > 0 {
		st.Resume = resume{is.Applying, is.Applied}
	}
	if is.Newest != nil {
		st.Newest = &Copy{is.Newest.Store, is.Newest.Generation, is.Newest.Tag, is.Newest.Name}
	}
	if is.Newest == nil && !is.There && !s.receiver.Full {
		return st, ErrFull
	}
	return st, nil
}

// prove answers what the volume has, until the sender knows from where on to send.
func (s *receiving) prove() error {
	buf := make([]byte, pieceSize)
	for {
		k, p, err := s.link.read()
		if err != nil {
			return err
		}
		switch k {
		case kindStart:
			start := int64(binary.LittleEndian.Uint64(p))
			if start < 0 || start > s.proven {
				return fmt.Errorf("%w: it begins at offset %d, and %d was proven", ErrProtocol, start, s.proven)
			}
			s.result.Start, s.result.Applied = start, start
			return nil
		case kindRefuse:
			return s.link.fail(decodeRefusal(p))
		case kindProbe:
			n, err := s.has(p, buf)
			if err != nil {
				return err
			}
			if err := s.link.write(kindHad, binary.LittleEndian.AppendUint32(nil, n)); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: a %v frame before the delta", ErrProtocol, k)
		}
	}
}

// has returns how many pieces of a frame, from the first one on, the origin has.
func (s *receiving) has(frame, buf []byte) (n uint32, err error) {
	list, err := decodeProbes(frame, s.size)
	if err != nil {
		return 0, err
	}
	for _, b := range list {
		p := buf[:b.Length]
		if got, err := s.volume.Origin.ReadAt(p, b.Offset); got < len(p) {
			return 0, fmt.Errorf("reading %d bytes at offset %d of the origin: %w", len(p), b.Offset, err)
		}
		if delta.SumOf(p) != b.sum {
			return n, nil
		}
		n++
		s.proven = max(s.proven, b.Offset+b.Length)
	}
	return n, nil
}

// apply applies the delta, or its rest.
func (s *receiving) apply(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.flushed, s.acked, s.durable = time.Now(), time.Now(), s.result.Start
	o := replica.Options{
		ApplyOptions: delta.ApplyOptions{Progress: s.receiver.Progress, Wrote: func(applied int64) error { return s.wrote(ctx, applied) }},
		Start:        s.result.Start,
		Admit: func(h delta.Header) error {
			s.delta = layout.UUID(h.ID()).String()
			return s.admit(h)
		},
	}
	res, err := replica.Apply(ctx, &data{link: s.link}, s.volume, o)
	s.result.Summary = res.Summary
	if err == nil {
		s.receiver.known = resume{}
		return nil
	}
	if s.result.Applied > s.result.Start && s.volume.Origin.Flush() == nil {
		s.note(ctx, s.result.Applied)
	} else if s.delta != "" && s.base == nil {
		s.receiver.known = resume{s.delta, s.durable}
	}
	if failed := s.link.failed.Load(); failed != nil {
		err = *failed // what it led to says less
	}
	return err
}

// admit returns an error unless the delta is the one that was proposed.
func (s *receiving) admit(h delta.Header) error {
	if to := s.result.Snapshot; layout.UUID(h.To.Store).String() != to.Store || h.To.Generation != to.Generation {
		return fmt.Errorf("%w: the delta makes generation %d of store %v, and %v was proposed", ErrProtocol, h.To.Generation, layout.UUID(h.To.Store), to)
	}
	if h.From == nil && !s.receiver.Full {
		return ErrFull
	}
	return nil
}

// wrote takes in that a record was written.
func (s *receiving) wrote(ctx context.Context, applied int64) error {
	s.result.Applied = applied
	now := time.Now()
	if now.Sub(s.flushed) >= cmp.Or(s.receiver.FlushEvery, flushEvery) {
		if err := s.volume.Origin.Flush(); err != nil {
			return fmt.Errorf("flushing what was received: %w", err)
		}
		s.note(ctx, applied)
		s.flushed = time.Now()
	} else if now.Sub(s.acked) < ackEvery {
		return nil
	}
	s.acked = now
	return s.link.write(kindAck, ack{applied, s.durable}.encode())
}

// note takes in that all is durable up to an offset. The store keeps that with its note of
// the delta, so that who is killed knows it again, and what ends the one ends the other. A
// server that cannot, or is away, costs but sums: then it is in memory.
func (s *receiving) note(ctx context.Context, durable int64) {
	s.durable = durable
	s.receiver.known = resume{s.delta, durable}
	if s.base == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.link.idle) // also of one that was cut
	defer cancel()
	if s.volume.Applied(ctx, s.base.Tag, s.delta, durable) == nil {
		s.receiver.known = resume{}
	}
}

// doneWith is what the receiver has in the end.
type doneWith struct {
	Tag block.Tag `json:"tag"`
}

// data reads the delta from its frames.
type data struct {
	link *link
	rest []byte
}

// Read implements io.Reader.
func (d *data) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(d.rest) == 0 {
		k, payload, err := d.link.read()
		switch {
		case err != nil:
			return 0, err
		case k == kindRefuse:
			return 0, d.link.fail(decodeRefusal(payload))
		case k != kindData:
			return 0, fmt.Errorf("%w: a %v frame within the delta", ErrProtocol, k)
		}
		d.rest = payload
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
