// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Errors of what is to be sent.
var (
	// ErrBase is wrapped when sender and receiver have no base in common.
	ErrBase = errors.New("the copy's newest snapshot is not one that leads there")
	// ErrOther is wrapped when the receiver has another delta half applied.
	ErrOther = errors.New("the copy has another delta half applied")
)

// Delta is what leads from one snapshot to another. Its extents are in memory.
type Delta struct {
	Source  delta.Source
	Options delta.EncodeOptions
}

// Offer is a snapshot that is sent.
type Offer struct {
	To   Copy
	Size int64 // of the volume, bytes
	// Open returns what leads to the snapshot from the base, or from nothing if it is nil.
	// The error wraps ErrBase if nothing does. Both snapshots are to be kept until the
	// last session has ended; sessions do not use it concurrently.
	Open func(ctx context.Context, base *Copy) (*Delta, error)
}

// SendOptions say how it is sent. The zero value is valid.
type SendOptions struct {
	Idle     time.Duration  // see DefaultIdle
	Limiter  *Limiter       // nil: as fast as it goes
	Progress func(Progress) // told by several goroutines, one at a time; may be nil
}

// Progress is how far a session is.
type Progress struct {
	Done  int64 // bytes of changed content that the receiver has, those from before included
	Total int64
	Start int64 // of Done, those from before
	Sent  int64 // bytes that this session has put on the connection for it
}

// Sent says what a session did.
type Sent struct {
	There   bool  // nothing was to be done
	Base    *Copy // nil: all was sent
	Start   int64 // offset from which on this session sent
	Summary delta.Summary
}

// Send has the receiver at the other end of a connection make the snapshot, and returns
// when that is there for good. It closes the connection. The error wraps
// [ErrConnection] if another session may go on where this one was; a [*Refusal] says
// why the receiver does not want to.
func Send(ctx context.Context, conn io.ReadWriteCloser, o Offer, opts SendOptions) (Sent, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLink(ctx, conn, opts.Idle)
	s := &sending{link: l, offer: o, opts: opts, answers: make(chan answer, 1), cancel: cancel}
	sent, err := s.run(ctx)
	l.close()
	s.reading.Wait()
	return sent, err
}

// sending is one session of a sender.
type sending struct {
	link    *link
	offer   Offer
	opts    SendOptions
	answers chan answer
	reading sync.WaitGroup
	cancel  context.CancelCauseFunc

	mu       sync.Mutex // guards what follows, and calls of Progress
	progress *coverage  // nil until something is sent
	now      Progress
}

// answer is what the receiver answered, once.
type answer struct {
	kind    kind
	payload []byte
}

func (s *sending) run(ctx context.Context) (sent Sent, err error) {
	st, err := s.propose(ctx, proposal{To: s.offer.To, Size: s.offer.Size})
	if err != nil || st.There {
		sent.There = st.There
		return sent, err
	}
	sent.Base = st.Newest
	err = s.send(ctx, st, &sent)
	if err == nil {
		_, err = s.ask(ctx, kindDone)
	}
	if err == nil {
		s.acknowledged(math.MaxInt64)
	}
	return sent, s.giveUp(err)
}

// propose begins a session, and returns the receiver's standing.
func (s *sending) propose(ctx context.Context, to proposal) (st standing, err error) {
	mine := hello{minVersion, maxVersion, roleSender, s.link.idle}
	if err := s.link.write(kindHello, mine.encode()); err != nil {
		return st, err
	}
	s.reading.Go(s.read)
	p, err := s.ask(ctx, kindHello)
	if err != nil {
		return st, err
	}
	theirs, err := decodeHello(p)
	if err == nil {
		err = mine.meets(theirs)
	}
	if err != nil {
		return st, s.giveUp(err)
	}
	s.link.keepAlive(theirs.idle)
	if err := s.link.write(kindPropose, encodeJSON(to)); err != nil {
		return st, err
	}
	if p, err = s.ask(ctx, kindStanding); err != nil {
		return st, err
	}
	return decodeJSON[standing](p)
}

