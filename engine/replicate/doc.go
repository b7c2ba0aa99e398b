// SPDX-License-Identifier: Apache-2.0

// Package replicate sends snapshots of a volume to copies of it on other machines.
//
// It owns the protocol, which PROTOCOL.md specifies: what is asked and answered, when a
// peer is taken to be gone, and from where on a transfer that was cut goes on. It does
// not own the form of what is sent (package delta), how a copy becomes the newer state
// (package replica), or who may talk to whom (package pin): it takes any connection,
// and believes who is on the other side. Command ddsnap calls it, on both sides.
//
// [Send] and [Receiver.Serve] are one session each, and [Deliver] as many as it takes.
// Any number may run at a time; of one [Receiver], one at a time receives. A session
// that fails leaves a copy that is the older snapshot, or half the newer one, and says so;
// the next one carries again at most the record that was being written. How far a copy is
// is noted in its store, durably and only after the content, and compared before it is believed.
//
// What a peer sends is bounded before it is kept: a frame is at most [MaxFrame] bytes,
// and package delta bounds the rest. Memory of a session beside that of the delta: two
// frames, and a piece of the volume of 1 MiB.
package replicate
