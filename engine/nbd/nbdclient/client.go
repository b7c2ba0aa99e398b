// SPDX-License-Identifier: Apache-2.0

// Package nbdclient attaches an NBD export as a block device in this process.
//
// It owns the protocol's client side: handshake, TLS, simple and structured
// replies, metadata contexts, and pipelining. It does not reconnect, cache or
// align: requests must suit the export's block sizes. The harness drives our
// server and others' with it alike, and tests drive the server. A [Client] is a
// [device.Device] and is safe for concurrent use: callers share its connections,
// their requests travel together, and whichever caller waits reads the replies
// of all, so no goroutine runs for an idle client. An error reply fails its
// request with a [wire.Errno]; a lost connection or a server that breaks the
// protocol fails every request on it, then and later.
package nbdclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// Options are what a client asks of a server beyond an export. The zero value
// asks for nothing.
type Options struct {
	TLS        *tls.Config   // if set, TLS is insisted on
	Structured bool          // insist on structured replies
	Contexts   []string      // metadata contexts that must exist; implies Structured
	InFlight   int           // requests in flight per connection; default 128
	Timeout    time.Duration // of connecting with its handshake; default 10 s
}

// ErrLost is wrapped when the connection to the server has ended. The client is of no
// further use then.
var ErrLost = errors.New("connection to the NBD server is lost")

// Info is what the server told about the export.
type Info struct {
	Size                     int64  // bytes
	Flags                    uint16 // wire.FlagHasFlags and so on
	MinBlock, PreferredBlock int    // bytes
	MaxPayload               int    // bytes of data in one request
	Name, Description        string // empty where the server tells none
}

// Extent is a run of bytes of one status in a metadata context.
type Extent struct {
	Length int64 // bytes
	Flags  uint32
}

// maxRange is how much one discard, zeroing or status request covers.
const maxRange = 1 << 30

// Client is an attached export. It implements [device.Device] and
// [device.Zeroer].
type Client struct {
	info  Info
	lanes []*lane
	next  atomic.Uint32
}

var (
	_ device.Device = (*Client)(nil)
	_ device.Zeroer = (*Client)(nil)
)

// Dial attaches export through one connection to addr on network "tcp" or
// "unix".
func Dial(network, addr, export string, opts Options) (*Client, error) {
	return DialMulti(network, addr, export, 1, opts)
}

// DialMulti is [Dial] with n connections, that requests take turns on. It fails
// if n exceeds one and the server does not keep the connections consistent.
func DialMulti(network, addr, export string, n int, opts Options) (*Client, error) {
	c := &Client{}
	for range n {
		l, info, err := dial(network, addr, export, opts)
		if err == nil && n > 1 && info.Flags&wire.FlagCanMultiConn == 0 {
			err = errors.Join(errors.New("server does not allow several connections"), l.close())
		}
		if err != nil {
			return nil, fmt.Errorf("attaching export %q at %s: %w", export, addr, errors.Join(err, c.Close()))
		}
		c.lanes, c.info = append(c.lanes, l), info
	}
	return c, nil
}

func dial(network, addr, export string, opts Options) (*lane, Info, error) {
	if opts.InFlight <= 0 {
		opts.InFlight = 128
	}
	ctx, cancel := opts.context()
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, Info{}, err
	}
	l, info, err := attach(ctx, nc, export, opts)
	if err != nil {
		return nil, Info{}, errors.Join(err, nc.Close())
	}
	return l, info, nil
}

func (o *Options) context() (context.Context, context.CancelFunc) {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	return context.WithTimeout(context.Background(), o.Timeout)
}

// List returns the names of the exports at addr.
func List(network, addr string, opts Options) ([]string, error) {
	ctx, cancel := opts.context()
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	names, err := list(ctx, nc, opts)
	if err = errors.Join(err, nc.Close()); err != nil {
		return nil, fmt.Errorf("listing exports at %s: %w", addr, err)
	}
	return names, nil
}

// Info returns what the server told about the export.
func (c *Client) Info() Info { return c.info }

// Size returns the size in bytes.
func (c *Client) Size() int64 { return c.info.Size }

