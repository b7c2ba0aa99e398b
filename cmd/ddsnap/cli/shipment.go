// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/replicate"
)

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
	to, err := s.app.copyOf(ctx, s.target, s.snapshot)
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
		c, err := s.app.copyOf(ctx, s.target, snap)
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
	switch word := strings.TrimSpace(string(text)); word {
	case "": // it is just being written
		return nil
	case "none":
	default:
		if err := rate.Set(word); err != nil {
			return fmt.Errorf("%s: %w", x.rateFile, err)
		}
	}
	if bytes := float64(rate) / 8; bytes != x.limiter.Rate() {
		x.limiter.SetRate(bytes)
	}
	return nil
}
