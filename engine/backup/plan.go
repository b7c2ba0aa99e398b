// SPDX-License-Identifier: Apache-2.0

package backup

import "fmt"

// plan decides what becomes of the points, which are oldest first.
func plan(points []Point, o PruneOptions) ([]Pruned, error) {
	list := make([]Pruned, len(points))
	at := make(map[string]int, len(points))
	for i, reasons := range o.Kept(points) {
		list[i] = Pruned{Point: points[i], Kept: reasons}
		at[points[i].ID] = i
	}
	order := byChain(list)
	for _, p := range order {
		if p.Base != "" {
			if _, ok := at[p.Base]; !ok {
				return nil, fmt.Errorf("nothing is pruned: %w: %s leads from %s, which is not there", ErrDamaged, p.ID, p.Base)
			}
		}
	}
	for _, p := range order { // those that others lead from first
		if x := &list[at[p.ID]]; len(x.Kept) > 0 {
			keepBase(list, at, x, o.Rewrite)
		}
	}
	return list, nil
}

// keepBase decides from what a point leads that is kept.
func keepBase(list []Pruned, at map[string]int, x *Pruned, how Rewrite) {
	hops := 0
	for id := x.Base; id != ""; id = list[at[id]].Base {
		b := &list[at[id]]
		if len(b.Kept) == 0 && (how == RewriteNothing || how == RewriteDeltas && b.Full()) {
			b.Kept = []string{"needed by " + x.ID}
		}
		if len(b.Kept) > 0 && how != RewriteNothing {
			if hops > 0 {
				x.NewBase, x.Rewritten = id, true
			}
			return
		}
		hops++
	}
	if how == RewriteAll && x.Base != "" { // it reached no point that is kept
		x.Rewritten = true
	}
}
