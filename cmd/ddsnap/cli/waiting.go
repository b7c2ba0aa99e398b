// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"syscall"
	"time"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/store"
)

// waiting is how a target's server that goes away, to be restarted, is waited for.
type waiting struct {
	app      *app
	target   *target
	patience time.Duration

	mu      sync.Mutex
	waiters int
}

// retryEvery is how often a server that went away is looked for.
const retryEvery = 200 * time.Millisecond

// away reports whether an error says that a server does not run, or ended meanwhile.
func away(err error) bool {
	return slices.ContainsFunc([]error{
		nbdclient.ErrLost, errNoServer, admin.ErrProtocol, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, fs.ErrNotExist, io.EOF, io.ErrUnexpectedEOF,
	}, func(is error) bool { return errors.Is(err, is) })
}

// await calls try until its error is another than that the server is away.
func (w *waiting) await(ctx context.Context, why error, try func() error) error {
	if w.patience <= 0 {
		return why
	}
	end := ""
	w.count(1, fmt.Sprintf("%s; waiting up to %v for the server", message(why), w.patience))
	defer func() { w.count(-1, end) }()
	for since := time.Now(); ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryEvery):
		}
		err := try()
		if err == nil {
			end = "the server is back"
		}
		if !away(err) {
			return err
		}
		if time.Since(since) > w.patience {
			return fmt.Errorf("no server for %v: %w", w.patience, err)
		}
	}
}

// count counts those who wait. The first one and the last one say so.
func (w *waiting) count(more int, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiters += more
	if text != "" && w.waiters == max(more, 0) {
		fmt.Fprintf(w.app.Err, "ddsnap: %s: %s\n", w.target.name, text)
	}
}

// lastingManager asks a server, and asks again if that was restarted. So it is for questions
// alone; other requests fail with the connection.
type lastingManager struct {
	*waiting
	mu     sync.Mutex
	client *admin.Client
}

// questions change nothing in a store.
var questions = []admin.Verb{admin.VerbList, admin.VerbStatus, admin.VerbChanges, admin.VerbDigest, admin.VerbDigestChildren}

// Do implements [admin.Manager].
func (m *lastingManager) Do(ctx context.Context, r admin.Request) (a admin.Response, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, err = m.client.Do(ctx, r)
	if !away(err) || ctx.Err() != nil || !slices.Contains(questions, r.Verb) {
		return a, err
	}
	err = m.await(ctx, err, func() error {
		client, err := admin.Dial(ctx, m.client.Path())
		if err != nil {
			return err
		}
		_ = m.client.Close()
		m.client = client
		a, err = client.Do(ctx, r)
		return err
	})
	return a, err
}

// Close ends the connection.
func (m *lastingManager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client.Close()
}

// lastingContent is a snapshot's content as a server exports it. If that is restarted, the
// snapshot is opened again at once, also while nobody reads, for only what is open cannot
// be deleted.
type lastingContent struct {
	*waiting
	ctx      context.Context
	addr     service.Address
	snapshot admin.Snapshot
	size     int64
	stop     context.CancelFunc
	kept     sync.WaitGroup

	mu     sync.Mutex
	client *nbdclient.Client
	err    error // it is given up
}

// open opens a snapshot, which keeps it until it is closed.
func (w *waiting) open(ctx context.Context, addr service.Address, s admin.Snapshot) (openedContent, error) {
	client, err := dialSnapshot(addr, s)
	if err != nil {
		return openedContent{}, err
	}
	c := &lastingContent{waiting: w, addr: addr, snapshot: s, size: client.Size(), client: client}
	c.ctx, c.stop = context.WithCancel(ctx)
	c.kept.Go(c.keep)
	return openedContent{sectors{c}, c}, nil
}

// dial opens the snapshot again.
func (c *lastingContent) dial() (*nbdclient.Client, error) {
	client, err := dialSnapshot(c.addr, c.snapshot)
	if away(err) {
		return nil, err
	}
	if is := c.same(); is != nil {
		err = is // which says more
	}
	if err != nil && client != nil {
		err = errors.Join(err, client.Close())
	}
	return client, err
}

// same returns an error if what has the snapshot's tag is another one by now.
func (c *lastingContent) same() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.app.timeout)
	defer cancel()
	list, err := c.target.list(ctx)
	if err != nil {
		return err
	}
	s := c.snapshot
	if !slices.ContainsFunc(list, func(now admin.Snapshot) bool { return now.Tag == s.Tag && now.Generation == s.Generation }) {
		return fmt.Errorf("%w: snapshot %d was deleted while no server had the store: \"ddsnap hold\" keeps one from that", store.ErrNoSnapshot, s.Tag)
	}
	return nil
}

// keep looks every now and then whether the connection has ended.
func (c *lastingContent) keep() {
	sector := make([]byte, 512)
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-c.ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
			_, _ = c.ReadAt(sector, 0) // an error is the next reader's as well
		}
	}
}

// Size implements [delta.Content].
func (c *lastingContent) Size() int64 { return c.size }

// ReadAt implements [delta.Content].
func (c *lastingContent) ReadAt(p []byte, off int64) (int, error) {
	for {
		client, err := c.current()
		if err != nil {
			return 0, err
		}
		n, err := client.ReadAt(p, off)
		if !away(err) {
			return n, err
		}
		c.again(client, err)
	}
}

func (c *lastingContent) current() (*nbdclient.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.err
}

// again opens the snapshot again, unless somebody has, since a client's connection ended.
func (c *lastingContent) again(ended *nbdclient.Client, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != ended || c.err != nil {
		return
	}
	_ = ended.Close()
	c.err = c.await(c.ctx, why, func() error {
		client, err := c.dial()
		if err == nil {
			c.client = client
		}
		return err
	})
}

// Close lets the snapshot go.
func (c *lastingContent) Close() error {
	c.stop()
	c.kept.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil { // it was closed when its connection ended
		return nil
	}
	return c.client.Close()
}
