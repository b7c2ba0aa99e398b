// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"crypto/sha256"
	"hash"
)

// running is the digest of a whole delta, computed beside what else is done with its
// bytes: it takes as long as all other sums of a raw delta together. For one goroutine.
type running struct {
	hash hash.Hash
	busy chan struct{} // closed when the last bytes are in; nil if they are
}

// worthwhile is how many bytes are worth a goroutine.
const worthwhile = 32 << 10

func newRunning() running { return running{hash: sha256.New()} }

// take begins to take in p, which must not change before the next call of any method.
func (d *running) take(p []byte) {
	d.wait()
	if len(p) < worthwhile {
		d.hash.Write(p)
		return
	}
	busy := make(chan struct{})
	d.busy = busy
	go func() {
		defer close(busy)
		d.hash.Write(p)
	}()
}

// wait returns when all that was taken is in.
func (d *running) wait() {
	if d.busy != nil {
		<-d.busy
		d.busy = nil
	}
}

// sum returns the digest of all that was taken.
func (d *running) sum() [32]byte {
	d.wait()
	return [32]byte(d.hash.Sum(nil))
}
