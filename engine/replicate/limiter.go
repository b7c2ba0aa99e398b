// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"sync"
	"time"
)

// Limiter bounds how many bytes a second are sent, over all that share it. The rate may
// change at any time, and counts at once for who waits. Safe for concurrent use. A nil
// Limiter does not limit.
type Limiter struct {
	mu      sync.Mutex
	rate    float64 // bytes a second; zero: no limit
	credit  float64 // bytes that may be sent; negative: too many were
	at      time.Time
	changed chan struct{}
}

// burst is for how long a rate may be saved up.
const burst = 50 * time.Millisecond

// NewLimiter returns a limiter of so many bytes a second; zero: no limit.
func NewLimiter(rate float64) *Limiter {
	return &Limiter{rate: max(rate, 0), at: time.Now(), changed: make(chan struct{})}
}

// SetRate changes the rate, bytes a second; zero: no limit.
func (l *Limiter) SetRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill()
	if l.rate == 0 {
		l.credit = 0
	}
	l.rate = max(rate, 0)
	close(l.changed)
	l.changed = make(chan struct{})
}

// Rate returns the rate.
func (l *Limiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}

// fill adds what the time since the last call allows. The lock is held.
func (l *Limiter) fill() {
	now := time.Now()
	l.credit = min(l.credit+now.Sub(l.at).Seconds()*l.rate, l.rate*burst.Seconds())
	l.at = now
}

// Wait takes n bytes, and returns when as many may be sent, or ctx ends.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	l.fill()
	l.credit -= float64(n)
	l.mu.Unlock()
	for {
		l.mu.Lock()
		l.fill()
		rate, credit, changed := l.rate, l.credit, l.changed
		l.mu.Unlock()
		if rate == 0 || credit >= 0 {
			return nil
		}
		t := time.NewTimer(time.Duration(-credit/rate*float64(time.Second)) + time.Nanosecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-changed:
			t.Stop()
		case <-t.C:
		}
	}
}
