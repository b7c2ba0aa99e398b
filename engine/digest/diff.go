// SPDX-License-Identifier: Apache-2.0

package digest

import (
	"fmt"
	"iter"
)

// Tree is asked for the sums of nodes, many at once.
type Tree interface {
	// Children returns the sums of the children of each of the nodes, in order. The
	// nodes are of one level.
	Children(nodes []Node) ([][Fanout]Sum, error)
}

// TreeOf returns what asks a base for node by node.
func TreeOf(b Base) Tree { return each{b} }

type each struct{ base Base }

// Children implements Tree.
func (e each) Children(nodes []Node) ([][Fanout]Sum, error) {
	sums := make([][Fanout]Sum, len(nodes))
	for i, n := range nodes {
		if err := e.base.Children(n, &sums[i]); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// DiffBatch is how many nodes Diff asks for at once, at most: 512 KiB of sums.
const DiffBatch = 64

// Diff yields the leaves at which two trees differ, in ascending order, or an error
// and no more. It asks for no node that both have alike, and holds at most DiffBatch
// nodes a level. Whoever knows that both digests are the same need not call it.
func Diff(a, b Tree) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		d := diff{a: a, b: b, yield: yield}
		d.below([]Node{Top})
	}
}

type diff struct {
	a, b  Tree
	yield func(uint64, error) bool
}

// below looks at the children of nodes, and reports whether to go on.
func (d *diff) below(nodes []Node) bool {
	as, err := children(d.a, nodes)
	if err != nil {
		d.yield(0, err)
		return false
	}
	bs, err := children(d.b, nodes)
	if err != nil {
		d.yield(0, err)
		return false
	}
	var batch []Node
	for i, n := range nodes {
		for j := range Fanout {
			if as[i][j] == bs[i][j] {
				continue
			}
			child := n.Child(j)
			if child.Level == 0 {
				if !d.yield(child.Index, nil) {
					return false
				}
				continue
			}
			if batch = append(batch, child); len(batch) == DiffBatch {
				if !d.below(batch) {
					return false
				}
				batch = batch[:0]
			}
		}
	}
	return len(batch) == 0 || d.below(batch)
}

// children asks a tree, which may be another machine's, and counts what it says.
func children(t Tree, nodes []Node) ([][Fanout]Sum, error) {
	sums, err := t.Children(nodes)
	if err == nil && len(sums) != len(nodes) {
		err = fmt.Errorf("digest: %d answers for %d nodes", len(sums), len(nodes))
	}
	return sums, err
}
