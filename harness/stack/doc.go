// SPDX-License-Identifier: Apache-2.0

// Package stack builds the device stacks that experiments run on, and takes them
// down again in reverse order.
//
// It owns [Bed], the origin and the room for stores on files, on a real block
// device, on a modelled disk or in memory, and [Stack], one variant that stands
// on it: the bare origin, the engine at a placement, or [CopyBound]. It does not
// issue workloads or take times, though a bed says what time it is. Package
// runner and the export command call it. Several stacks may stand on one bed, in
// separate places of its store; each is used by one goroutine, its device by
// many. They share the origin: what one writes another's snapshots do not keep.
// Whatever fails while something is built is taken down again.
package stack
