// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/engine/wire/fault"
)

// request is one of a client, while it is carried out. Its buffers are used again for
// others, so that those of the data path allocate nothing.
type request struct {
	c      *conn
	header wire.Header
	carry  func(c *conn, r *request) error
	body   []byte
	out    []byte // the reply, to which carry appends the body
	// sending, if carry has set it, is called while the reply is sent: what it has
	// others send comes after that.
	sending func()

	maps   []wire.Mapping
	chunks []block.Chunk
	run    func() // serve, bound once
}

var idle sync.Pool // of requests

// take takes in a message. An error ends the connection.
func (c *conn) take(h wire.Header, body []byte) error {
	switch {
	case h.Flags&wire.FlagReply != 0:
		return c.answered(h, body)
	case h.Type == wire.TypeReport:
		return c.report(body)
	case h.Type == wire.TypeReady:
		c.l.ready(c)
		return nil
	}
	carry := requests[h.Type]
	if carry == nil {
		return fmt.Errorf("%w: type %d", wire.ErrProtocol, h.Type)
	}
	c.inFlight <- struct{}{}
	r, ok := idle.Get().(*request)
	if !ok {
		r = new(request)
		r.run = r.serve
	}
	r.c, r.header, r.carry = c, h, carry
	r.body = append(r.body[:0], body...) // it outlives the buffer
	c.busy.Add(1)
	go r.run() // not busy.Go, which allocates
	return nil
}

// serve carries the request out, and answers it.
func (r *request) serve() {
	c, h := r.c, r.header
	defer c.busy.Done()
	r.out = wire.AppendHeader(r.out[:0], h.Type, wire.FlagReply, h.ID)
	if err := r.carry(c, r); err != nil {
		c.l.log.Debug("request refused", "store", c.l.server.UUID(), "client", c.name, "type", h.Type, "error", err)
		r.out = wire.AppendHeader(r.out[:0], h.Type, wire.FlagReply|wire.FlagError, h.ID)
		r.out = wire.AppendFault(r.out, fault.From(err))
		r.sending = nil
	}
	c.answer(r)
	r.c, r.sending = nil, nil
	idle.Put(r)
	<-c.inFlight
}

// answer sends the reply of a request.
func (c *conn) answer(r *request) {
	c.sending.Lock()
	defer c.sending.Unlock()
	if r.sending != nil {
		r.sending()
	}
	_ = c.write(r.out) // an error has closed the connection
}

// requests carry out the requests of a client: they append the body of the reply to
// r.out.
var requests = map[wire.Type]func(c *conn, r *request) error{
	wire.TypeAttach:        (*conn).attach,
	wire.TypeResume:        (*conn).resume,
	wire.TypeRenew:         (*conn).renew,
	wire.TypeDetach:        (*conn).detach,
	wire.TypeLease:         (*conn).lease,
	wire.TypeCheckpoint:    (*conn).checkpoint,
	wire.TypeUnsettled:     (*conn).unsettled,
	wire.TypeOpenSnapshot:  (*conn).openSnapshot,
	wire.TypeCloseSnapshot: (*conn).closeSnapshot,
	wire.TypeMap:           (*conn).mapChunks,
	wire.TypeLeaseBranch:   (*conn).leaseBranch,
	wire.TypeReportBranch:  (*conn).reportBranch,
	wire.TypeSyncBranch:    (*conn).syncBranch,
	wire.TypeRestoreBranch: (*conn).restoreBranch,
	wire.TypeAwaitSpace:    (*conn).awaitSpace,
	wire.TypeMapRestoring:  (*conn).mapRestoring,
	wire.TypeRestored:      (*conn).restored,
}
