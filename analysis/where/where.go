// SPDX-License-Identifier: Apache-2.0

// Package where says where the time of requests went, from the accounts of a run.
//
// It owns what is made of an account: the bars of a class of requests, the critical
// path, the traffic for each byte that was asked for, distances, and the check of the
// stages' sum against what the load's driver has timed. It measures nothing and draws
// nothing; report shows what it returns. Functions are pure; accounts without requests
// are left out. Measured and modelled accounts must not meet in one call, which is the
// caller's to see to.
package where

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/results"
)

// Classes that are no requests of the load's: the flushes in between, and what is done
// in the background.
const (
	flush   = "flush"
	between = "between requests"
)

// firstWrite is the class with the longest path.
const firstWrite = "first write"

// Check is the sum of an account's stages against wall time.
type Check struct {
	Looked, Requests int64 // how many groups of requests were looked at; how many requests there were
	// Stages is the time of all requests by their stages, scaled from those that were
	// looked at; Wall is what the driver has timed by itself. Nanoseconds.
	Stages, Wall float64
	// Error is the standard error of Stages, for not all were looked at.
	Error float64
}

// Difference returns how much more the stages are than the wall time, of the latter.
func (c Check) Difference() float64 { return c.Stages/c.Wall - 1 }

// Tolerance is how much stages and wall time may differ.
const Tolerance = 0.05

// Verdict says what follows from a check.
type Verdict string

// The verdicts.
const (
	Agree   Verdict = "agree"
	Sampled Verdict = "sampled" // more than Tolerance apart, but within two standard errors of what was looked at
	Differ  Verdict = "DIFFER"  // some time is missing, or counted twice
)

// Verdict compares.
func (c Check) Verdict() Verdict {
	switch apart := math.Abs(c.Stages - c.Wall); {
	case apart <= Tolerance*c.Wall:
		return Agree
	case apart <= 2*c.Error:
		return Sampled
	}
	return Differ
}

// Checked returns the check of an account; ok is false if there is nothing to compare.
func Checked(a results.Account) (c Check, ok bool) {
	var others, stand float64 // the requests that are stood for
	for _, class := range a.Classes {
		sum := 0.0
		for _, s := range class.Stages {
			sum += float64(s.Nanoseconds)
		}
		if class.Name == flush || class.Name == between {
			others += sum
			continue
		}
		c.Stages += sum
		c.Looked += class.Looked
		stand += float64(class.Requests)
	}
	c.Requests, c.Wall = a.Requests, float64(a.Nanoseconds)
	if c.Looked == 0 || c.Wall <= 0 {
		return c, false
	}
	n, all := min(float64(c.Looked), float64(c.Requests)), float64(c.Requests)
	c.Stages = c.Stages*all/stand + others
	c.Error = a.Deviation * all / math.Sqrt(n) * math.Sqrt(max(0, 1-n/all))
	return c, true
}

// label names an account by those of its settings that differ among all.
func label(a results.Account, all []results.Account) string {
	var parts []string
	for _, p := range a.Config {
		same := !slices.ContainsFunc(all, func(o results.Account) bool { return o.Config.Get(p.Key) != p.Value })
		if !same || p.Key == "variant" {
			parts = append(parts, settingText(p.Key, p.Value))
		}
	}
	return strings.Join(parts, ", ")
}

// settingText says a setting in a word or two.
func settingText(key, value string) string {
	switch key {
	case "chunk":
		return quantity.Bytes(value)
	case "qd":
		return "qd " + value
	case "snapshots":
		return value + " held"
	}
	return value
}

// common names the settings that all accounts share, but for the variant.
func common(all []results.Account) string {
	var parts []string
	for _, p := range all[0].Config {
		differs := slices.ContainsFunc(all, func(o results.Account) bool { return o.Config.Get(p.Key) != p.Value })
		if !differs && p.Key != "variant" {
			parts = append(parts, settingText(p.Key, p.Value))
		}
	}
	return strings.Join(parts, ", ")
}

// sorted returns the accounts in the order of reports: by operation, model, queue depth,
// snapshots, chunk and variant.
func sorted(all []results.Account) []results.Account {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b results.Account) int {
		for _, key := range []string{"op", "model", "qd", "snapshots", "chunk", "variant"} {
			x, y := a.Config.Get(key), b.Config.Get(key)
			if c := compare(key, x, y); c != 0 {
				return c
			}
		}
		return 0
	})
	return all
}

// known are the orders of words.
var known = map[string][]string{
	"op":      {"firstwrite", "sequential", "rewrite", "read", "read-shared", "read-stored", "write-chunk"},
	"model":   {"", "hdd", "ssd", "nvme"},
	"variant": {"raw", "copybound", "inline", "disk", "nvram", "pmem"},
}

func compare(key, x, y string) int {
	if order := known[key]; order != nil {
		return cmp.Or(cmp.Compare(slices.Index(order, x), slices.Index(order, y)), cmp.Compare(x, y))
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)) // numbers
}

// split divides accounts by the values of keys, in order of their first.
func split(all []results.Account, keys ...string) [][]results.Account {
	var parts [][]results.Account
	at := map[string]int{}
	for _, a := range all {
		var id strings.Builder
		for _, key := range keys {
			id.WriteString(a.Config.Get(key) + "/")
		}
		i, found := at[id.String()]
		if !found {
			i = len(parts)
			at[id.String()] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], a)
	}
	return parts
}
