// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func anyOf(int) bool { return true }

// TestLearnedPlan shows that what does well is taken, that this changes when it
// does so no more, and that others get a trial now and then.
func TestLearnedPlan(t *testing.T) {
	l := NewLearned()
	k := kind{entropy: 2}
	const n = 1 << 20
	teach := func(good int) {
		for range 300 {
			for i := range contenders {
				coded := n / 2
				if i == good {
					coded = n / 4
				}
				l.note(k, i, n, coded, time.Millisecond)
			}
		}
	}
	for _, good := range []int{2, 5, 3} {
		l.plan(k, n, 0, anyOf)
		teach(good)
		others := 0
		for range 1000 {
			try, runnerUp, ratio := l.plan(k, n, 0, anyOf)
			require.Equal(t, good, try[0])
			require.NotEqual(t, good, runnerUp)
			require.InDelta(t, 0.25, ratio, 0.03)
			others += len(try) - 1
		}
		require.Greater(t, others, 2)
		require.Less(t, others, 100)
	}
	try, _, _ := l.plan(k, n, 0, func(i int) bool { return contenders[i].id == Raw })
	require.Equal(t, []int{0}, try)
}

// TestLearnedLink shows how the link weighs against the processor.
func TestLearnedLink(t *testing.T) {
	l := NewLearned()
	k := kind{}
	const n = 1 << 20
	l.plan(k, n, 0, anyOf)
	for i := range contenders {
		l.note(k, i, n, n>>i, time.Duration(i*i*i)*time.Millisecond)
	}
	first := func(link float64) int {
		try, _, _ := l.plan(k, n, link, anyOf)
		return try[0]
	}
	require.Equal(t, heaviest, first(0))
	require.Equal(t, heaviest, first(1e4))
	require.Equal(t, 0, first(1e12))
	require.Equal(t, 1, first(2e9), "1 ms of the processor for 2 ms of the link")
}

func TestJudge(t *testing.T) {
	require.Equal(t, kind{}, judge(make([]byte, 4096), nil, 0, 0))
	require.Equal(t, kind{same: 2}, judge(make([]byte, 1<<20), make([]byte, 1<<20), 0, 9))
	half := append(make([]byte, 2048), []byte("changed")...)
	require.Equal(t, 1, judge(make([]byte, 5000), half, 1, 9).same)
	require.Equal(t, kind{found: 2}, judge(make([]byte, 5000), nil, 9, 9))
	require.Equal(t, kind{found: 1}, judge(make([]byte, 5000), nil, 4, 9))
	for i, want := range []int{0, 1, 2, 3} {
		content := make([]byte, 1<<16)
		for j := range content {
			content[j] = byte(j % []int{2, 20, 100, 256}[i])
		}
		require.Equal(t, want, judge(content, nil, 0, 0).entropy)
	}
	for number := range kinds {
		k := kind{number / 9, number / 3 % 3, number % 3}
		require.Equal(t, number, k.number())
	}
}

// TestWorthHeavy: what is large is always worth the heaviest; what is small where there is
// enough of it and the heaviest saved enough of it, and now and then again.
func TestWorthHeavy(t *testing.T) {
	const content, coded = 16 << 10, 300
	gains, loses := kind{entropy: 1, found: 2}, kind{entropy: 2, found: 2}
	l := NewLearned()
	require.True(t, l.worthHeavy(gains, heavyContent, heavyPayload))
	require.False(t, l.worthHeavy(gains, content, smallPayload-1))
	worth := func(k kind, heaviest int) (n int) {
		for range 200 {
			if l.worthHeavy(k, content, coded) {
				l.saved(k, content, coded, heaviest)
				n++
			}
		}
		return n
	}
	require.Equal(t, 200-smallFew, worth(gains, coded*9/10))
	require.Equal(t, smallTrials+(200-smallTrials)/smallBetween, worth(loses, coded*99/100))
	require.Equal(t, smallTrials+(200-smallTrials)/smallBetween, worth(kind{}, coded+50), "what grows saves nothing")
	l.saved(loses, heavyContent, 1<<20, 1)
	require.Equal(t, 200/smallBetween, worth(loses, coded), "of what is large nothing is learned for the small")
}

// TestWorkersShareTheLink: what takes twice as long to code for a saving of two thirds of its
// time on the link is worth that if three code at a time, and not if one does.
func TestWorkersShareTheLink(t *testing.T) {
	for workers, heavier := range map[int]bool{0: false, 1: false, 3: true} {
		c, err := NewBest(BestOptions{LinkBitsPerSecond: 8e6, Workers: workers})
		require.NoError(t, err)
		link := c.(*best).options.LinkBitsPerSecond
		light, heavy := price(3000, 0.003, link), price(1000, 0.006, link) // 3 and 1 ms on the link
		require.Equal(t, heavier, heavy < light, "%d workers", workers)
	}
}
