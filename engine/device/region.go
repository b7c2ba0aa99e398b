// SPDX-License-Identifier: Apache-2.0

package device

// Region is persistent memory, or a file that stands in for it: bytes that are
// loaded and stored directly, with an explicit persistence domain.
//
// ReadAt and WriteAt move exactly len(p) bytes, at any alignment, or fail and
// move none. What WriteAt stored is durable once a Persist of its range, begun
// after, has returned; until then a power cut may keep or lose each aligned word
// of 8 bytes of it, even if nobody asked for it to be written. Persist is for the
// caller's own stores: whoever wants another goroutine's to be durable
// must first have synchronised with it. Concurrent use of disjoint ranges is
// safe. Errors about ranges wrap [ErrRange].
type Region interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Persist(off, n int64) error
	Size() int64
	Close() error
}
