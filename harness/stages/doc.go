// SPDX-License-Identifier: Apache-2.0

// Package stages finds where the time and the traffic of a stack's requests go,
// without privileges and without changes of the engine.
//
// It owns the [Recorder], which stands at four places: before the volume, where
// requests begin and end; before the origin's device, the store's and the journal's;
// and before the server. From when each of them is asked, and for what, it puts
// together the stages of every request that it looks at: a batch is known by the
// chunks that it reports, the request's own operation on a device by the address of
// its buffer. It does not see what happens within the engine: that is what is left
// between two of those times, and has a name of its own where only one thing happens
// there. It owns neither the devices nor the settings; package stack puts the recorder
// in, package runner asks it.
//
// A request is looked at if there is time: at least one in 64, and so many that the
// cost of it stays below 1 % (see [Recorder.Begin]); on a model, whose clock is
// virtual, all are. Operations of devices and their bytes are counted always. All
// methods are safe for concurrent use. Nothing fails: what cannot be told is part of
// the stage before.
package stages
