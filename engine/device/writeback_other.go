// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package device

// writeBack is nil where no instructions to write back cache lines are known:
// msync serves there.
var writeBack func(p []byte)
