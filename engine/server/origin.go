// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// Fit asks the origin's client whether its device has the bytes that the origin is to
// have, and has what follows the origin's size do so: before it shrinks, and after any
// change. The error wraps block.ErrGeometry where the device is too small,
// [store.ErrNoOrigin] when there is no such client, and [wire.ErrAway] when it lives and
// has not come back.
func (l *Listener) Fit(ctx context.Context, size int64) error {
	c, err := l.originConn(wire.FeatureFit)
	if err != nil {
		return err
	}
	_, err = c.askFor(ctx, wire.TypeFit, func(dst []byte) []byte { return wire.AppendNumbers(dst, uint64(size)) })
	return err
}

// Manage has the process of the origin's client answer a request of the control socket,
// in JSON. The errors are those of [Listener.Fit], and that of ctx.
func (l *Listener) Manage(ctx context.Context, request []byte) ([]byte, error) {
	c, err := l.originConn(wire.FeatureManage)
	if err != nil {
		return nil, err
	}
	return c.askFor(ctx, wire.TypeManage, func(dst []byte) []byte { return append(dst, request...) })
}

// HasOrigin reports whether the origin has a client now.
func (l *Listener) HasOrigin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.origin != nil
}

// originConn returns the connection of the origin's client, which must know a feature.
func (l *Listener) originConn(feature uint64) (*conn, error) {
	l.mu.Lock()
	c := l.origin
	l.mu.Unlock()
	switch {
	case c == nil && l.originLives():
		return nil, fmt.Errorf("the origin's client: %w: it has not come back to this server yet", wire.ErrAway)
	case c == nil:
		return nil, store.ErrNoOrigin
	case c.features&feature == 0:
		return nil, fmt.Errorf("%w: it is of an older version, which cannot be asked this", store.ErrNoOrigin)
	}
	return c, nil
}
