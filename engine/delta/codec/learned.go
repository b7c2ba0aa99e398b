// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"math"
	"slices"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/delta/zstddict"
)

// contender is a codec at a level that best may take.
type contender struct {
	id    ID
	level int
	speed float64 // bytes a second, of content, until it is known better
}

// contenders are few, since a worker holds the memory of each that it used: some
// 40 MiB together for extents of 1 MiB.
var contenders = []contender{
	{Raw, 0, 4e9}, {Zstd, 1, 250e6}, {Zstd, 3, 150e6}, {ZstdPatch, 3, 70e6},
	{Similar, 1, 90e6}, {Similar, 7, 60e6}, {Similar, 11, 25e6},
}

// Numbers of contenders. The heaviest holds some 72 MiB, so all workers share
// one, and it is taken where only bytes count and there are some to gain. The
// lightest is like the reference, but for effort: it is taken where time counts.
const (
	fastest   = 1
	lightest  = 4
	reference = 5
	heaviest  = 6

	heavyContent = 64 << 10 // bytes of an extent for which it is always taken
	heavyPayload = 1 << 10  // bytes that the reference makes of such a one, at least

	// For what is smaller a call of it takes as long, some 10 ms.
	smallPayload = 128  // bytes that the reference makes of the smallest
	smallSaved   = 0.05 // of the reference's bytes, for which it is worth that
	smallFew     = 4    // extents of a kind that are left as they are: there may be no more
	smallTrials  = 3    // extents of a kind from which that is learned
	smallBetween = 8    // extents of a kind between trials where it is not
)

// tally is how a contender fares with a kind. What is old counts less.
type tally struct {
	content, coded float64 // bytes
	seconds        float64
	tried          int // extents
}

func (t *tally) ratio() float64       { return t.coded / t.content }
func (t *tally) secondsByte() float64 { return t.seconds / t.content }

// memory is after how many bytes of content what came before counts half.
const memory = 64 << 20

func (t *tally) add(content, coded int, seconds float64) {
	if t.tried++; t.tried == 1 {
		*t = tally{tried: 1} // the guess has served
	}
	if t.content > memory {
		t.content, t.coded, t.seconds = t.content/2, t.coded/2, t.seconds/2
	}
	t.content, t.coded, t.seconds = t.content+float64(content), t.coded+float64(coded), t.seconds+seconds
}

// Learned is what choosers of the same delta learn from each other: how each
// codec fares with each kind of extent. They are to have the same Extent and
// Similar. Safe for concurrent use.
type Learned struct {
	mu      sync.Mutex
	tallies [kinds][]tally
	extents [kinds]int
	small   [kinds]gain
	figures []Figure

	heavyMu sync.Mutex // held while the heaviest works
	heavy   *zstddict.Encoder
}

// Figure is how a codec fared over all extents on which it was tried.
type Figure struct {
	Codec   ID
	Level   int
	Extents int   // on which it was tried
	Chosen  int   // for which its payload was taken
	Content int64 // bytes of those on which it was tried
	Coded   int64 // bytes that it made of them
	Spent   time.Duration
}

// gain is what the heaviest saved where the reference had left little.
type gain struct {
	saved, of     int // bytes, of those of the reference
	tried, passed int // extents: on which it was tried, or not
}

// little reports whether content of which the reference made coded bytes is too small for
// the heaviest to be always worth its time.
func little(content, coded int) bool { return content < heavyContent || coded < heavyPayload }

