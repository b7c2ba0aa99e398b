// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"encoding/binary"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/digest"
)

// A frame of nodes names nodes of a digest's tree, all of one level:
//
//	0  1  level, 1 to digest.Height
//	1  8  index
//
// That of sums has, for each, the sums of its children.
const (
	nodeSize  = 9
	sumsSize  = digest.Fanout * len(digest.Sum{})
	mostNodes = MaxFrame / sumsSize // in a frame
)

func encodeNodes(nodes []digest.Node) []byte {
	p := make([]byte, 0, len(nodes)*nodeSize)
	for _, n := range nodes {
		p = binary.LittleEndian.AppendUint64(append(p, n.Level), n.Index)
	}
	return p
}

// decodeNodes returns the nodes of a frame, which are of the tree.
func decodeNodes(p []byte) (nodes []digest.Node, err error) {
	for ; len(p) >= nodeSize; p = p[nodeSize:] {
		n := digest.Node{Level: p[0], Index: binary.LittleEndian.Uint64(p[1:])}
		if n.Level == 0 || n.Level > digest.Height || n.Index>>(8*(digest.Height-n.Level)) != 0 {
			return nil, fmt.Errorf("%w: node %d of level %d", ErrProtocol, n.Index, n.Level)
		}
		nodes = append(nodes, n)
	}
	if len(p) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the nodes", ErrProtocol, len(p))
	}
	return nodes, nil
}

func encodeSums(sums [][digest.Fanout]digest.Sum) []byte {
	p := make([]byte, 0, len(sums)*sumsSize)
	for i := range sums {
		for j := range sums[i] {
			p = append(p, sums[i][j][:]...)
		}
	}
	return p
}

// remoteTree is the tree of the copy.
type remoteTree struct {
	ask    func(nodes []byte) ([]byte, error)
	leaves uint64 // of the volume
}

// Children implements digest.Tree. What is beyond the volume's end must be zeroes.
func (t remoteTree) Children(nodes []digest.Node) (sums [][digest.Fanout]digest.Sum, err error) {
	for part := range slices.Chunk(nodes, mostNodes) {
		p, err := t.ask(encodeNodes(part))
		if err != nil {
			return nil, err
		}
		if len(p) != len(part)*sumsSize {
			return nil, fmt.Errorf("%w: %d bytes of sums of %d nodes", ErrProtocol, len(p), len(part))
		}
		for _, n := range part {
			var children [digest.Fanout]digest.Sum
			for i := range children {
				p = p[copy(children[i][:], p):]
				child := n.Child(i)
				if child.Index<<(8*child.Level) >= t.leaves && children[i] != digest.Zero(child.Level) {
					return nil, fmt.Errorf("%w: content after the volume's end", ErrProtocol)
				}
			}
			sums = append(sums, children)
		}
	}
	return sums, nil
}
