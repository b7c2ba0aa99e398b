// SPDX-License-Identifier: Apache-2.0

// Package digest says whether two volumes have the same content, and where they
// differ, without comparing their bytes.
//
// A volume's digest is the root of a Merkle tree over its content. The package owns
// the tree's shape and arithmetic: what is hashed, how a digest is brought up to date
// after a change, and how two trees are compared from their roots down. It reads no
// volume and keeps no sums: its callers do, in the store for snapshots. Nothing here is
// safe for concurrent use unless it says so.
package digest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
)

// The tree's shape, the same for all volumes. Part of the format, must not change.
const (
	LeafSize = 1 << 20 // of the content that a leaf is of, in bytes
	Fanout   = 256     // children of a node
	Height   = 5       // level of the root; leaves have level 0

	// MaxSize is the largest volume that the tree has leaves for, in bytes.
	MaxSize = int64(LeafSize) << (8 * Height)
)

// What is hashed begins with a byte that tells leaves, nodes and roots apart.
const (
	leafPrefix = iota
	nodePrefix
	rootPrefix
)

// Sum is the SHA-256 of a leaf, a node or a whole volume.
type Sum [sha256.Size]byte

// String returns it in hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// ParseSum is the reverse of String.
func ParseSum(text string) (s Sum, err error) {
	if p, err := hex.DecodeString(text); err == nil && len(p) == len(s) {
		return Sum(p), nil
	}
	return s, fmt.Errorf("digest %q is not %d hexadecimal digits", text, 2*len(s))
}

// Node names a node: the Index-th of its level.
type Node struct {
	Level uint8 // 0 is a leaf's, Height the topmost node's
	Index uint64
}

// Top is the node above all.
var Top = Node{Level: Height}

// Parent returns the node that n is a child of, and which child.
func (n Node) Parent() (Node, int) {
	return Node{n.Level + 1, n.Index / Fanout}, int(n.Index % Fanout)
}

// Child returns the i-th child.
func (n Node) Child(i int) Node { return Node{n.Level - 1, n.Index*Fanout + uint64(i)} }

// Leaves returns how many leaves a volume of size bytes has. The last one is hashed as
// if zeroes followed the volume's end.
func Leaves(size int64) uint64 { return (uint64(size) + LeafSize - 1) / LeafSize }

// OfLeaf returns the sum of a leaf with that content, at most LeafSize bytes, which
// zeroes follow.
func OfLeaf(content []byte) Sum {
	h := sha256.New()
	h.Write([]byte{leafPrefix})
	h.Write(content)
	for left := LeafSize - len(content); left > 0; {
		n := min(left, len(zeroes))
		h.Write(zeroes[:n])
		left -= n
	}
	return Sum(h.Sum(nil))
}

var zeroes [4096]byte

// ofNode returns the sum of a node of that level with those children.
func ofNode(level uint8, children *[Fanout]Sum) Sum {
	h := sha256.New()
	h.Write([]byte{nodePrefix, level})
	for i := range children {
		h.Write(children[i][:])
	}
	return Sum(h.Sum(nil))
}

// Of returns the digest of a volume of size bytes whose topmost node has that sum.
func Of(size int64, top Sum) Sum {
	p := make([]byte, 0, 1+8+len(top))
	p = append(p, rootPrefix)
	p = binary.LittleEndian.AppendUint64(p, uint64(size))
	return Sum(sha256.Sum256(append(p, top[:]...)))
}

// Zero returns the sum of a node of that level above nothing but zeroes. Such sums need
// not be kept. It is safe for concurrent use.
func Zero(level uint8) Sum { return zeroSums()[level] }

var zeroSums = sync.OnceValue(func() (sums [Height + 1]Sum) {
	sums[0] = OfLeaf(nil)
	var children [Fanout]Sum
	for level := 1; level <= Height; level++ {
		for i := range children {
			children[i] = sums[level-1]
		}
		sums[level] = ofNode(uint8(level), &children)
	}
	return sums
})
