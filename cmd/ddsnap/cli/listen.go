// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/replicate/pin"
)

// listening is one run of delta listen.
type listening struct {
	app     *app
	store   string
	target  *targetFlags
	content contentFlags
	keys    keyFlags
	address string
	stdio   bool
	yes     bool
	idle    time.Duration
	saying  sync.Mutex
}

// defaultPort is the original's.
const defaultPort = "4321"

func (a *app) deltaListen() *cobra.Command {
	l := &listening{app: a}
	cmd := &cobra.Command{
		Use:   "listen [flags] SERVER|STORE",
		Short: "Take snapshots that other machines transmit",
		Long: `Listen makes the volume a copy of that of which "ddsnap transmit" sends snapshots, until it
gets a signal. They become snapshots of its origin, as those of deltas that "ddsnap delta
apply" applies, and nobody else may write to the origin.

Only the machines whose pins are in the file of peers may connect, over TLS 1.3. The file is
read for each connection. With --stdio it takes one connection, on standard input and
output, whose maker answers for who is at the other end, such as ssh.

A volume without snapshots takes all of one only with --yes, since what its origin holds is lost.

A running server is written to over NBD, and may be restarted: senders are told to try
again. Of a store that no server has open, --origin names the origin, and the store is
open only while something is received.`,
		Example: `  ddsnap delta listen --origin /srv/copy.img /srv/copy.store
  ddsnap transmit --via 'ssh copy ddsnap delta listen --stdio /srv/copy.store' /srv/vm.store`,
		Args: args(1, 1, "SERVER|STORE"),
	}
	fl := cmd.Flags()
	fl.StringVar(&l.address, "address", ":"+defaultPort, "`HOST:PORT` to listen on")
	fl.BoolVar(&l.stdio, "stdio", false, "take one connection, on standard input and output")
	fl.BoolVarP(&l.yes, "yes", "y", false, "a volume without snapshots takes all of one, over what its origin holds")
	fl.DurationVar(&l.idle, "idle", replicate.DefaultIdle, "after how long a silent sender is gone")
	l.keys.add(cmd)
	l.content.add(cmd)
	l.target = a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		l.store, l.target.works = args[0], true
		r := &replicate.Receiver{Open: l.open, Full: l.yes, Idle: l.idle}
		if l.content.origin == "" {
			r.Away = away // its server is; without one, nobody starts what is missing
		}
		if l.stdio {
			return l.once(ctx, r)
		}
		return l.serve(ctx, r)
	}
	return cmd
}

// open opens the volume for a session.
func (l *listening) open(ctx context.Context) (v replica.Volume, done func() error, err error) {
	t, err := l.find(ctx)
	if err != nil {
		return v, nil, err
	}
	v, closeVolume, err := l.content.replica(t, false)
	if err != nil {
		return v, nil, errors.Join(err, t.close())
	}
	return v, func() error { return errors.Join(closeVolume(), t.close()) }, nil
}

// find returns what has the store: unless the origin is named, only ever a running server.
// One that is away, to be restarted, must not find its store open.
func (l *listening) find(ctx context.Context) (*target, error) {
	if l.content.origin == "" {
		return l.app.openServer(ctx, l.store, l.target)
	}
	return l.app.open(ctx, l.store, l.target, false)
}

// once takes the connection on standard input and output.
func (l *listening) once(ctx context.Context, r *replicate.Receiver) error {
	if l.app.json {
		return usageError{errors.New("--json prints to where the answers go with --stdio")}
	}
	conn, err := l.app.stdio()
	if err != nil {
		return err
	}
	_, err = r.Serve(ctx, conn)
	return l.explain(err)
}

func (l *listening) serve(ctx context.Context, r *replicate.Receiver) error {
	key, _, err := l.keys.load()
	if err != nil {
		return err
	}
	v, done, err := l.open(ctx) // so that what is wrong with it is known now
	if err == nil {
		_, err = v.Standing(ctx, admin.Source{})
		err = errors.Join(err, done())
	}
	if err != nil {
		return err
	}
	from, err := net.Listen("tcp", l.address)
	if err != nil {
		return err
	}
	l.say(listenEvent{Event: "listening", Address: from.Addr().String()}, "listening on %v", from.Addr())
	p := &pin.Listener{
		Key:   key,
		Peers: func() (pin.Peers, error) { return pin.LoadPeers(l.keys.peers) },
		Handle: func(ctx context.Context, c *tls.Conn, p pin.Peer) {
			l.receive(ctx, r, c, p)
		},
		Refused: func(from net.Addr, err error) {
			l.say(listenEvent{Event: "refused", Address: fmt.Sprint(from), Error: err.Error()}, "refused %v: %v", from, err)
		},
	}
	return p.Serve(ctx, from)
}

// receive has a session with a peer.
func (l *listening) receive(ctx context.Context, r *replicate.Receiver, c io.ReadWriteCloser, p pin.Peer) {
	got, err := r.Serve(ctx, c)
	e := listenEvent{Event: "received", Peer: p.Name, Snapshot: &got.Snapshot, There: got.There, Start: got.Start, Bytes: got.Summary.Bytes}
	if err != nil {
		e.Event, e.Error = "failed", message(l.explain(err))
		l.say(e, "%s: %s", p.Name, e.Error)
		return
	}
	switch {
	case got.Repaired > 0:
		e.Event, e.Bytes = "repaired", got.Repaired
	case got.Verified:
		e.Event = "verified"
	}
	l.say(e, "%s: %s %v", p.Name, e.Event, got.Snapshot)
}

// explain adds what to do to an error.
func (l *listening) explain(err error) error {
	switch {
	case errors.Is(err, replicate.ErrFull):
		return fmt.Errorf("%w: listen with --yes if it may be", err)
	case err != nil:
		return fmt.Errorf("receiving on %s: %w", l.store, err)
	}
	return nil
}

// listenEvent is a line of listen --json.
type listenEvent struct {
	Event    string          `json:"event"` // listening, received, verified, repaired, failed or refused
	Address  string          `json:"address,omitempty"`
	Peer     string          `json:"peer,omitempty"`
	Snapshot *replicate.Copy `json:"snapshot,omitempty"`
	There    bool            `json:"was_there,omitempty"`
	Start    int64           `json:"start_bytes,omitempty"` // offset from which on it was received
	Bytes    int64           `json:"received_bytes,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// say prints what happened.
func (l *listening) say(e listenEvent, format string, values ...any) {
	l.saying.Lock()
	defer l.saying.Unlock()
	if l.app.json {
		_ = json.NewEncoder(l.app.Out).Encode(e) // nobody need listen
		return
	}
	fmt.Fprintf(l.app.Out, format+"\n", values...)
}
