// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/wire"
)

// fit answers whether the origin can have a size, and has what follows its size do so.
func (cn *conn) fit(h wire.Header, body []byte) error {
	var n uint64
	if err := wire.DecodeNumbers(body, &n); err != nil {
		return err
	}
	size := int64(n)
	if size <= 0 {
		return fmt.Errorf("%w: an origin of %d bytes", wire.ErrProtocol, n)
	}
	cn.c.done.Go(func() { cn.reply(h, cn.c.fit(size)) })
	return nil
}

func (c *Client) fit(size int64) error {
	origin := c.originClient()
	if origin == nil {
		return errNobody
	}
	f, ok := origin.(wire.Fitter)
	if !ok {
		return fmt.Errorf("%w: the origin's client does not know the size of its device", block.ErrGeometry)
	}
	if err := f.Fit(size); err != nil || c.opts.Resized == nil {
		return err
	}
	return c.opts.Resized(size)
}

// sizeMayDiffer tells of the origin's size in the session that was resumed: what the
// server before it said of a change may have been lost.
func (c *Client) sizeMayDiffer() {
	c.mu.Lock()
	size := c.state.Size
	c.mu.Unlock()
	if c.opts.Resized == nil || size == 0 {
		return
	}
	c.done.Go(func() {
		if err := c.opts.Resized(size); err != nil {
			c.opts.Logger.Error("the origin's size is not taken over", "size", size, "error", err)
		}
	})
}

// manageLimit bounds how long a request is worked at whose server is gone.
const manageLimit = 10 * time.Minute

// manage answers a request about this process.
func (cn *conn) manage(h wire.Header, body []byte) error {
	if cn.c.opts.Manage == nil {
		return fmt.Errorf("%w: type %d", wire.ErrProtocol, h.Type)
	}
	cn.c.done.Go(func() {
		ctx, cancel := context.WithTimeout(cn.c.run, manageLimit)
		defer cancel()
		answer := cn.c.opts.Manage(ctx, body)
		_ = cn.send(h.Type, wire.FlagReply, h.ID, func(dst []byte) []byte { return append(dst, answer...) })
	})
	return nil
}
