// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"zumastor.org/zumastor/engine/replicate"
)

// transfers shows how far snapshots are on their ways to several targets.
type transfers struct {
	app    *app
	mu     sync.Mutex    // guards standard error, for lines
	bars   *mpb.Progress // nil: none are drawn
	lines  bool
	ending []func()
}

// transfers returns what shows so many transfers, if anybody would see it.
func (a *app) transfers(targets int) *transfers {
	t := &transfers{app: a, lines: a.show == progressJSON}
	if a.show == progressAuto && !a.json && isTerminal(a.Err) && targets > 0 {
		t.bars = mpb.New(mpb.WithOutput(a.Err), mpb.WithWidth(30))
	}
	return t
}

// target returns what shows one of them, which is to be called by one goroutine at a time.
func (t *transfers) target(name string) func(replicate.Progress) {
	switch {
	case t.bars != nil:
		return t.bar(name)
	case t.lines:
		return t.line(name)
	}
	return nil
}

// smoothing is over how many acknowledgements the rate that is shown goes.
const smoothing = 50

// bar draws a bar with bytes, rate and time left.
func (t *transfers) bar(name string) func(replicate.Progress) {
	b := t.bars.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" ")),
		mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f of % .1f "), decor.EwmaSpeed(decor.SizeB1024(0), "% .1f ", smoothing), decor.EwmaETA(decor.ET_STYLE_GO, smoothing)))
	t.ending = append(t.ending, func() { b.SetTotal(-1, true) })
	var last time.Time
	var done int64
	return func(p replicate.Progress) {
		b.SetTotal(max(p.Total, 1), false)
		now := time.Now()
		switch {
		case p.Done == p.Start: // a session begins: what is there counts for no rate
			b.SetCurrent(p.Done)
			b.SetRefill(p.Start)
		case p.Done != done:
			b.EwmaSetCurrent(p.Done, now.Sub(last))
		default:
			return
		}
		last, done = now, p.Done
	}
}

// transferLine is what --progress json prints, at most each second.
type transferLine struct {
	Doing string   `json:"doing"`
	To    string   `json:"to"`
	Done  int64    `json:"done"` // bytes that changed
	Total int64    `json:"total"`
	Sent  int64    `json:"sent_bytes"`             // by this session
	Rate  float64  `json:"bytes_per_second"`       // of what changed, in this session
	Left  *float64 `json:"seconds_left,omitempty"` // at that rate
}

func (t *transfers) line(name string) func(replicate.Progress) {
	var begin, last time.Time
	var before replicate.Progress
	return func(p replicate.Progress) {
		now := time.Now()
		if p.Sent <= before.Sent && p.Done <= p.Start { // a session begins
			begin, last = now, time.Time{}
		}
		before = p
		if now.Sub(last) < time.Second && p.Done < p.Total {
			return
		}
		last = now
		l := transferLine{Doing: "sending", To: name, Done: p.Done, Total: p.Total, Sent: p.Sent}
		if s := now.Sub(begin).Seconds(); s > 0 && p.Done > p.Start {
			l.Rate = float64(p.Done-p.Start) / s
			left := float64(p.Total-p.Done) / l.Rate
			l.Left = &left
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		_ = json.NewEncoder(t.app.Err).Encode(l) // nobody need listen
	}
}

// finish ends the show.
func (t *transfers) finish() {
	for _, end := range t.ending {
		end()
	}
	if t.bars != nil {
		t.bars.Wait()
	}
}
