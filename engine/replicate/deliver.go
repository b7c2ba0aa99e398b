// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// DeliverOptions say how often it is tried. The zero value is valid.
type DeliverOptions struct {
	SendOptions
	// GiveUp is after how long without any progress it is given up; zero:
	// DefaultGiveUp; negative: with the first error.
	GiveUp time.Duration
	// Failed is told why a session ended, and when the next one begins. It may be nil.
	Failed func(err error, next time.Duration)
}

// DefaultGiveUp is after how long without progress a delivery is given up.
const DefaultGiveUp = 15 * time.Minute

// The pauses between sessions double from the first one on.
const (
	firstPause = time.Second
	mostPause  = time.Minute
)

// Deliver sends a snapshot in as many sessions as it takes, each on a connection that
// dial makes, with growing pauses; any progress makes them short again. An error of dial
// that does not wrap [ErrConnection] is final, as are those of [Send] but for a receiver
// that is busy, or whose server is away.
func Deliver(ctx context.Context, dial func(context.Context) (io.ReadWriteCloser, error), o Offer, opts DeliverOptions) (Sent, error) {
	if opts.GiveUp == 0 {
		opts.GiveUp = DefaultGiveUp
	}
	pause, since := firstPause, time.Now()
	var best int64
	for {
		moved := false
		send := opts.SendOptions
		send.Progress = func(p Progress) {
			if p.Done > best {
				best, moved = p.Done, true
			}
			if opts.Progress != nil {
				opts.Progress(p)
			}
		}
		sent, err := try(ctx, dial, o, send)
		if err == nil || !again(err) || opts.GiveUp < 0 || ctx.Err() != nil {
			return sent, err
		}
		if moved {
			pause, since = firstPause, time.Now()
		}
		wait := pause/2 + rand.N(pause/2)
		if time.Since(since)+wait > opts.GiveUp {
			return sent, fmt.Errorf("giving up: %w", err)
		}
		if opts.Failed != nil {
			opts.Failed(err, wait)
		}
		pause = min(2*pause, mostPause)
		select {
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

func try(ctx context.Context, dial func(context.Context) (io.ReadWriteCloser, error), o Offer, opts SendOptions) (Sent, error) {
	conn, err := dial(ctx)
	if err != nil {
		return Sent{}, err
	}
	return Send(ctx, conn, o, opts)
}

// again reports whether another session may do better.
func again(err error) bool {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Code == CodeBusy || r.Code == CodeAway
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return false // of TLS: the other side does not want this key
	}
	return errors.Is(err, ErrConnection)
}