// Close disconnects. Requests under way fail.
func (c *Client) Close() error {
	var errs []error
	for _, l := range c.lanes {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// lane returns the connection whose turn it is.
func (c *Client) lane() *lane {
	if len(c.lanes) == 1 {
		return c.lanes[0]
	}
	return c.lanes[c.next.Add(1)%uint32(len(c.lanes))]
}

// ReadAt implements [device.Device].
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	return c.transfer(wire.CmdRead, 0, p, off)
}

// WriteAt implements [device.Device]: the data is durable after a Flush.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	return c.transfer(wire.CmdWrite, 0, p, off)
}

// WriteFUA is WriteAt that returns when the data is durable.
func (c *Client) WriteFUA(p []byte, off int64) (int, error) {
	if c.info.Flags&wire.FlagSendFUA == 0 {
		return 0, unsupported("FUA")
	}
	return c.transfer(wire.CmdWrite, wire.CmdFlagFUA, p, off)
}

// transfer moves p in requests as large as the server takes.
func (c *Client) transfer(cmd wire.Command, flags uint16, p []byte, off int64) (int, error) {
	if err := c.check(cmd, off, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		n := min(len(p)-done, c.info.MaxPayload)
		at := off + int64(done)
		if err := c.lane().do(cmd, flags, at, n, p[done:done+n], nil); err != nil {
			return done, failed(cmd, at, int64(n), err)
		}
		done += n
	}
	return len(p), nil
}

// Flush implements [device.Device]; it covers the writes of all connections. It
// does nothing where the server has no flush, for then it has no cache.
func (c *Client) Flush() error {
	if c.info.Flags&wire.FlagSendFlush == 0 {
		return nil
	}
	if err := c.lane().do(wire.CmdFlush, 0, 0, 0, nil, nil); err != nil {
		return failed(wire.CmdFlush, 0, 0, err)
	}
	return nil
}

// Discard implements [device.Device]. It does nothing where the server has no
// trim, as it may.
func (c *Client) Discard(off, n int64) error {
	if c.info.Flags&wire.FlagSendTrim == 0 {
		return c.check(wire.CmdTrim, off, n)
	}
	return c.span(wire.CmdTrim, 0, off, n)
}

// WriteZeroes implements [device.Zeroer].
func (c *Client) WriteZeroes(off, n int64) error { return c.Zero(off, n, 0) }

// Zero is WriteZeroes with flags: wire.CmdFlagFUA, wire.CmdFlagNoHole and
// wire.CmdFlagFastZero, with which it fails with ENOTSUP rather than be slow.
func (c *Client) Zero(off, n int64, flags uint16) error {
	if c.info.Flags&wire.FlagSendWriteZeroes == 0 {
		return unsupported("write zeroes")
	}
	return c.span(wire.CmdWriteZeroes, flags, off, n)
}

// span covers a range that may be longer than one request can say.
func (c *Client) span(cmd wire.Command, flags uint16, off, n int64) error {
	if err := c.check(cmd, off, n); err != nil {
		return err
	}
	for n > 0 {
		part := min(n, maxRange)
		if err := c.lane().do(cmd, flags, off, int(part), nil, nil); err != nil {
			return failed(cmd, off, part, err)
		}
		off, n = off+part, n-part
	}
	return nil
}

// BlockStatus returns the status of the n bytes at off in a context of
// Options.Contexts: at least one extent, and perhaps fewer bytes than n.
func (c *Client) BlockStatus(context string, off, n int64) ([]Extent, error) {
	l := c.lane()
	id, ok := l.contexts[context]
	if !ok {
		return nil, unsupported("metadata context " + context)
	}
	if err := c.check(wire.CmdBlockStatus, off, n); err != nil {
		return nil, err
	}
	st := &status{id: id}
	if err := l.do(wire.CmdBlockStatus, 0, off, int(min(n, maxRange)), nil, st); err != nil {
		return nil, failed(wire.CmdBlockStatus, off, n, err)
	}
	return st.extents, nil
}

func (c *Client) check(cmd wire.Command, off, n int64) error {
	if err := device.CheckRange(off, n, c.info.Size); err != nil {
		return failed(cmd, off, n, err)
	}
	return nil
}

func failed(cmd wire.Command, off, n int64, err error) error {
	return fmt.Errorf("NBD %v of %d bytes at %d: %w", cmd, n, off, err)
}

func unsupported(what string) error {
	return fmt.Errorf("NBD server does not offer %s: %w", what, errors.ErrUnsupported)
}
