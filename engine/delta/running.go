// SPDX-License-Identifier: Apache-2.0

package delta

import "github.com/zeebo/blake3"

// running is the digest of a whole delta, computed beside what else is done with its
// bytes. For one goroutine.
type running struct {
	hash *blake3.Hasher
	busy chan struct{} // closed when the last bytes are in; nil if they are
}

// worthwhile is how many bytes are worth a goroutine.
const worthwhile = 32 << 10

func newRunning() running { return running{hash: blake3.New()} }

// record takes in a record as it is coded: not the payload that Sum is of.
func (d *running) record(r *Record, p []byte) {
	if r.bare() {
		p = p[:recordSize]
	}
	d.take(p)
}

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
