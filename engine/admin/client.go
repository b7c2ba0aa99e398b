// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// ErrProtocol is wrapped when what listens on a socket does not speak this
// protocol.
var ErrProtocol = errors.New("is no control socket")

// Client manages the store of the process that listens on a control socket.
// Requests go one at a time. After an error that is not an [*Error], it is of no
// further use.
type Client struct {
	path string

	mu   sync.Mutex
	conn *net.UnixConn
	from *receiver
	r    *bufio.Reader // of from
}

var _ Manager = (*Client)(nil)

// Dial connects to the control socket at path.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("connecting to the control socket %s: %w", path, err)
	}
	c := &Client{path: path, conn: conn.(*net.UnixConn)}
	c.from = &receiver{conn: c.conn}
	c.r = bufio.NewReader(c.from)
	return c, nil
}

// Path returns the path of the socket.
func (c *Client) Path() string { return c.path }

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Do implements [Manager].
func (c *Client) Do(ctx context.Context, r Request) (Response, error) {
	a, err := c.call(ctx, r)
	switch {
	case err != nil:
		return Response{}, err
	case a.Error != nil:
		return Response{}, a.Error
	case !a.answers(r.Verb):
		return Response{}, c.broken()
	}
	return a, nil
}

// broken is the error of an answer that does not fit the request.
func (c *Client) broken() error { return fmt.Errorf("%s %w", c.path, ErrProtocol) }

// call sends a request and waits for its response until ctx ends.
func (c *Client) call(ctx context.Context, r Request) (a Response, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	line, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	// What refuses at once may have gone before it takes the request, but has
	// said why.
	_, sent := c.conn.Write(append(line, '\n'))
	line, err = readLine(c.r, maxResponse)
	switch {
	case ctx.Err() != nil:
		return a, fmt.Errorf("waiting for the server on %s: %w", c.path, context.Cause(ctx))
	case bytes.HasPrefix(line, []byte("NBDMAGIC")):
		return a, fmt.Errorf("%w but exports NBD: name the server's control socket", c.broken())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errTooLong):
		return a, fmt.Errorf("%w, or its server is shutting down", c.broken())
	case err != nil:
		return a, fmt.Errorf("talking to the server on %s: %w", c.path, errors.Join(sent, err))
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("%w: %w", c.broken(), err)
	}
	if err := c.from.handOut(a.Listeners); err != nil {
		return Response{}, fmt.Errorf("%w: %w", c.broken(), err)
	}
	return a, nil
}
