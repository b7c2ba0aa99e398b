// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/results"
)

// streams carries a raw delta of all of a volume in memory over a Unix socket to a file,
// which is flushed, and applies such a delta from a file, in turns with writing the same
// bytes, flushed as well, and copying them in memory.
type streams struct {
	bench
	tmp     string
	content []byte
	scratch []byte
	delta   string
}

const (
	streamChunk  = 4096
	streamExtent = 1 << 20
)

func (x *streams) prepare(ctx context.Context) (err error) {
	if x.tmp, err = os.MkdirTemp(x.dir, "zbench-"); err != nil {
		return err
	}
	x.content, x.scratch = make([]byte, x.Origin), make([]byte, x.Origin)
	rng := rand.NewChaCha8([32]byte{byte(x.seed)})
	if _, err := rng.Read(x.content); err != nil {
		return err
	}
	x.delta = filepath.Join(x.tmp, "delta")
	f, err := os.Create(x.delta)
	if err != nil {
		return err
	}
	return errors.Join(x.encode(ctx, f, false), f.Close())
}

func (x *streams) close() error {
	if x.tmp == "" {
		return nil
	}
	return os.RemoveAll(x.tmp)
}

// encode writes the delta of all of the content: applied as it comes, or to be kept.
func (x *streams) encode(ctx context.Context, w io.Writer, streamed bool) error {
	o := delta.EncodeOptions{
		Header:    delta.Header{ChunkSize: streamChunk, Extent: streamExtent, Codecs: []codec.ID{codec.Raw}, To: delta.End{Identity: delta.Identity{Generation: block.Generation(1)}, Size: x.Origin}},
		Chooser:   func() (codec.Chooser, error) { return codec.NewFixed(codec.Raw, codec.Options{}) },
		QuickSums: streamed, // as for a transmit
	}
	_, err := delta.Encode(ctx, w, delta.Source{Target: bytes.NewReader(x.content), Extents: []delta.Extent{{Length: x.Origin}}}, o)
	return err
}

// round takes each way once, in an order drawn anew. Each writes to a file that is there
// and is written over.
func (x *streams) round(ctx context.Context, n int) (all []results.Sample, err error) {
	ways := []struct {
		variant string
		do      func(context.Context) error
	}{{"write", x.write}, {"memory-copy", x.copy}, {"raw-stream", x.stream}, {"apply", x.apply}}
	rng := x.random(n)
	const slices = 2
	tallies := make([]tally, len(ways))
	err = inTurns(ctx, rng, slices, len(ways), func(v, _ int) error {
		began := time.Now()
		if err := ways[v].do(ctx); err != nil {
			return fmt.Errorf("%s: %w", ways[v].variant, err)
		}
		t := &tallies[v]
		t.elapsed, t.ops, t.bytes = t.elapsed+time.Since(began), t.ops+1, t.bytes+x.Origin
		return nil
	})
	if err != nil {
		return nil, err
	}
	for v := range ways {
		all = append(all, tallies[v].sample(x.Name, results.Measured, n, config("carry", ways[v].variant, 0, 0, noSnapshots, "")))
	}
	return all, nil
}

// open opens the file that is written over.
func (x *streams) open() (*os.File, error) {
	return os.OpenFile(filepath.Join(x.tmp, "output"), os.O_RDWR|os.O_CREATE, 0o600)
}

func (x *streams) write(context.Context) error {
	f, err := x.open()
	if err != nil {
		return err
	}
	for at := int64(0); at < x.Origin; at += streamExtent {
		if _, err := f.WriteAt(x.content[at:min(at+streamExtent, x.Origin)], at); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func (x *streams) copy(context.Context) error {
	copy(x.scratch, x.content)
	return nil
}

func (x *streams) stream(ctx context.Context) error {
	ln, err := net.Listen("unix", filepath.Join(x.tmp, "socket"))
	if err != nil {
		return err
	}
	defer ln.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("unix", ln.Addr().String())
		if err == nil {
			err = errors.Join(x.encode(ctx, c, true), c.Close())
		}
		sent <- err
	}()
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	return errors.Join(x.receive(ctx, c), c.Close(), <-sent)
}

func (x *streams) apply(ctx context.Context) error {
	f, err := os.Open(x.delta)
	if err != nil {
		return err
	}
	return errors.Join(x.receive(ctx, f), f.Close())
}

func (x *streams) receive(ctx context.Context, from io.Reader) error {
	r, err := delta.NewReader(from)
	if err != nil {
		return err
	}
	to, err := x.open()
	if err != nil {
		return err
	}
	_, err = delta.Apply(ctx, r, nil, delta.OnFile(to, x.Origin), delta.ApplyOptions{})
	return errors.Join(err, to.Close())
}
