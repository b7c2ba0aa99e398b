// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/replicate"
	"zumastor.org/zumastor/engine/replicate/pin"
)

// dialer connects to a target.
type dialer struct {
	name string
	dial func(context.Context) (io.ReadWriteCloser, error)
	once bool
}

// dialing bounds how long a target has to answer.
const dialing = 10 * time.Second

// targets returns what connects to the targets.
func (x *transmission) targets() (list []dialer, err error) {
	if x.pipe {
		return []dialer{{name: "the other end of the pipe", once: true, dial: func(context.Context) (io.ReadWriteCloser, error) { return x.app.stdio() }}}, nil
	}
	for _, command := range x.via {
		list = append(list, dialer{name: command, dial: func(ctx context.Context) (io.ReadWriteCloser, error) { return x.app.runPipe(ctx, command) }})
	}
	if len(x.to) == 0 {
		return list, nil
	}
	key, peers, err := x.keys.load()
	if err != nil {
		return nil, err
	}
	for _, text := range x.to {
		name, addr, err := parseTarget(text)
		if err != nil {
			return nil, usageError{err}
		}
		named := peers.Named(name)
		if len(named) == 0 {
			return nil, codeError{fmt.Errorf("%w: %s has no %q: its line is what \"ddsnap key\" prints there", pin.ErrPeer, x.keys.peers, name), exitRefused}
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

// shipment is the way of a snapshot to one target.
type shipment struct {
	*transmission
	target   *target
	opener   opener
	snapshot admin.Snapshot
	show     func(replicate.Progress)

	base   *replicate.Copy // of what is open
	delta  *replicate.Delta
	closed func() error
}

func (s *shipment) deliver(ctx context.Context, d dialer) (res delivered, err error) {
	to, err := s.copyOf(ctx, s.target, s.snapshot)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	opts := replicate.DeliverOptions{
		SendOptions: replicate.SendOptions{Idle: s.idle, Limiter: s.limiter, Progress: s.show},
		GiveUp:      s.giveUp,
		Failed: func(err error, next time.Duration) {
			fmt.Fprintf(s.app.Err, "ddsnap: %s: %s; trying again in %v\n", d.name, message(err), next.Round(time.Second/10))
		},
	}
	if d.once || s.giveUp <= 0 {
		opts.GiveUp = -1
	}
	sent, err := replicate.Deliver(ctx, d.dial, replicate.Offer{To: to, Size: s.snapshot.Size, Open: s.open}, opts)
	if unwanted(err) {
		err = fmt.Errorf("%w: is this machine's line, which \"ddsnap key\" prints, in its file of peers?", err)
	}
	return delivered{There: sent.There, Base: sent.Base, Start: sent.Start, Content: sent.Summary.Content, Bytes: sent.Summary.Bytes}, err
}

// open returns what leads from a base to the snapshot. It stays open for other sessions.
func (s *shipment) open(ctx context.Context, base *replicate.Copy) (*replicate.Delta, error) {
	if s.delta != nil && (base == nil && s.base == nil || base != nil && s.base != nil && *base == *s.base) {
		return s.delta, nil
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	c := s.coding // a copy
	c.to = admin.Ref{Tag: s.snapshot.Tag}
	if base != nil {
		from, err := s.findCopy(ctx, *base)
		if err != nil {
			return nil, err
		}
		c.from = &admin.Ref{Tag: from}
	}
	if id, err := codec.Parse(c.codec); err == nil && id.NeedsBase() && base == nil {
		c.codec = "" // which has no base is coded without
	}
	if err := c.parseFlags(); err != nil {
		return nil, err
	}
	src, list, done, err := c.source(ctx, s.target, s.opener)
	s.closed = done
	if err != nil {
		return nil, err
	}
	if err := c.indexBase(ctx, src); err != nil {
		return nil, err
	}
	d := &replicate.Delta{Source: src}
	if d.Options, err = c.options(ctx, s.target, list); err != nil {
		return nil, err
	}
	s.base, s.delta = base, d
	return d, nil
}

// findCopy returns the snapshot here that is what the other side has.
func (s *shipment) findCopy(ctx context.Context, base replicate.Copy) (block.Tag, error) {
	ctx, cancel := context.WithTimeout(ctx, s.app.timeout)
	defer cancel()
	list, err := s.target.list(ctx)
	if err != nil {
		return 0, err
	}
	for _, snap := range list {
		c, err := s.copyOf(ctx, s.target, snap)
		if err != nil {
			return 0, err
		}
		if c.Store != base.Store || c.Generation != base.Generation {
			continue
		}
		if snap.Parent == 0 && s.snapshot.Parent == 0 && snap.Generation > s.snapshot.Generation {
			return 0, fmt.Errorf("%w: it has %v, which is newer", replicate.ErrBase, base)
		}
		return snap.Tag, nil
	}
	return 0, fmt.Errorf("%w: it has %v, which is not among the snapshots here", replicate.ErrBase, base)
}

// close closes what is open.
func (s *shipment) close() (err error) {
	if s.closed != nil {
		err = s.closed()
	}
	s.base, s.delta, s.closed = nil, nil, nil
	return err
}

// limit makes the limiter, which a file may change until stop.
func (x *transmission) limit(ctx context.Context) (stop func(), err error) {
	x.limiter = replicate.NewLimiter(float64(x.rate) / 8)
	if x.rateFile == "" {
		return func() {}, nil
	}
	if err := x.readRate(); err != nil {
		return nil, err
	}
	ctx, stop = context.WithCancel(ctx)
	go func() {
		said := ""
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			if err := x.readRate(); err != nil && err.Error() != said {
				said = err.Error()
				fmt.Fprintf(x.app.Err, "ddsnap: %s; the rate stays\n", said)
			}
		}
	}()
	return stop, nil
}

// readRate takes the rate from its file.
func (x *transmission) readRate() error {
	text, err := os.ReadFile(x.rateFile)
	if err != nil {
		return err
	}
	var rate bitrate
	if word := strings.TrimSpace(string(text)); word != "" {
		if err := rate.Set(word); err != nil {
			return fmt.Errorf("%s: %w", x.rateFile, err)
		}
	}
	if bytes := float64(rate) / 8; bytes != x.limiter.Rate() {
		x.limiter.SetRate(bytes)
	}
	return nil
}
