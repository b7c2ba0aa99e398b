// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/store"
)

// Digest is what a store has of a snapshot's digest.
type Digest struct {
	Generation block.Generation `json:"generation,omitempty"`
	Size       int64            `json:"size_bytes,omitempty"` // of the snapshot
	Known      bool             `json:"known,omitempty"`
	Sum        string           `json:"digest,omitempty"` // hexadecimal; only if Known
	// Base is the snapshot that a digest begins with; nil: there is none.
	Base *Snapshot `json:"base,omitempty"`
	// Leaves is up to where the store has sums of any snapshot, of one that is begun.
	Leaves   uint64 `json:"leaves,omitempty"`
	Children []byte `json:"children,omitempty"` // sums of the children of the node asked for
}

// DigestSums name a node of a digest, or are sums to be put.
type DigestSums struct {
	Generation block.Generation `json:"generation"`
	Level      uint8            `json:"level,omitempty"`
	Index      uint64           `json:"index,omitempty"`
	Sums       []byte           `json:"sums,omitempty"` // as AppendDigest codes them
}

// MaxDigests is how many sums fit into a request.
const MaxDigests = 64

// digestSize is the size of a coded sum: of level, index and the sum itself.
const digestSize = 1 + 8 + len(digest.Sum{})

// AppendDigest codes the sum of a node for a request.
func AppendDigest(dst []byte, n digest.Node, s digest.Sum) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, n.Level), n.Index)
	return append(dst, s[:]...)
}

func decodeDigests(p []byte) ([]store.DigestNode, error) {
	if len(p)%digestSize != 0 {
		return nil, fmt.Errorf("%w: sums of %d bytes", ErrRequest, len(p))
	}
	list := make([]store.DigestNode, 0, len(p)/digestSize)
	for ; len(p) > 0; p = p[digestSize:] {
		n := digest.Node{Level: p[0], Index: binary.LittleEndian.Uint64(p[1:])}
		if n.Level > digest.Height || n.Index >= digest.Leaves(digest.MaxSize)>>(8*n.Level) {
			return nil, fmt.Errorf("%w: a digest has no node %v", ErrRequest, n)
		}
		list = append(list, store.DigestNode{Node: n, Sum: digest.Sum(p[9:digestSize])})
	}
	return list, nil
}

// digest carries out the verbs of digests.
func (l Local) digest(r Request) (*Digest, error) {
	switch r.Verb {
	case VerbDigest:
		d, err := l.Store.Digest(r.Snapshot.wire())
		if err != nil || !d.Known {
			return &Digest{Generation: d.Snapshot.Generation, Size: d.Snapshot.Size}, err
		}
		return &Digest{Generation: d.Snapshot.Generation, Size: d.Snapshot.Size, Known: true, Sum: d.Sum.String()}, nil
	case VerbDigestBegin:
		return l.beginDigest(*r.Snapshot)
	case VerbDigestChildren:
		var sums [digest.Fanout]digest.Sum
		err := l.Store.DigestChildren(r.Digest.Generation, digest.Node{Level: r.Digest.Level, Index: r.Digest.Index}, &sums)
		d := &Digest{Generation: r.Digest.Generation}
		for i := range sums {
			d.Children = append(d.Children, sums[i][:]...)
		}
		return d, err
	case VerbDigestPut:
		sums, err := decodeDigests(r.Digest.Sums)
		if err != nil {
			return nil, err
		}
		return nil, l.Store.PutDigests(r.Digest.Generation, sums)
	}
	l.Store.EndDigest(r.Digest.Generation)
	return nil, nil
}

func (l Local) beginDigest(ref Ref) (*Digest, error) {
	snap, base, err := l.Store.BeginDigest(ref.wire())
	if err != nil {
		return nil, err
	}
	leaves, err := l.Store.DigestLeaves()
	if err != nil {
		return nil, err
	}
	d := &Digest{Generation: snap.Generation, Size: snap.Size, Leaves: leaves}
	for _, s := range l.Store.Snapshots() {
		if base != 0 && s.Generation == base {
			found := describe(s)
			d.Base = &found
		}
	}
	return d, nil
}