// worthHeavy reports whether the heaviest is to code again content of which the reference
// made coded bytes: what is little only if it saves enough with others of the kind.
func (l *Learned) worthHeavy(k kind, content, coded int) bool {
	if !little(content, coded) {
		return true
	}
	if coded < smallPayload {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.small[k.number()]
	if g.passed >= smallFew && (g.tried < smallTrials || float64(g.saved) >= smallSaved*float64(g.of)) {
		return true
	}
	g.passed++
	return g.passed%smallBetween == 0
}

// saved records what the heaviest made of content of which the reference made coded bytes.
func (l *Learned) saved(k kind, content, coded, heaviest int) {
	if !little(content, coded) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.small[k.number()]
	g.tried++
	g.saved, g.of = g.saved+max(0, coded-heaviest), g.of+coded
}

// NewLearned returns a table that knows nothing yet.
func NewLearned() *Learned {
	l := &Learned{}
	for _, c := range contenders {
		l.figures = append(l.figures, Figure{Codec: c.id, Level: c.level})
	}
	return l
}

// Figures returns how each codec fared, by their numbers and levels.
func (l *Learned) Figures() []Figure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.figures)
}

// guess is the tally of what was never tried: by what the kind says alone.
func guess(c contender, k kind) tally {
	const n = 4096
	ratio := []float64{0.06, 0.25, 0.5, 1}[k.entropy]
	left := 1 - []float64{0, 0.4, 0.9}[k.same]
	switch c.id {
	case Raw:
		ratio = 1
	case Zstd:
		ratio *= 1.1 - float64(c.level)/30
	case ZstdPatch:
		ratio *= left
	case Similar:
		left = min(left, 1-[]float64{0, 0.5, 0.95}[k.found])
		ratio *= left * (1 - float64(c.level)/100)
	}
	return tally{content: n, coded: n * ratio, seconds: n / c.speed}
}

// cost returns what n bytes of content cost by a tally: seconds where the link is
// known, else bytes.
func cost(t *tally, n int, link float64) float64 {
	return price(t.ratio()*float64(n), t.secondsByte()*float64(n), link)
}

// price weighs coded bytes with seconds of a processor.
func price(coded, seconds, link float64) float64 {
	if link == 0 {
		return coded
	}
	return coded*8/link + seconds
}

const (
	worthTrying = 2.0 // times the best cost, of what was never tried
	worthTime   = 1.2 // the same where trying takes of what counts
	worthAgain  = 4.0 // times the best cost, of what is tried again now and then
	mostBetween = 64  // extents of a kind between trials
)

// plan returns the contenders to try on n bytes of the kind: first what is
// expected to be best, then what is worth finding out, or the runner-up only
// where that is expected not to be. It also returns the ratio expected of the
// first.
func (l *Learned) plan(k kind, n int, link float64, usable func(int) bool) (try []int, runnerUp int, ratio float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	table := l.tallies[k.number()]
	if table == nil {
		for _, c := range contenders {
			table = append(table, guess(c, k))
		}
		l.tallies[k.number()] = table
	}
	best, second := -1, -1
	costs := make([]float64, len(contenders))
	for i := range contenders {
		if costs[i] = cost(&table[i], n, link); !usable(i) {
			costs[i] = math.Inf(1)
			continue
		}
		switch {
		case best < 0 || costs[i] < costs[best]:
			best, second = i, best
		case second < 0 || costs[i] < costs[second]:
			second = i
		}
	}
	seen := l.extents[k.number()]
	l.extents[k.number()]++
	again := seen > 0 && (seen%mostBetween == 0 || seen < mostBetween && seen&(seen-1) == 0)
	turn := seen % len(contenders)
	worth := worthTrying
	if link > 0 {
		worth = worthTime
	}
	try = []int{best}
	for i := range contenders {
		fresh := table[i].tried == 0 && costs[i] <= worth*costs[best]
		if i != best && (fresh || again && i == turn && costs[i] <= worthAgain*costs[best]) {
			try = append(try, i)
		}
	}
	return try, second, table[best].ratio()
}

// note records a trial.
func (l *Learned) note(k kind, i, content, coded int, spent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tallies[k.number()][i].add(content, coded, spent.Seconds())
	f := &l.figures[i]
	f.Extents++
	f.Content += int64(content)
	f.Coded += int64(coded)
	f.Spent += spent
}

func (l *Learned) chose(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures[i].Chosen++
}
