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

	"zumastor.org/zumastor/engine/block"
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
	conn net.Conn
	r    *bufio.Reader
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
	return &Client{path: path, conn: conn, r: bufio.NewReader(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Create implements [Manager].
func (c *Client) Create(ctx context.Context, tag block.Tag) (Snapshot, error) {
	r, err := c.call(ctx, request{Verb: verbCreate, Tag: &tag})
	if err == nil && r.Snapshot == nil {
		err = c.broken()
	}
	if err != nil {
		return Snapshot{}, err
	}
	return *r.Snapshot, nil
}

// Delete implements [Manager].
func (c *Client) Delete(ctx context.Context, tag block.Tag) error {
	_, err := c.call(ctx, request{Verb: verbDelete, Tag: &tag})
	return err
}

// List implements [Manager].
func (c *Client) List(ctx context.Context) ([]Snapshot, error) {
	r, err := c.call(ctx, request{Verb: verbList})
	return r.List, err
}

// Status implements [Manager].
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.call(ctx, request{Verb: verbStatus})
	if err == nil && r.Status == nil {
		err = c.broken()
	}
	if err != nil {
		return Status{}, err
	}
	return *r.Status, nil
}

// Sharing implements [Manager].
func (c *Client) Sharing(ctx context.Context) ([]Sharing, error) {
	r, err := c.call(ctx, request{Verb: verbSharing})
	return r.Sharing, err
}

// broken is the error of an answer that does not fit the request.
func (c *Client) broken() error { return fmt.Errorf("%s %w", c.path, ErrProtocol) }

// call sends a request and waits for its response until ctx ends.
func (c *Client) call(ctx context.Context, req request) (response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	line, err := json.Marshal(req)
	if err != nil {
		return response{}, err
	}
	// What refuses at once may have gone before it takes the request, but has
	// said why.
	_, sent := c.conn.Write(append(line, '\n'))
	line, err = readLine(c.r, maxResponse)
	switch {
	case ctx.Err() != nil:
		return response{}, fmt.Errorf("waiting for the server on %s: %w", c.path, context.Cause(ctx))
	case bytes.HasPrefix(line, []byte("NBDMAGIC")):
		return response{}, fmt.Errorf("%w but exports NBD: name the server's control socket", c.broken())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errTooLong):
		return response{}, fmt.Errorf("%w, or its server is shutting down", c.broken())
	case err != nil:
		return response{}, fmt.Errorf("talking to the server on %s: %w", c.path, errors.Join(sent, err))
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		return response{}, fmt.Errorf("%w: %w", c.broken(), err)
	}
	if r.Error != nil {
		return response{}, r.Error
	}
	return r, nil
}
