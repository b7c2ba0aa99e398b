// SPDX-License-Identifier: Apache-2.0

// Package export serves an origin over NBD in a process of its own, and drives
// that process: how experiments meet a peer that is a separate program on equal
// terms.
//
// It owns the few lines that the two processes say to each other. It does not own
// the NBD server (engine/nbd) or the stack (harness/stack). [Serve] runs in the
// child, a hidden command of zbench; [Start] makes the child and belongs to one
// goroutine. A child that fails says why on its standard error, which [Start]
// passes on; it ends when its standard input does, so it cannot outlive its
// parent. [StartPart] and [RunPart] are the same for parts of experiments: a
// metadata server on a socket, a writer that is killed, a check.
//
// The child writes "ready" once it serves. Then for each line that it reads it
// writes one: "ok", or "error" and a reason.
//
//	snapshot N   make snapshot N
//	delete N     delete snapshot N, and wait until what it held is freed
package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
)

// Names of the exports: the volume with snapshots, and the bare origin under it.
const (
	Volume = "volume"
	Raw    = "raw"
)

// Config says what to serve.
type Config struct {
	Origin, Store string // paths of files or devices; the store is formatted
	ChunkSize     int64  // bytes
	Variant       string // a placement
	Socket        string // path of the Unix socket to listen on
}

// Serve serves until in ends or ctx does.
func Serve(ctx context.Context, c Config, in io.Reader, out io.Writer) (err error) {
	bed, err := stack.OpenPaths(c.Origin, c.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	st, err := bed.BuildAll(c.Variant, c.ChunkSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	server, err := nbd.NewServer(nbd.Config{Exports: exports{Volume: st.Device(), Raw: st.Bare()}})
	if err != nil {
		return err
	}
	listener, err := nbd.Listen("unix", c.Socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	err = obey(st, in, out)
	cancel()
	return errors.Join(err, <-served)
}

// subject is what the lines of in are about.
type subject interface {
	Snapshot(tag block.Tag) error
	Delete(tag block.Tag) error
	Idle() error // returns when what deleted snapshots held is freed
}

// obey carries out the lines of in.
func obey(st subject, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		answer := "ok"
		if err := command(st, lines.Text()); err != nil {
			answer = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		if _, err := fmt.Fprintln(out, answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func command(st subject, line string) error {
	var verb string
	var tag block.Tag
	if _, err := fmt.Sscanf(line, "%s %d", &verb, &tag); err != nil {
		return fmt.Errorf("command %q: %w", line, err)
	}
	switch verb {
	case "snapshot":
		return st.Snapshot(tag)
	case "delete":
		if err := st.Delete(tag); err != nil {
			return err
		}
		return st.Idle()
	}
	return fmt.Errorf("unknown command %q", verb)
}

// exports are devices by name.
type exports map[string]device.Device

func (e exports) List() []string { return []string{Volume, Raw} }

func (e exports) Open(name string) (*nbd.Export, error) {
	d, ok := e[name]
	if !ok {
		return nil, fmt.Errorf("export %q: %w", name, nbd.ErrNoExport)
	}
	return &nbd.Export{Name: name, Device: d}, nil
}

// Check returns an error unless the config can be served.
func (c Config) Check() error {
	if !spec.IsPlacement(c.Variant) {
		return fmt.Errorf("variant %q is no placement", c.Variant)
	}
	return nil
}
