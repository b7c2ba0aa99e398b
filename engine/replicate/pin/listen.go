// SPDX-License-Identifier: Apache-2.0

package pin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// MaxConnections bounds how many connections a Listener has at a time, those that have
// not proved anything yet included. Others are closed.
const MaxConnections = 64

// Listener hands out the connections of peers.
type Listener struct {
	Key *Key
	// Peers returns who may connect. It is asked for each connection, so that a change
	// counts for the next.
	Peers func() (Peers, error)
	// Handle has a peer's connection, which it closes.
	Handle func(context.Context, *tls.Conn, Peer)
	// Refused is told whom a connection was refused to, and why; it may be nil.
	Refused func(from net.Addr, err error)
}

// Serve hands out connections until ctx ends, closes the listener and waits for all
// handlers. It returns nil then, or why no more connections come.
func (l *Listener) Serve(ctx context.Context, from net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = from.Close() })
	defer stop()
	defer from.Close()
	var all sync.WaitGroup
	defer all.Wait()
	free := make(chan struct{}, MaxConnections)
	for {
		conn, err := from.Accept()
		switch {
		case ctx.Err() != nil && err == nil:
			return conn.Close()
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // such as too many open files
			l.refuse(nil, err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		select {
		case free <- struct{}{}:
			all.Go(func() {
				defer func() { <-free }()
				l.serve(ctx, conn)
			})
		default:
			l.refuse(conn.RemoteAddr(), errors.New("there are too many connections"))
			_ = conn.Close()
		}
	}
}

func (l *Listener) serve(ctx context.Context, conn net.Conn) {
	peers, err := l.Peers()
	if err != nil {
		_ = conn.Close()
		l.refuse(conn.RemoteAddr(), fmt.Errorf("reading who is a peer: %w", err))
		return
	}
	c, p, err := l.Key.Server(ctx, conn, peers)
	if err != nil {
		l.refuse(conn.RemoteAddr(), err)
		return
	}
	l.Handle(ctx, c, p)
}

func (l *Listener) refuse(from net.Addr, err error) {
	if l.Refused != nil {
		l.Refused(from, err)
	}
}
