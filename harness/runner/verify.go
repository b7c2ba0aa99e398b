// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
)

// errContent is wrapped when a snapshot or the origin does not read as it must.
var errContent = errors.New("wrong content")

// verifiedOps is how many writes a verification makes.
const verifiedOps = 96

// verify builds a stack, makes a snapshot, overwrites some of the origin, and
// reads both back: figures of a stack that returns wrong data are worth nothing.
func (b *bench) verify(ctx context.Context, c stack.Config) (err error) {
	st, err := b.bed.Build(c)
	if err != nil {
		return err
	}
	defer closeAll([]*stack.Stack{st}, &err)
	n := int(max(1, min(verifiedOps, c.Origin/c.ChunkSize, c.StoreSize/c.ChunkSize/3)))
	a := newAddresses(b.seed, c.Origin, c.ChunkSize, b.Block, n)
	before, err := contents(ctx, st.Device(), &a)
	if err != nil {
		return err
	}
	const tag = block.Tag(1)
	if err := st.Snapshot(tag); err != nil {
		return err
	}
	if _, err := drive(ctx, st, a.slice(0, 1), 8, b.newVersion()); err != nil {
		return err
	}
	snap, err := st.Open(tag, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	kept, err := contents(ctx, snap, &a)
	if err != nil {
		return err
	}
	after, err := contents(ctx, st.Device(), &a)
	if err != nil {
		return err
	}
	for i := range before {
		if !bytes.Equal(kept[i], before[i]) {
			return fmt.Errorf("%s: %w: the snapshot has changed at %d", c.Variant, errContent, a.op(i).Off)
		}
		if bytes.Equal(after[i], before[i]) {
			return fmt.Errorf("%s: %w: the origin lost the write at %d", c.Variant, errContent, a.op(i).Off)
		}
	}
	return nil
}

// contents reads the chunks that the addresses are in.
func contents(ctx context.Context, d device.Device, a *addresses) ([][]byte, error) {
	all := make([][]byte, a.n)
	for i := range all {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		all[i] = device.Buffer(int(a.chunk))
		if _, err := d.ReadAt(all[i], a.op(i).Off/a.chunk*a.chunk); err != nil {
			return nil, err
		}
	}
	return all, nil
}
