// SPDX-License-Identifier: Apache-2.0

// Package quantity writes numbers for people: as many digits as mean something,
// and a prefix that keeps them short.
//
// It knows how units scale, not what they measure. Tables, figures and the
// report call it, so that one value reads the same everywhere. Its functions are
// pure and do not fail; what is no number is shown as "–".
package quantity

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/stats"
)

// None stands where there is no number.
const None = "–"

// Prefix is a scaled form of a unit.
type Prefix struct {
	// Factor is what a value is multiplied by.
	Factor float64
	// Unit is the scaled unit, such as "ms" or "k IOPS".
	Unit string
}

// PrefixFor returns the form of unit in which a value as large as v is short.
// Units of time in nanoseconds become ns, µs, ms or s; bytes take binary
// prefixes; rates take k and M; others stay.
func PrefixFor(v float64, unit string) Prefix {
	base, suffix := split(unit)
	switch base {
	case "ns":
		return pick(v, suffix, []step{{1e9, 1e-9, "s"}, {1e6, 1e-6, "ms"}, {1e3, 1e-3, "µs"}, {0, 1, "ns"}})
	case "B":
		return pick(v, suffix, []step{{1 << 30, 1.0 / (1 << 30), "GiB"}, {1 << 20, 1.0 / (1 << 20), "MiB"}, {1 << 10, 1.0 / (1 << 10), "KiB"}, {0, 1, "B"}})
	case "IOPS":
		return pick(v, suffix, []step{{1e6, 1e-6, "M IOPS"}, {1e4, 1e-3, "k IOPS"}, {0, 1, "IOPS"}})
	}
	return Prefix{1, unit}
}

// split takes "ns/op", "p99-ns" and "peak-B" apart into what scales and what follows.
func split(unit string) (base, suffix string) {
	base, rest, found := strings.Cut(unit, "/")
	if found {
		suffix = "/" + rest
	}
	if strings.HasSuffix(base, "-ns") {
		base = "ns"
	}
	if strings.HasSuffix(base, "-B") {
		base = "B"
	}
	return base, suffix
}

type step struct {
	from, factor float64
	unit         string
}

func pick(v float64, suffix string, steps []step) Prefix {
	for _, s := range steps {
		if math.Abs(v) >= s.from {
			return Prefix{s.factor, s.unit + suffix}
		}
	}
	return Prefix{1, suffix}
}

// Number writes v with three significant digits and without exponent from
// 0.001 to 10^9; whole numbers below 10^9 have all their digits, in groups.
func Number(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return None
	case v == 0:
		return "0"
	case a < 0.001 || a >= 1e9:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case v == math.Trunc(v) || a >= 1000:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	}
	return Decimals(v, max(0, 2-int(math.Floor(math.Log10(a)))))
}

// Decimals writes v with n digits after the point.
func Decimals(v float64, n int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return None
	}
	return strconv.FormatFloat(v, 'f', n, 64)
}

// grouped separates thousands with commas from five digits on.
func grouped(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	if len(digits) < 5 {
		return sign + digits
	}
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, parts...), ",")
}

// Value writes v with its unit, scaled: "1.25 ms/op".
func Value(v float64, unit string) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return None
	}
	p := PrefixFor(v, unit)
	return strings.TrimSpace(Number(v*p.Factor) + " " + p.Unit)
}

// Estimate writes the centre and how far the interval reaches from it at most,
// with the digits that the interval supports: "0.973 ±0.012". One value, or an
// interval of no width, is written alone.
func Estimate(e stats.Estimate) string {
	if e.N == 0 {
		return None
	}
	reach := max(e.Hi-e.Center, e.Center-e.Lo)
	if !(reach > 0) || math.IsInf(reach, 0) {
		return exact(e.Center)
	}
	// Two digits of the interval, but no more than three of the value.
	n := 1 - int(math.Floor(math.Log10(reach)))
	if e.Center != 0 {
		n = min(n, 2-int(math.Floor(math.Log10(math.Abs(e.Center)))))
	}
	n = min(max(n, 0), 6)
	return Decimals(e.Center, n) + " ±" + Decimals(reach, n)
}

// exact writes a value without an interval; near one it shows three decimals,
// for it may be a ratio.
func exact(v float64) string {
	if a := math.Abs(v); a >= 0.1 && a < 10 && v != math.Trunc(v) {
		return Decimals(v, 3)
	}
	return Number(v)
}

// Quantity writes an estimate in a scaled unit: "1.25 ±0.04 ms/op".
func Quantity(e stats.Estimate, unit string) string {
	if e.N == 0 {
		return None
	}
	p := PrefixFor(e.Center, unit)
	return strings.TrimSpace(Estimate(e.Scale(p.Factor)) + " " + p.Unit)
}

// Bytes writes a setting that is a number of bytes, "65536", as "64 KiB"; what
// is no such number stays.
func Bytes(setting string) string {
	n, err := strconv.ParseUint(setting, 10, 63)
	if err != nil {
		return setting
	}
	for _, u := range []struct {
		size uint64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
