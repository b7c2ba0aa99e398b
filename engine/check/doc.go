// SPDX-License-Identifier: Apache-2.0

// Package check reads a store without the code that writes it: it verifies every
// structure and how they fit together, prints them, and measures them.
//
// It owns a second opinion. It knows the format (package layout, FORMAT.md) and
// nothing else: no tree, allocator or log of the engine, so that a mistake there
// is found here. It never writes, and does not repair. The command line calls it,
// and tests call it after every recovery (see checktest). A store that was not
// closed is judged by what recovery would make of it: its logs are replayed
// virtually, and the devices must not change meanwhile. Of a store in use one
// checkpoint is judged, which its owner keeps whole for that long (store.Pin, and
// Options.Superblock). Checks of different stores share nothing. Damage of any kind is reported and never
// stops, panics or hangs a check; what cannot be judged because something else
// is damaged is left out, and said to be.
//
// # Memory
//
// A check takes two bits a slot and one bit a tree page, for those parts of
// their areas that are in use; 64 bytes a copy in the log since the last
// checkpoint; 64 bytes a snapshot; and when the two trees of exceptions turn
// out not to be mirrors, also a thousandth of their entries, but 2^18 at least.
package check
