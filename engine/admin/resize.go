// SPDX-License-Identifier: Apache-2.0

package admin

import "context"

// Resize says what sizes there are to be, in bytes; what is zero stays.
type Resize struct {
	Origin int64 `json:"origin_bytes,omitempty"`
	Store  int64 `json:"store_bytes,omitempty"` // of the store device
	Meta   int64 `json:"meta_bytes,omitempty"`  // of the metadata device, if it has one
	DryRun bool  `json:"dry_run,omitempty"`     // only answer with the plan
	// Device is the size in bytes that whoever asks has found the origin's device to
	// have, where the server does not know it; zero: it was not looked at.
	Device int64 `json:"origin_device_bytes,omitempty"`
}

// ResizePlan says what a resize does. Sizes are in bytes, and rounded down to what
// is used.
type ResizePlan struct {
	Origin     int64  `json:"origin_bytes"`
	NewOrigin  int64  `json:"new_origin_bytes"`
	Store      int64  `json:"store_bytes"`
	NewStore   int64  `json:"new_store_bytes"`
	MinStore   int64  `json:"least_store_bytes"`
	Meta       int64  `json:"meta_bytes,omitempty"`
	NewMeta    int64  `json:"new_meta_bytes,omitempty"`
	MinMeta    int64  `json:"least_meta_bytes,omitempty"`
	CopyOut    uint64 `json:"copy_out_chunks"` // that the origin loses and snapshots keep
	MoveChunks uint64 `json:"move_chunks"`     // from the end of the store, at most
	MovePages  uint64 `json:"move_pages"`
}

// Shrinks reports whether something is to be less than it is.
func (p *ResizePlan) Shrinks() bool {
	return p.NewOrigin < p.Origin || p.NewStore < p.Store || p.NewMeta < p.Meta
}

// resize plans a resize, and does it unless it is a dry run.
func (l Local) resize(ctx context.Context, r *Resize) (*ResizePlan, error) {
	p, err := l.Store.PlanResize(r.Origin, r.Store, r.Meta)
	if err != nil {
		return nil, err
	}
	plan := &ResizePlan{
		Origin: p.OriginSize, NewOrigin: p.NewOriginSize, Store: p.StoreSize, NewStore: p.NewStoreSize, MinStore: p.MinStoreSize,
		Meta: p.MetaSize, NewMeta: p.NewMetaSize, MinMeta: p.MinMetaSize,
		CopyOut: p.CopyOut, MoveChunks: p.MoveChunks, MovePages: p.MovePages,
	}
	if r.DryRun {
		return plan, nil
	}
	ctx = context.WithoutCancel(ctx) // who has asked need not wait for it
	if r.Store != 0 || r.Meta != 0 {
		if err := l.Store.ResizeStore(ctx, r.Store, r.Meta, l.Progress); err != nil {
			return nil, err
		}
	}
	if r.Origin != 0 && r.Origin != p.OriginSize {
		if err := l.Store.ResizeOrigin(ctx, r.Origin, l.Progress); err != nil {
			return nil, err
		}
	}
	return plan, nil
}
