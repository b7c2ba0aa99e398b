// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far a run has come: a bar on a terminal, else a line now and
// then. Its methods are called by one goroutine; the bar draws itself in another.
type progress struct {
	out   io.Writer
	bar   *mpb.Bar // nil without a terminal
	bars  *mpb.Progress
	total time.Duration // all guesses together
	began time.Time

	mu      sync.Mutex    // guards what follows
	done    time.Duration // the guesses of what has ended
	current time.Duration // that of what is under way
	text    string
	printed time.Time
}

// lineEvery is how often a line is printed at most.
const lineEvery = 10 * time.Second

func newProgress(out io.Writer, terminal bool, total time.Duration) *progress {
	p := &progress{out: out, total: max(total, 1), began: time.Now()}
	if !terminal {
		return p
	}
	p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40))
	p.bar = p.bars.AddBar(int64(p.total),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.show(func() string { return p.text }) }, decor.WC{W: 24, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.Name("  "), decor.Any(func(decor.Statistics) string { return p.show(p.left) })),
	)
	return p
}

// show calls f with the lock held.
func (p *progress) show(f func() string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f()
}

// begin ends what was under way, and says what is now and what part of the whole
// it is.
func (p *progress) begin(text string, guess time.Duration) {
	p.mu.Lock()
	p.done += p.current
	p.text, p.current = text, guess
	done, left := p.done, p.left()
	line := p.bar == nil && time.Since(p.printed) >= lineEvery
	if line {
		p.printed = time.Now()
	}
	p.mu.Unlock()
	if line {
		fmt.Fprintf(p.out, "%3d%%  %-24s %s\n", 100*done/p.total, text, left)
	}
	if p.bar != nil { // without the lock: it may wait for what draws
		p.bar.SetCurrent(int64(min(done, p.total-1)))
	}
}

// left says how much time is left, once enough has gone by to tell. The lock is
// held.
func (p *progress) left() string {
	spent := time.Since(p.began)
	if spent < 2*time.Second || p.done <= 0 {
		return ""
	}
	left := time.Duration(float64(spent) / float64(p.done) * float64(max(0, p.total-p.done)))
	return fmt.Sprintf("about %v left", left.Round(time.Second))
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}
