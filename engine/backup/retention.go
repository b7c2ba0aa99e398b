// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"fmt"
	"slices"
	"time"
)

// Retention says which points of a volume are kept: the newest Last ones, and the newest
// of each of the last so many days, weeks, months and years in which there is one. A week
// begins on Monday. Negative numbers keep all; with nothing but zeroes, all is kept, too.
type Retention struct {
	Last, Daily, Weekly, Monthly, Yearly int
	Zone                                 *time.Location // of days; nil: UTC
}

// Keeps reports whether the retention keeps all.
func (o Retention) keepsAll() bool {
	return o.Last == 0 && o.Daily == 0 && o.Weekly == 0 && o.Monthly == 0 && o.Yearly == 0
}

// Kept returns, for each point, why it is kept, or nothing. Points are oldest first, and
// of any volumes, each of which is judged by itself.
func (o Retention) Kept(points []Point) [][]string {
	kept := make([][]string, len(points))
	if o.keepsAll() {
		o.Last = -1
	}
	zone := o.Zone
	if zone == nil {
		zone = time.UTC
	}
	for _, rule := range []struct {
		name   string
		n      int
		period func(time.Time, int) string
	}{
		{"last", o.Last, func(_ time.Time, i int) string { return fmt.Sprint(i) }},
		{"daily", o.Daily, func(t time.Time, _ int) string { return t.Format(time.DateOnly) }},
		{"weekly", o.Weekly, func(t time.Time, _ int) string { y, w := t.ISOWeek(); return fmt.Sprint(y, w) }},
		{"monthly", o.Monthly, func(t time.Time, _ int) string { return t.Format("2006-01") }},
		{"yearly", o.Yearly, func(t time.Time, _ int) string { return t.Format("2006") }},
	} {
		type volume = [16]byte
		last := map[volume]string{}
		count := map[volume]int{}
		for i, p := range slices.Backward(points) {
			v := volume(p.Snapshot.Store)
			period := rule.period(p.Created().In(zone), i)
			if seen, ok := last[v]; ok && seen == period || rule.n >= 0 && count[v] >= rule.n {
				continue
			}
			last[v] = period
			count[v]++
			kept[i] = append(kept[i], rule.name)
		}
	}
	return kept
}
