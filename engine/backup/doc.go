// SPDX-License-Identifier: Apache-2.0

// Package backup keeps states of volumes in a repository: a chain of deltas for each
// volume, from a full image on, in a directory or an object store. FORMAT.md has the
// format.
//
// It owns what is in a repository and in which order it is written and removed, the
// locks of those who use it, what is kept for how long, and how a state is read without
// being restored. It does not own where objects are kept (package storage), how they are
// sealed (package seal), the deltas (package delta), or where the states come from:
// callers give it content. Command ddsnap calls it.
//
// A [Repository] and a [Reader] are safe for concurrent use, and several processes may
// use the same repository: who adds or reads shares it, who prunes has it alone. Whatever
// fails or is killed at whatever moment, each state that is listed is whole; what was
// written for one that is not is garbage, which [Repository.Prune] removes. Damage is
// [ErrDamaged]; nothing is ever read that was not verified.
package backup