// read takes what the receiver sends, until the link ends. It never waits for the
// sender, so that the receiver does not wait for it either.
func (s *sending) read() {
	for {
		k, p, err := s.link.read()
		if err != nil {
			s.cancel(err)
			return
		}
		switch k {
		case kindAck:
			s.acknowledged(decodeAck(p).applied)
			continue
		case kindRefuse:
			s.cancel(s.link.fail(decodeRefusal(p)))
			return
		case kindHello, kindStanding, kindHad, kindDone, kindSums, kindEqual:
			select {
			case s.answers <- answer{k, append([]byte(nil), p...)}:
				continue
			default:
			}
		}
		s.cancel(s.link.fail(fmt.Errorf("%w: a %v frame", ErrProtocol, k)))
		return
	}
}

// ask waits for an answer.
func (s *sending) ask(ctx context.Context, want kind) ([]byte, error) {
	var a answer
	select {
	case a = <-s.answers:
	case <-ctx.Done():
		select { // what came before the end counts
		case a = <-s.answers:
		default:
			return nil, context.Cause(ctx)
		}
	}
	if a.kind != want {
		return nil, s.link.fail(fmt.Errorf("%w: a %v frame where it was to be %v", ErrProtocol, a.kind, want))
	}
	return a.payload, nil
}

// giveUp says to the receiver that the session ends with an error, if that is not known.
func (s *sending) giveUp(err error) error {
	if err != nil && s.link.failed.Load() == nil {
		_ = s.link.write(kindRefuse, refusal(CodeError, err)) // the error is the one that counts
	}
	return err
}

// send sends what the receiver has not got.
func (s *sending) send(ctx context.Context, st standing, sent *Sent) error {
	if st.Size != s.offer.Size {
		return fmt.Errorf("%w: the copy has %d bytes, and the snapshot %d: resize the copy's origin first", store.ErrSize, st.Size, s.offer.Size)
	}
	d, err := s.offer.Open(ctx, st.Newest)
	if err != nil {
		return err
	}
	o := d.Options
	id := layout.UUID(o.Header.ID()).String()
	if st.Applying != "" && st.Applying != id {
		return fmt.Errorf("%w to %v: send that one first, or have it abandoned", ErrOther, *st.Newest)
	}
	from := int64(0)
	if r := st.Resume; r.Delta == id && r.Offset > 0 && r.Offset < s.offer.Size && r.Offset%int64(o.ChunkSize) == 0 {
		from = r.Offset
	}
	if o.Start, err = s.prove(ctx, &d.Source, o.ChunkSize, from); err != nil {
		return err
	}
	sent.Start = o.Start
	o.QuickSums = true // who is at either end is known, and the receiver applies it as it comes
	if err := s.link.write(kindStart, binary.LittleEndian.AppendUint64(nil, uint64(o.Start))); err != nil {
		return err
	}
	s.begin(d.Source.Extents, o.Start)
	sent.Summary, err = delta.Encode(ctx, stream{ctx, s}, d.Source, o)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return err
}

// stream is what the delta is written to.
type stream struct {
	ctx context.Context
	s   *sending
}

// Write sends p in frames.
func (w stream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(n+MaxFrame, len(p))]
		if err := w.s.opts.Limiter.Wait(w.ctx, len(part)); err != nil {
			return n, err
		}
		if err := w.s.link.write(kindData, part); err != nil {
			return n, err
		}
		n += len(part)
		w.s.mu.Lock()
		w.s.now.Sent += int64(len(part))
		w.s.tell()
		w.s.mu.Unlock()
	}
	return n, nil
}

// begin says from where on is sent.
func (s *sending) begin(extents []delta.Extent, start int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = &coverage{extents: extents}
	for _, x := range extents {
		s.now.Total += x.Length
	}
	s.now.Start = s.progress.below(start)
	s.now.Done = s.now.Start
	s.tell()
}

// acknowledged takes in how far the receiver is.
func (s *sending) acknowledged(applied int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.progress == nil {
		return
	}
	s.now.Done = max(s.now.Done, s.progress.below(applied))
	s.tell()
}

// tell tells the progress. The lock is held.
func (s *sending) tell() {
	if s.opts.Progress != nil {
		s.opts.Progress(s.now)
	}
}

// coverage counts bytes of extents below offsets that ascend.
type coverage struct {
	extents []delta.Extent
	before  int64 // bytes of the extents that were passed
}

func (c *coverage) below(off int64) int64 {
	for len(c.extents) > 0 && c.extents[0].Offset+c.extents[0].Length <= off {
		c.before += c.extents[0].Length
		c.extents = c.extents[1:]
	}
	if len(c.extents) == 0 || off <= c.extents[0].Offset {
		return c.before
	}
	return c.before + off - c.extents[0].Offset
}
