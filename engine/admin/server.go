// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a server.
const (
	maxConns     = 64
	idleTimeout  = time.Minute      // between requests of a connection
	writeTimeout = 30 * time.Second // for a response to be taken
	// lastCall is for the first request of whoever has just connected when the server
	// ends: it is answered still.
	lastCall = 2 * time.Second
)

// Server answers requests on a Unix socket.
type Server struct {
	Manager Manager
	Logger  *slog.Logger // not nil
}

// Serve accepts connections until ctx is done, closes ln, lets the requests under
// way and first ones finish, and returns nil; or it returns the listener's error after the same.
// Only processes of the same user, or of root, are answered.
func (s *Server) Serve(ctx context.Context, ln *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer func() {
		cancel()
		_ = ln.Close()
		conns.Wait()
	}()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	free := make(chan struct{}, maxConns)
	for {
		conn, err := ln.AcceptUnix()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			s.Logger.Warn("control socket: short of file descriptors", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		case err != nil:
			return fmt.Errorf("control socket: %w", err)
		}
		select {
		case free <- struct{}{}:
			conns.Go(func() {
				defer func() { <-free }()
				s.serve(ctx, conn)
			})
		default:
			s.Logger.Warn("control socket: connection refused: too many", "max", maxConns)
			_ = send(conn, failure(errors.New("too many connections to the control socket: try again")))
			_ = conn.Close()
		}
	}
}

// serve answers the requests of a connection, in order, and closes it.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if err := checkPeer(conn); err != nil {
		s.Logger.Warn("control socket: connection refused", "error", err)
		_ = send(conn, Response{Error: &Error{Kind: KindRequest, Text: err.Error()}})
		return
	}
	var asked atomic.Bool
	end := func() {
		if asked.Load() {
			_ = conn.SetReadDeadline(time.Unix(1, 0))
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(lastCall))
	}
	defer context.AfterFunc(ctx, end)()
	r := bufio.NewReader(conn)
	for ; ; asked.Store(true) {
		_ = conn.SetReadDeadline(time.Now().Add(idleTimeout))
		if ctx.Err() != nil {
			end()
		}
		line, err := readLine(r, maxRequest)
		switch {
		case errors.Is(err, errTooLong):
			_ = send(conn, failure(fmt.Errorf("%w: %w", ErrRequest, err)))
			return
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				s.Logger.Debug("control socket: connection ended", "error", err)
			}
			return
		}
		if err := send(conn, s.answer(ctx, line)); err != nil {
			s.Logger.Debug("control socket: connection ended", "error", err)
			return
		}
	}
}

// Answer has m do what a request in JSON asks for, and returns the response in JSON;
// see [Relay].
func Answer(ctx context.Context, m Manager, request []byte) []byte {
	r, err := DecodeRequest(request)
	var a Response
	if err == nil {
		a, err = m.Do(ctx, r)
	}
	if err != nil {
		a = failure(err)
	}
	p, err := json.Marshal(a)
	if err != nil {
		panic(err) // there is nothing in it that JSON does not have
	}
	return p
}

// answer does what the line asks for.
func (s *Server) answer(ctx context.Context, line []byte) Response {
	r, err := DecodeRequest(line)
	if err != nil {
		return failure(err)
	}
	a, err := s.Manager.Do(ctx, r)
	if err != nil {
		s.Logger.Info("request refused", "verb", r.Verb, "error", err)
		return failure(err)
	}
	if r.Snapshot != nil {
		s.Logger.Info("request done", "verb", r.Verb, "snapshot", r.Snapshot)
	}
	return a
}

func failure(err error) Response {
	return Response{Error: &Error{Kind: KindOf(err), Text: err.Error()}}
}

func send(conn *net.UnixConn, r Response) error {
	defer closeAll(r.Listeners)
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	oob, err := rights(r.Listeners)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if oob != nil { // with the first byte; the line is a short one
		if _, _, err = conn.WriteMsgUnix(line[:1], oob, nil); err != nil {
			return err
		}
		line = line[1:]
	}
	_, err = conn.Write(line)
	return err
}

// checkPeer returns an error unless the other end is of this process's user or of
// root.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	outer := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(outer, err); err != nil {
		return fmt.Errorf("asking who the peer is: %w", err)
	}
	return allow(cred.Uid, uint32(os.Geteuid()))
}

func allow(peer, own uint32) error {
	if peer != own && peer != 0 {
		return fmt.Errorf("user %d may not control a server of user %d", peer, own)
	}
	return nil
}
