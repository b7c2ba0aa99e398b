// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/replicate/pin"
)

// destinations are where copies of a volume are.
type destinations struct {
	app     *app
	keys    keyFlags
	to, via []string
	pipe    bool
	idle    time.Duration
}

// add adds the flags that name them, to a verb that does something to or with them.
func (d *destinations) add(cmd *cobra.Command, does string) {
	fl := cmd.Flags()
	fl.StringArrayVar(&d.to, "to", nil, does+" the peer at this `address`; may be given several times")
	fl.StringArrayVar(&d.via, "via", nil, does+" what this `command` connects to; may be given several times")
	fl.BoolVar(&d.pipe, "pipe", false, does+" what is at the other end of standard input and output")
	fl.DurationVar(&d.idle, "idle", replicate.DefaultIdle, "after how long a silent target is gone")
	d.keys.add(cmd)
}

// check reads what pflag does not check.
func (d *destinations) check() error {
	targets := len(d.to) + len(d.via)
	switch {
	case d.pipe && targets > 0:
		return usageError{errors.New("--pipe is one target, and --to or --via names another")}
	case d.pipe && d.app.json:
		return usageError{errors.New("--json prints to where the other side reads with --pipe")}
	case !d.pipe && targets == 0:
		return usageError{errors.New("no target: name one with --to or --via, or use --pipe")}
	}
	return nil
}

// dialer connects to a target.
type dialer struct {
	name string
	dial func(context.Context) (io.ReadWriteCloser, error)
	once bool
}

// dialing bounds how long a target has to answer.
const dialing = 10 * time.Second

// targets returns what connects to the targets.
func (d *destinations) targets() (list []dialer, err error) {
	if d.pipe {
		return []dialer{{name: "the other end of the pipe", once: true, dial: func(context.Context) (io.ReadWriteCloser, error) { return d.app.stdio() }}}, nil
	}
	for _, command := range d.via {
		list = append(list, dialer{name: command, dial: func(ctx context.Context) (io.ReadWriteCloser, error) { return d.app.runPipe(ctx, command) }})
	}
	if len(d.to) == 0 {
		return list, nil
	}
	key, peers, err := d.keys.load()
	if err != nil {
		return nil, err
	}
	for _, text := range d.to {
		name, addr, err := parseTarget(text)
		if err != nil {
			return nil, usageError{err}
		}
		named := peers.Named(name)
		if len(named) == 0 {
			return nil, codeError{fmt.Errorf("%w: %s has no %q: its line is what \"ddsnap key\" prints there", pin.ErrPeer, d.keys.peers, name), exitRefused}
		}
		list = append(list, dialer{name: text, dial: func(ctx context.Context) (io.ReadWriteCloser, error) {
			return dialPeer(ctx, addr, key, named)
		}})
	}
	return list, nil
}

// parseTarget reads [NAME@]HOST[:PORT].
func parseTarget(text string) (name, addr string, err error) {
	name, addr, named := strings.Cut(text, "@")
	if !named {
		addr = name
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), defaultPort
	}
	if !named {
		name = host
	}
	if host == "" || port == "" || name == "" || strings.ContainsAny(host, " /") {
		return "", "", fmt.Errorf("target %q is not [NAME@]HOST[:PORT]", text)
	}
	return name, net.JoinHostPort(host, port), nil
}

// dialPeer connects to a peer. The error wraps replicate.ErrConnection if it may be
// tried again.
func dialPeer(ctx context.Context, addr string, key *pin.Key, peers pin.Peers) (io.ReadWriteCloser, error) {
	d := net.Dialer{Timeout: dialing}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", replicate.ErrConnection, err)
	}
	c, _, err := key.Client(ctx, conn, peers)
	switch {
	case errors.Is(err, pin.ErrPeer) || unwanted(err):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", replicate.ErrConnection, err)
	}
	return c, nil
}

// unwanted reports whether the other side of TLS has refused this one.
func unwanted(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return true
	}
	_, bad := errors.AsType[tls.RecordHeaderError](err) // it speaks something else
	return bad
}

// findOrNewest returns a snapshot, or without a reference the newest one of the origin.
func (a *app) findOrNewest(ctx context.Context, t *target, ref *admin.Ref) (admin.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if ref != nil {
		return find(ctx, t, *ref)
	}
	list, err := t.list(ctx)
	if err != nil {
		return admin.Snapshot{}, err
	}
	slices.Reverse(list)
	i := slices.IndexFunc(list, func(s admin.Snapshot) bool { return s.Parent == 0 })
	if i < 0 {
		return admin.Snapshot{}, codeError{fmt.Errorf("the origin on %s has no snapshot: \"ddsnap create\" makes one", t.name), exitAbsent}
	}
	return list[i], nil
}

// copyOf names a snapshot as copies know it.
func (a *app) copyOf(ctx context.Context, t *target, s admin.Snapshot) (replicate.Copy, error) {
	c := replicate.Copy{Tag: s.Tag, Name: s.Name}
	if s.Source != nil {
		c.Store, c.Generation = s.Source.Store, s.Source.Generation
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	st, err := t.ask(ctx, admin.VerbStatus)
	if err != nil {
		return c, err
	}
	c.Store, c.Generation = st.Status.UUID, s.Generation
	return c, nil
}
