// SPDX-License-Identifier: Apache-2.0

package compute

// Batched returns options by which so many sums are put at once.
func (o Options) Batched(n int) Options {
	o.batch = n
	return o
}
