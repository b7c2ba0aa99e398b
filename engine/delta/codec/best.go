// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/delta/similar"
)

// BestOptions of a chooser that looks for the best codec; the zero value is good.
type BestOptions struct {
	// Extent is the largest content in bytes: DefaultExtent where it is 0.
	Extent int
	// Similar is as in Options.
	Similar *similar.Index
	// Learned is shared by the choosers of a delta; nil for one of its own.
	Learned *Learned
	// LinkBitsPerSecond is the speed of the link that the delta goes over: what is
	// least is then the time on the link with that of the processor. With 0 it is
	// the bytes.
	LinkBitsPerSecond float64
	// Workers is how many choosers work at a time, while the link carries what they made:
	// what one spends delays the delta by its share. Zero: one.
	Workers int
	// Now is the clock, which goes on by what coding takes; nil for the system's.
	Now func() time.Duration
}

// best is a chooser. It holds the encoders that it tried.
type best struct {
	options  BestOptions
	learned  *Learned
	encoders []Encoder // by contender, nil before its first extent
	same     []byte
	kept     []byte // the payload that is best yet
	trial    []byte
}

// NewBest returns a chooser that takes for each extent the codec that is expected
// to cost least, and learns from what came of it. It looks at some of the content
// first: what is random and not in the base is left raw without coding it. For
// extents of 1 MiB it holds up to 30 MiB where only bytes count, else 40; and what
// shares Learned 72 MiB, where only bytes count.
func NewBest(o BestOptions) (Chooser, error) {
	checked, err := Options{Extent: o.Extent}.checked(Raw, 0)
	if err != nil {
		return nil, err
	}
	if o.LinkBitsPerSecond < 0 {
		return nil, fmt.Errorf("link of %g bits a second", o.LinkBitsPerSecond)
	}
	o.Extent = checked.Extent
	// bits/link + seconds/workers is least where bits/(link/workers) + seconds is.
	o.LinkBitsPerSecond /= float64(max(1, o.Workers))
	if o.Learned == nil {
		o.Learned = NewLearned()
	}
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Duration { return time.Since(start) }
	}
	return &best{options: o, learned: o.Learned, encoders: make([]Encoder, len(contenders))}, nil
}

func (b *best) Encode(dst, content []byte, offset int64, base Base) (ID, []byte, error) {
	var err error
	if b.same, err = samePlace(b.same, offset, len(content), base); err != nil {
		return 0, dst, err
	}
	if base != nil {
		base = &held{base, offset, b.same}
	}
	k := b.judge(content, base)
	if k == (kind{entropy: 3}) {
		random, err := b.random(content)
		if err != nil || random {
			return Raw, dst, err
		}
	}
	chosen, err := b.choose(k, content, offset, base)
	if err != nil {
		return 0, dst, err
	}
	b.learned.chose(chosen)
	if contenders[chosen].id == Raw {
		return Raw, dst, nil
	}
	return contenders[chosen].id, append(dst, b.kept...), nil
}

func (b *best) judge(content []byte, base Base) kind {
	found, samples := 0, 0
	if base != nil && b.options.Similar != nil {
		found, samples = b.options.Similar.Count(content[:min(len(content), lookMost)])
	}
	return judge(content, b.same, found, samples)
}

// random reports whether a part of content, at its middle, cannot be made
// smaller.
func (b *best) random(content []byte) (bool, error) {
	const part = 16 << 10
	from := max(0, len(content)/2-part/2)
	content = content[from:min(len(content), from+part)]
	e, err := b.encoder(fastest)
	if err != nil {
		return false, err
	}
	b.trial, err = e.Encode(b.trial[:0], content, 0, nil)
	return len(b.trial)*50 >= len(content)*49, err
}

// encoder returns a contender's encoder, which it makes when it is first used.
func (b *best) encoder(i int) (Encoder, error) {
	if b.encoders[i] == nil {
		c := contenders[i]
		e, err := NewEncoder(c.id, Options{Level: c.level, Extent: b.options.Extent, Similar: b.options.Similar})
		if err != nil {
			return nil, err
		}
		b.encoders[i] = e
	}
	return b.encoders[i], nil
}

// recode leaves the heaviest's payload in b.trial. The reference was just given the extent:
// only what it left is coded again, by the encoder that all workers share.
func (b *best) recode() error {
	reference := b.encoders[reference].(similarEncoder)
	b.learned.heavyMu.Lock()
	defer b.learned.heavyMu.Unlock()
	if b.learned.heavy == nil {
		e, err := similar.NewRest(contenders[heaviest].level, b.options.Extent)
		if err != nil {
			return err
		}
		b.learned.heavy = e
	}
	out, ok, err := reference.encoder.Recode(b.trial[:0], b.learned.heavy)
	b.trial = out
	if err == nil && !ok {
		err = unsuitable("similar: nothing is left to code")
	}
	return err
}

// choose leaves the best payload in b.kept, but for raw, and returns whose it is.
func (b *best) choose(k kind, content []byte, offset int64, base Base) (int, error) {
	link := b.options.LinkBitsPerSecond
	try, runnerUp, expected := b.learned.plan(k, len(content), link, func(i int) bool {
		return i != heaviest && (i != lightest || link > 0) && (base != nil || !contenders[i].id.NeedsBase())
	})
	if link == 0 && base != nil && !slices.Contains(try, reference) {
		try = append(try, reference) // means do not tell which is smaller this time
	}
	chosen, least, light := -1, 0.0, 0
	for at := 0; at < len(try); at++ {
		i := try[at]
		spent, err := b.attempt(i, k, content, offset, base)
		if err != nil {
			return 0, err
		}
		n := len(b.trial)
		if at == 0 && runnerUp >= 0 && !slices.Contains(try, runnerUp) && float64(n) > (1.5*expected+0.02)*float64(len(content)) {
			try = append(try, runnerUp) // not what was expected
		}
		switch {
		case link > 0:
		case i == reference && b.learned.worthHeavy(k, len(content), n):
			try, light = append(try, heaviest), n
		case i == heaviest:
			b.learned.saved(k, len(content), light, n)
		}
		if p := price(float64(n), spent.Seconds(), link); chosen < 0 || p < least {
			chosen, least = i, p
			b.kept, b.trial = b.trial, b.kept
		}
	}
	if len(b.kept) >= len(content) {
		return 0, nil
	}
	return chosen, nil
}

// attempt leaves a contender's payload in b.trial: the content itself where the
// codec does not do it.
func (b *best) attempt(i int, k kind, content []byte, offset int64, base Base) (time.Duration, error) {
	var err error
	start := b.options.Now()
	if i == heaviest {
		err = b.recode()
	} else {
		var e Encoder
		if e, err = b.encoder(i); err != nil {
			return 0, err
		}
		b.trial, err = e.Encode(b.trial[:0], content, offset, base)
	}
	spent := b.options.Now() - start
	if errors.Is(err, ErrUnsuitable) {
		b.trial, err = append(b.trial[:0], content...), nil
	}
	if err == nil {
		b.learned.note(k, i, len(content), len(b.trial), spent)
	}
	return spent, err
}
