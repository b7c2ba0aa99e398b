// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// socket is the abstract address of the load in a directory: that may be on a file
// system that has no sockets.
func socket(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	return "@zbench-load" + dir, err
}

// listen answers requests, a line each, until what it returns is called:
//
//	ops           how many requests have succeeded
//	promise NAME  "ok"; then, once the snapshot is made:
//	made          "ok", and the promise is in the file
func (s *state) listen() (stop func(), err error) {
	address, err := socket(s.dir)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", address)
	if err != nil {
		return nil, err
	}
	var calls sync.WaitGroup
	calls.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			calls.Go(func() {
				defer c.Close()
				if err := s.answer(c); err != nil {
					fmt.Fprintf(c, "error: %v\n", err)
				}
			})
		}
	})
	return func() {
		ln.Close()
		calls.Wait()
	}, nil
}

// answer answers one caller.
func (s *state) answer(c net.Conn) error {
	in := bufio.NewScanner(c)
	if !in.Scan() {
		return in.Err()
	}
	if in.Text() == "ops" {
		_, err := fmt.Fprintln(c, s.churn.Ops())
		return err
	}
	name, ok := strings.CutPrefix(in.Text(), "promise ")
	if !ok || name != filepath.Base(name) || name == logName {
		return fmt.Errorf("%q is no request", in.Text())
	}
	held, err := s.ledger.During(func() error {
		fmt.Fprintln(c, "ok")
		if !in.Scan() || in.Text() != "made" {
			return fmt.Errorf("%s was not made", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := WriteBounds(filepath.Join(s.dir, name), held); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c, "ok")
	return err
}

// dial waits for the load to answer, until ctx ends.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	address, err := socket(dir)
	if err != nil {
		return nil, err
	}
	for {
		c, err := net.Dial("unix", address)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ops returns how many requests of the load in a directory have succeeded. It waits for
// the load to begin, until ctx ends.
func Ops(ctx context.Context, dir string) (int64, error) {
	c, err := dial(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	fmt.Fprintln(c, "ops")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// Promise runs do, which makes a snapshot, and has the load in a directory write to the
// file name there what that may hold.
func Promise(ctx context.Context, dir, name string, do func() error) error {
	c, err := dial(ctx, dir)
	if err != nil {
		return err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	said := func(ask string) error {
		fmt.Fprintln(c, ask)
		line, err := in.ReadString('\n')
		if err == nil && line != "ok\n" {
			err = fmt.Errorf("the load says %q", strings.TrimSpace(line))
		}
		return err
	}
	if err := said("promise " + name); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return said("made")
}
