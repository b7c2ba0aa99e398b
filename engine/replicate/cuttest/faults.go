// SPDX-License-Identifier: Apache-2.0

package cuttest

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/replicate/pin"
)

// faultKind is what goes wrong in a session.
type faultKind uint8

const (
	nothing faultKind = iota
	cut               // of the connection
	killSender
	killReceiver
	cutPower // of the receiver
	faultKinds
)

// fault is what goes wrong, and when.
type fault struct {
	kind  faultKind
	after int64 // bytes on the connection, or accesses of the receiver's devices
}

// fault draws one.
func (r *run) fault() fault {
	f := fault{kind: faultKind(r.rng.IntN(int(faultKinds)))}
	if r.out.Faults() >= r.faults {
		f.kind = nothing
	}
	f.after = r.rng.Int64N(120_000)
	if r.rng.IntN(4) == 0 {
		f.after = r.rng.Int64N(4_000)
	}
	if f.kind == killReceiver || f.kind == cutPower {
		f.after = r.rng.Int64N(400)
	}
	return f
}

// session has one session with a fault, and reports whether the sender knows that the
// snapshot has arrived.
func (r *run) session(ctx context.Context, tag block.Tag, f fault) (arrived bool, err error) {
	client, server, err := connect()
	if err != nil {
		return false, err
	}
	var happened atomic.Bool
	wire := &frayed{Conn: client, reset: f.kind == cut, happened: &happened}
	wire.left.Store(1 << 60)
	if f.kind == cut || f.kind == killSender {
		wire.left.Store(f.after)
	}
	left := r.arm(f, client, &happened)
	var records []int64
	r.to.written = func(end int64) { records = append(records, end) }
	var got replicate.Received
	var gotErr error
	var all sync.WaitGroup
	all.Go(func() {
		c, _, err := r.keys.to.Server(ctx, server, pin.Peers{{Pin: r.keys.from.Pin(), Name: "from"}})
		if err != nil {
			gotErr = err
			return
		}
		got, gotErr = r.to.receiver.Serve(ctx, c)
	})
	offer, done := r.from.offer(tag)
	sendErr := r.send(ctx, wire, offer)
	done()
	all.Wait()
	r.to.rig.Machine.SetHook(nil)
	r.out.Sessions++
	r.carriedAgain(got.Start, records)
	if happened.Load() {
		r.count(f.kind)
		if *left != nil {
			if err := r.restart(*left); err != nil {
				return false, err
			}
		}
	} else if sendErr != nil || gotErr != nil {
		r.corrupted("a session without a fault ended: %v", errors.Join(sendErr, gotErr))
	}
	return sendErr == nil, nil
}

// send is the sender's side of a session.
func (r *run) send(ctx context.Context, conn net.Conn, o replicate.Offer) error {
	c, _, err := r.keys.from.Client(ctx, conn, pin.Peers{{Pin: r.keys.to.Pin(), Name: "to"}})
	if err != nil {
		return err
	}
	_, err = replicate.Send(ctx, c, o, replicate.SendOptions{})
	return err
}

// carriedAgain counts the records that the copy had whole, and that come again, in a
// session that wrote some.
func (r *run) carriedAgain(start int64, records []int64) {
	if len(records) == 0 {
		return
	}
	if start > 0 {
		r.out.Resumed++
	}
	had := len(r.written)
	r.written = slices.DeleteFunc(r.written, func(end int64) bool { return end > start })
	lost := had - len(r.written)
	if r.power {
		r.out.MostLostPower = max(r.out.MostLostPower, lost)
	} else {
		r.out.MostLost = max(r.out.MostLost, lost)
	}
	r.written, r.power = append(r.written, records...), false
}

// arm has the receiver killed, or its power cut, at one of its devices' accesses. Then what
// left points to is what that leaves.
func (r *run) arm(f fault, conn io.Closer, happened *atomic.Bool) (left **rig.Rig) {
	left = new(*rig.Rig)
	if f.kind != killReceiver && f.kind != cutPower {
		return left
	}
	to, n := r.to, f.after
	fate := memdev.RandomFate(r.rng)
	to.rig.Machine.SetHook(func(memdev.Event) {
		if n--; n != 0 || to.dead.Load() {
			return
		}
		to.dead.Store(true)
		if f.kind == killReceiver {
			*left = to.rig.Flushed()
		} else {
			*left = to.rig.Crash(r.rng, fate)
		}
		happened.Store(true)
		_ = conn.Close()
	})
	return left
}

// restart starts the receiver again on what its end left.
func (r *run) restart(left *rig.Rig) error {
	r.to.rig.Abandon()
	if err := left.Open(); err != nil {
		return err
	}
	r.to = started(left)
	return nil
}

func (r *run) count(k faultKind) {
	switch k {
	case cut:
		r.out.Cuts++
	case killSender:
		r.out.SenderKills++
	case killReceiver:
		r.out.ReceiverKills++
	case cutPower:
		r.out.PowerCuts++
	}
	r.power = r.power || k == cutPower
}

// connect returns both ends of a TCP connection.
func connect() (client, server net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	server, err = l.Accept()
	return client, server, err
}

// frayed is a connection that breaks after so many bytes, either way.
type frayed struct {
	net.Conn
	reset    bool // and the other side does not get what was not received
	left     atomic.Int64
	happened *atomic.Bool
}

// spend takes up to n bytes, and returns how many there are until the break.
func (f *frayed) spend(n int) int {
	return int(max(0, min(int64(n), f.left.Add(int64(-n))+int64(n))))
}

func (f *frayed) cut() error {
	f.happened.Store(true)
	if f.reset {
		_ = f.Conn.(*net.TCPConn).SetLinger(0) // it is closed in any case
	}
	return errors.Join(io.ErrUnexpectedEOF, f.Conn.Close())
}

// Write implements net.Conn.
func (f *frayed) Write(p []byte) (int, error) {
	n := f.spend(len(p))
	w, err := f.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		return w, f.cut()
	}
	return w, err
}

// Read implements net.Conn.
func (f *frayed) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if got := f.spend(n); got < n {
		return got, f.cut()
	}
	return n, err
}
