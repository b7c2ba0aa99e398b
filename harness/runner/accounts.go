// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"sync"
	"time"

	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
)

// ledger collects the accounts of a round. It is safe for concurrent use; one that is
// nil keeps nothing.
type ledger struct {
	mu  sync.Mutex
	all []results.Account
}

func (l *ledger) add(a results.Account) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, a)
}

// take returns what was collected, and forgets it.
func (l *ledger) take() []results.Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// driven is what the driver of a load knows of it, to be held against the account.
type driven struct {
	requests, read, written int64
	latencies               time.Duration // of all requests together
}

func (d *driven) add(r apply.Result) {
	for kind, c := range r.ByKind {
		switch workloads.Kind(kind) {
		case workloads.Read:
			d.requests += c.Ops
			d.read += c.Bytes
		case workloads.Write:
			d.requests += c.Ops
			d.written += c.Bytes
		}
		if c.Latency != nil {
			d.latencies += time.Duration(c.Latency.Mean() * float64(c.Latency.TotalCount()))
		}
	}
}

// look has the stacks find out where the time goes, until took.
func look(depth int, all ...*stack.Stack) {
	for _, st := range all {
		if r := st.Look(); r != nil {
			r.Begin(depth)
		}
	}
}

// took ends that for a stack, and keeps its account as that of a sample's setting.
// Grouped says that requests were submitted in groups, of which only all together were
// timed.
func (b *bench) took(st *stack.Stack, t *tally, grouped bool, s results.Sample) {
	if st.Look() == nil {
		return
	}
	a := st.Look().End()
	a.Experiment, a.Kind, a.Config = s.Experiment, s.Kind, s.Config
	a.Requests, a.ReadBytes, a.WrittenBytes = t.driven.requests, t.driven.read, t.driven.written
	a.Nanoseconds = int64(t.driven.latencies)
	if grouped || st.Modelled() || st.Bound() {
		a.Nanoseconds = int64(t.elapsed)
	} else if t.latency != nil {
		a.Deviation = t.latency.StdDev()
	}
	if a.Requests > 0 {
		b.accounts.add(a)
	}
}
