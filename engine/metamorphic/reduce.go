// SPDX-License-Identifier: Apache-2.0

package metamorphic

import "slices"

// Reduce returns a part of ops, in order, that still fails and from which no
// single operation, and no operation of a vector, can be left out. It calls
// fails, which must be true of ops, at most limit times.
func Reduce(ops []Op, limit int, fails func([]Op) bool) []Op {
	try := func(candidate []Op) bool {
		if limit == 0 {
			return false
		}
		limit--
		return fails(candidate)
	}
	for step := max(1, len(ops)/2); ; step = max(1, step/2) {
		shorter := false
		for at := 0; at < len(ops); {
			without := slices.Concat(ops[:at], ops[min(at+step, len(ops)):])
			if try(without) {
				ops, shorter = without, true
			} else {
				at += step
			}
		}
		if step == 1 && !shorter {
			return reduceVectors(ops, try)
		}
	}
}

// reduceVectors leaves out operations of vectors, one by one.
func reduceVectors(ops []Op, try func([]Op) bool) []Op {
	for i := range ops {
		for at := 0; ops[i].Kind == Vector && at < len(ops[i].Ops); {
			shorter := slices.Clone(ops)
			shorter[i].Ops = slices.Delete(slices.Clone(ops[i].Ops), at, at+1)
			if try(shorter) {
				ops = shorter
			} else {
				at++
			}
		}
	}
	return ops
}
