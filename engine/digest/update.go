// SPDX-License-Identifier: Apache-2.0

package digest

import "fmt"

// Base is the tree that an update begins with.
type Base interface {
	// Children sets sums to those of the children of n.
	Children(n Node, sums *[Fanout]Sum) error
}

// Nothing is the tree of a volume of zeroes.
type Nothing struct{}

// Children implements [Base].
func (Nothing) Children(n Node, sums *[Fanout]Sum) error {
	for i := range sums {
		sums[i] = Zero(n.Level - 1)
	}
	return nil
}

// Update makes the tree of a volume from that of an older state of it, and from the
// leaves that have changed. It holds one node a level, 40 KiB.
type Update struct {
	base Base
	emit func(n Node, s Sum) error
	open [Height + 1]opened // by level; 0 is not used
	next uint64             // the least leaf that may come
	err  error
}

// opened is a node of which some child has changed.
type opened struct {
	node     Node
	is       bool
	children [Fanout]Sum
}

// NewUpdate returns an update of base. It calls emit once with each node whose sum may
// have changed, children before their parents, and in ascending order within a level.
func NewUpdate(base Base, emit func(n Node, s Sum) error) *Update {
	return &Update{base: base, emit: emit}
}

// Leaf says what a leaf's sum is now. Leaves come in ascending order, each once.
func (u *Update) Leaf(index uint64, s Sum) error {
	if u.err == nil && (index < u.next || index >= Leaves(MaxSize)) {
		u.err = fmt.Errorf("leaf %d of a digest after leaf %d", index, u.next)
	}
	u.next = index + 1
	u.set(Node{0, index}, s)
	return u.err
}

// set takes in a node's sum, and closes what is left of it.
func (u *Update) set(n Node, s Sum) {
	if u.err == nil {
		u.err = u.emit(n, s)
	}
	if u.err != nil || n.Level == Height {
		return
	}
	parent, i := n.Parent()
	o := &u.open[parent.Level]
	if o.is && o.node != parent {
		u.shut(parent.Level)
	}
	if !o.is && u.err == nil {
		o.node, o.is = parent, true
		u.err = u.base.Children(parent, &o.children)
	}
	o.children[i] = s
}

// shut ends the open node of a level: no more of its children change.
func (u *Update) shut(level uint8) {
	o := &u.open[level]
	o.is = false
	u.set(o.node, ofNode(level, &o.children))
}

// Top ends the update and returns the sum of the topmost node.
func (u *Update) Top() (top Sum, err error) {
	for level := uint8(1); level < Height && u.err == nil; level++ {
		if u.open[level].is {
			u.shut(level)
		}
	}
	o := &u.open[Height]
	if u.err == nil && !o.is {
		o.node = Top
		u.err = u.base.Children(Top, &o.children)
	}
	if u.err == nil {
		top = ofNode(Height, &o.children)
		u.err = u.emit(Top, top)
	}
	return top, u.err
}
