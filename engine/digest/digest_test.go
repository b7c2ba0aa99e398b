// SPDX-License-Identifier: Apache-2.0

package digest_test

import (
	"crypto/sha256"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/digest"
)

// tree keeps sums as a store does: those of zeroes are left out.
type tree struct {
	sums  map[digest.Node]digest.Sum
	asked int // for nodes
}

func newTree() *tree { return &tree{sums: map[digest.Node]digest.Sum{}} }

func (t *tree) sum(n digest.Node) digest.Sum {
	if s, ok := t.sums[n]; ok {
		return s
	}
	return digest.Zero(n.Level)
}

// children is for both interfaces.
func (t *tree) children(n digest.Node, sums *[digest.Fanout]digest.Sum) {
	for i := range sums {
		sums[i] = t.sum(n.Child(i))
	}
}

type base struct{ *tree }

func (b base) Children(n digest.Node, sums *[digest.Fanout]digest.Sum) error {
	b.children(n, sums)
	return nil
}

type compared struct{ *tree }

func (c compared) Children(nodes []digest.Node) ([][digest.Fanout]digest.Sum, error) {
	sums := make([][digest.Fanout]digest.Sum, len(nodes))
	for i, n := range nodes {
		c.children(n, &sums[i])
		c.asked++
	}
	return sums, nil
}

// update returns a tree in which the leaves are as they say.
func (t *tree) update(tt *testing.T, leaves map[uint64]digest.Sum) (*tree, digest.Sum) {
	next := newTree()
	maps.Copy(next.sums, t.sums)
	seen := map[digest.Node]bool{}
	u := digest.NewUpdate(base{t}, func(n digest.Node, s digest.Sum) error {
		require.False(tt, seen[n], "%v comes twice", n)
		seen[n] = true
		next.sums[n] = s
		if s == digest.Zero(n.Level) {
			delete(next.sums, n)
		}
		return nil
	})
	for _, i := range slices.Sorted(maps.Keys(leaves)) {
		require.NoError(tt, u.Leaf(i, leaves[i]))
	}
	top, err := u.Top()
	require.NoError(tt, err)
	require.Equal(tt, top, next.sum(digest.Top))
	return next, top
}

// naive is the sum of a node by its definition.
func naive(n digest.Node, leaves map[uint64]digest.Sum) digest.Sum {
	first, width := n.Index, uint64(1)
	for range n.Level {
		first, width = first*digest.Fanout, width*digest.Fanout
	}
	some := false
	for i := range leaves {
		some = some || i >= first && i-first < width
	}
	if !some {
		return digest.Zero(n.Level)
	}
	if n.Level == 0 {
		return leaves[n.Index]
	}
	h := sha256.New()
	h.Write([]byte{1, n.Level})
	for i := range digest.Fanout {
		s := naive(n.Child(i), leaves)
		h.Write(s[:])
	}
	return digest.Sum(h.Sum(nil))
}

func TestUpdatesAddUp(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		now, content := newTree(), map[uint64]digest.Sum{}
		for range 6 {
			changed := map[uint64]digest.Sum{}
			for range rng.IntN(8) {
				i := rng.Uint64N(1 << rng.IntN(41))
				changed[i] = digest.Sum{byte(rng.Uint32()), 1}
				if rng.IntN(4) == 0 {
					changed[i] = digest.Zero(0)
				}
			}
			before, was := now, maps.Clone(content)
			maps.Copy(content, changed)
			var top digest.Sum
			now, top = before.update(t, changed)
			require.Equal(t, naive(digest.Top, content), top, "seed %d", seed)

			var want, got []uint64
			for i, s := range changed {
				old, ok := was[i]
				if !ok {
					old = digest.Zero(0)
				}
				if s != old {
					want = append(want, i)
				}
			}
			slices.Sort(want)
			now.asked = 0
			for i, err := range digest.Diff(compared{before}, compared{now}) {
				require.NoError(t, err)
				got = append(got, i)
			}
			require.Equal(t, want, got, "seed %d", seed)
			require.LessOrEqual(t, now.asked, 1+digest.Height*len(want), "only what differs is asked for")
		}
	}
}

func TestSumsAreOfTheWholeContent(t *testing.T) {
	leaf := make([]byte, digest.LeafSize)
	require.Equal(t, digest.Zero(0), digest.OfLeaf(leaf))
	require.Equal(t, digest.OfLeaf(leaf), digest.OfLeaf(leaf[:12345]), "zeroes follow")
	leaf[digest.LeafSize-1] = 1
	require.NotEqual(t, digest.Zero(0), digest.OfLeaf(leaf))
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	require.Equal(t, digest.Sum(h.Sum(nil)), digest.OfLeaf(leaf))

	top := digest.Zero(digest.Height)
	require.NotEqual(t, digest.Of(4096, top), digest.Of(8192, top), "the size is part of it")
	require.EqualValues(t, 0, digest.Leaves(0))
	require.EqualValues(t, 1, digest.Leaves(1))
	require.EqualValues(t, 2, digest.Leaves(digest.LeafSize+1))
}

// TestRootsDoNotChange holds the arithmetic to what it was when it was written.
func TestRootsDoNotChange(t *testing.T) {
	require.Equal(t, "f64b6fd8509d373deb130f07f2762d455a23258994d649995bf570815aa5107d", digest.Of(0, digest.Zero(digest.Height)).String())
}

func TestLeavesComeInOrder(t *testing.T) {
	none := func(digest.Node, digest.Sum) error { return nil }
	for _, second := range []uint64{5, 4, digest.Leaves(digest.MaxSize)} {
		u := digest.NewUpdate(digest.Nothing{}, none)
		require.NoError(t, u.Leaf(5, digest.Sum{}))
		require.Error(t, u.Leaf(second, digest.Sum{}))
		_, err := u.Top()
		require.Error(t, err)
	}
	failing := errors.New("no room")
	u := digest.NewUpdate(digest.Nothing{}, func(n digest.Node, _ digest.Sum) error {
		if n.Level == 2 {
			return failing
		}
		return nil
	})
	require.NoError(t, u.Leaf(0, digest.Sum{}))
	_, err := u.Top()
	require.ErrorIs(t, err, failing)
}

// short answers for one node less than it is asked for.
type short struct{ compared }

func (s short) Children(nodes []digest.Node) ([][digest.Fanout]digest.Sum, error) {
	sums, err := s.compared.Children(nodes)
	return sums[1:], err
}

func TestTreesThatFail(t *testing.T) {
	tt := newTree()
	for _, pair := range [][2]digest.Tree{{short{compared{tt}}, compared{tt}}, {compared{tt}, short{compared{tt}}}} {
		n := 0
		for _, err := range digest.Diff(pair[0], pair[1]) {
			require.Error(t, err)
			n++
		}
		require.Equal(t, 1, n)
	}
}

func TestParseSum(t *testing.T) {
	s := digest.Zero(3)
	got, err := digest.ParseSum(s.String())
	require.NoError(t, err)
	require.Equal(t, s, got)
	for _, bad := range []string{"", "zz", s.String()[2:], s.String() + "00"} {
		_, err := digest.ParseSum(bad)
		require.Error(t, err)
	}
}
