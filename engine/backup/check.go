// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/delta"
)

// CheckOptions say how much is checked.
type CheckOptions struct {
	// Data has every object read and all content made of it. Without it, manifests, the
	// names and sizes of all objects, and headers and indexes of all deltas are verified.
	Data bool
	// Progress is told how many bytes of the deltas are done of how many; it may be nil.
	Progress func(done, total int64)
}

// CheckResult is what a check found.
type CheckResult struct {
	Points  int
	Objects int
	Bytes   int64   // of the objects
	Garbage int     // objects that nothing needs; they do no harm
	Wrong   []error // each wraps ErrDamaged or ErrVersion
	Bad     map[string]bool
}

// Check verifies a repository, with a shared lock unless it is told that the caller has
// one. It returns an error only if it could not be checked.
func (r *Repository) Check(ctx context.Context, o CheckOptions) (*CheckResult, error) {
	points, bad, err := r.Points(ctx)
	if err != nil {
		return nil, err
	}
	c := &checking{r: r, o: o, res: &CheckResult{Points: len(points), Wrong: bad, Bad: map[string]bool{}}}
	if err := c.objects(ctx, points); err != nil {
		return nil, err
	}
	for i := range points {
		c.total += points[i].Delta.Bytes
	}
	reader := r.NewReader()
	for i := range points {
		err := c.point(ctx, reader, &points[i])
		switch {
		case err == nil:
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion) || errors.Is(err, ErrNoPoint):
			c.res.Bad[points[i].ID] = true
			c.res.Wrong = append(c.res.Wrong, fmt.Errorf("%s cannot be restored: %w", points[i].ID, err))
		default:
			return nil, err
		}
	}
	return c.res, nil
}

// checking is one run of Check.
type checking struct {
	r           *Repository
	o           CheckOptions
	res         *CheckResult
	done, total int64
}

// objects compares what is there with what is needed.
func (c *checking) objects(ctx context.Context, points []Point) error {
	list, err := c.r.storage.List(ctx, dataPrefix)
	if err != nil {
		return fmt.Errorf("listing the objects: %w", err)
	}
	sizes := make(map[string]int64, len(list))
	for _, o := range list {
		sizes[o.Name] = o.Size
		c.res.Objects++
		c.res.Bytes += o.Size
	}
	c.res.Garbage = len(list)
	for i := range points {
		p := &points[i]
		for k := range p.parts() {
			name, n := p.part(k)
			size, there := sizes[name]
			if there {
				c.res.Garbage--
			}
			if !there || size != seal.SealedSize(n) {
				c.res.Bad[p.ID] = true
				c.res.Wrong = append(c.res.Wrong, fmt.Errorf("%w: backup %s: %s has %d bytes, and is to have %d", ErrDamaged, p.ID, name, size, seal.SealedSize(n)))
			}
		}
	}
	return nil
}

// point verifies that a point can be read.
func (c *checking) point(ctx context.Context, reader *Reader, p *Point) error {
	m, err := reader.Image(ctx, p.ID)
	if err != nil {
		return err
	}
	if c.o.Data {
		if err := c.content(ctx, m, p); err != nil {
			return damaged(err)
		}
	}
	if c.done += p.Delta.Bytes; c.o.Progress != nil {
		c.o.Progress(c.done, c.total)
	}
	return nil
}

// content reads a delta to its end, and has the content made of all its records.
func (c *checking) content(ctx context.Context, m *Image, p *Point) error {
	r, err := delta.NewReader(io.NewSectionReader(&data{ctx, m.reader.blocks, p}, 0, p.Delta.Bytes))
	if err != nil {
		return err
	}
	made := int64(-1) // the window that was made
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && r.Summary() != p.Delta:
			return fmt.Errorf("%w: backup %s: its delta is not what its manifest says", ErrDamaged, p.ID)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if w := rec.Offset / m.window; w != made && rec.Kind != delta.KindZero {
			if _, err := m.at(rec.Offset); err != nil {
				return err
			}
			made = w
		}
		if c.o.Progress != nil {
			c.o.Progress(c.done+r.Summary().Bytes, c.total)
		}
	}
}
