// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"zumastor.org/zumastor/results"
)

// Options say what a recorder stands before.
type Options struct {
	// Now is the clock. If it is Virtual, one goroutine issues all requests, and what
	// devices do between them is a class of its own.
	Now     func() time.Duration
	Virtual bool
	Chunk   int64 // bytes
	// Bound says that there is no server: each group of writes copies for itself.
	Bound  bool
	Origin int64 // bytes; where the store is taken to begin
}

// Recorder notes where the time of requests goes. Between Begin and End it looks;
// otherwise it costs a comparison.
type Recorder struct {
	o       Options
	data    int64 // where the data area begins on the store, bytes
	on      atomic.Bool
	every   atomic.Uint32 // one request of so many is looked at
	traffic traffic
	slots   [places]slot
	active  atomic.Int64 // requests under way, looked at or not; of a virtual clock only

	mu      sync.Mutex // guards what follows
	depth   int
	looked  int64 // requests and their time, for every
	spent   time.Duration
	classes map[string]*class
	work    work
	batches [recent]batch
	next    int // of batches
}

// New returns a recorder that is off.
func New(o Options) *Recorder {
	r := &Recorder{o: o, classes: map[string]*class{}}
	r.every.Store(1)
	return r
}

// DataAt says where the data area begins on the store, in bytes; what is before it is
// metadata. To be called before Begin.
func (r *Recorder) DataAt(off int64) { r.data = off }

// What one look costs, and which part of the time of requests it may take.
const (
	costOfLook = 250 * time.Nanosecond
	mostCost   = 0.005
	mostEvery  = 64
)

// Begin begins to look, at requests of which depth are under way at once. What was
// noted before is forgotten.
func (r *Recorder) Begin(depth int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.depth = max(1, depth)
	r.looked, r.spent = 0, 0
	r.every.Store(1)
	r.classes = map[string]*class{}
	r.work, r.batches = work{}, [recent]batch{}
	r.traffic.reset()
	r.on.Store(true)
}

// Pause stops looking until Resume; what was noted is kept.
func (r *Recorder) Pause() { r.on.Store(false) }

// Resume goes on after Pause.
func (r *Recorder) Resume() { r.on.Store(true) }

// End stops looking and returns what was noted since Begin, but for what the driver
// knows. No request may be under way.
func (r *Recorder) End() results.Account {
	r.on.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	a := results.Account{Flows: r.traffic.flows(), Distances: r.traffic.distances()}
	for _, name := range classNames {
		if c := r.classes[name]; c != nil {
			a.Classes = append(a.Classes, c.result(name))
		}
	}
	r.classes = map[string]*class{}
	return a
}

// chosen returns how many requests the next one stands for, zero if nobody looks at it.
// So what is looked at more closely, for a while, does not count for more.
func (r *Recorder) chosen() int64 {
	if !r.on.Load() {
		return 0
	}
	n := r.every.Load()
	if n > 1 && rand.Uint32N(n) != 0 {
		return 0
	}
	return int64(n)
}

// adapt chooses how many requests to look at. The lock is held.
func (r *Recorder) adapt(took time.Duration) {
	r.looked++
	r.spent += took
	if r.o.Virtual || r.spent <= 0 {
		return
	}
	// Depth requests share the time, so each has a part of it to be looked at.
	share := float64(r.spent) / float64(r.looked) / float64(r.depth)
	r.every.Store(uint32(min(mostEvery, max(1, float64(costOfLook)/mostCost/share))))
}

// places is how many requests can be looked at at a time, recent how many batches are
// remembered.
const (
	placeBits = 10
	places    = 1 << placeBits
	recent    = 64
)

// slot is a request that is looked at, for those who see its operations on devices.
type slot struct {
	buffer       atomic.Uintptr // of the request; zero: free; one: taken
	began, ended atomic.Int64   // its own operation on a device; ended is -1 if there was none
	stored       atomic.Bool    // that was on the store
	stands       int64          // for so many requests; of who took the place
}

// none is the end of an operation that did not take place.
const none = -1

// times returns from when to when the request's operation took place, and lets go of
// the place; ok is false if it did not.
func (s *slot) times() (own span, stands int64, ok bool) {
	own, stands = span{time.Duration(s.began.Load()), time.Duration(s.ended.Load())}, s.stands
	s.buffer.Store(0)
	return own, stands, own.end != none
}

// slotOf returns the place of requests with a buffer, which is known by its address.
func (r *Recorder) slotOf(p []byte) (*slot, uintptr) {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return &r.slots[(uint64(at)*0x9e3779b97f4a7c15)>>(64-placeBits)], at
}

// enter takes a place for a request, nil if it is not looked at.
func (r *Recorder) enter(p []byte) *slot {
	if len(p) == 0 {
		return nil
	}
	stands := r.chosen()
	if stands == 0 {
		return nil
	}
	s, at := r.slotOf(p)
	if !s.buffer.CompareAndSwap(0, 1) {
		return nil // another one is there
	}
	s.stands = stands
	s.ended.Store(none)
	s.stored.Store(false)
	s.buffer.Store(at)
	return s
}

// find returns the request that an operation of a device belongs to, nil if none that
// is looked at.
func (r *Recorder) find(p []byte) *slot {
	if len(p) == 0 {
		return nil
	}
	if s, at := r.slotOf(p); s.buffer.Load() == at {
		return s
	}
	return nil
}

// own notes that a request's operation on a device took place.
func (s *slot) own(began, ended time.Duration, stored bool) {
	if s == nil {
		return
	}
	if s.ended.Load() == none {
		s.began.Store(int64(began))
	}
	s.ended.Store(int64(ended))
	if stored {
		s.stored.Store(true)
	}
}
