// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// size is a flag for a number of bytes.
type size int64

// String implements pflag.Value.
func (s *size) String() string {
	if *s == 0 {
		return "" // not given
	}
	return formatSize(int64(*s))
}

// Type implements pflag.Value.
func (s *size) Type() string { return "size" }

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	n, err := parseSize(text)
	*s = size(n)
	return err
}

// sizes is what parseSize reads.
const sizes = `^([0-9]+)(?:([kmgt])(?:i?b)?|b)?$`

// parseSize reads a positive number of bytes with an optional unit k, m, g or t,
// each 1024 of the one before, in either case and with an optional "b" or "ib".
func parseSize(text string) (int64, error) {
	parts := regexp.MustCompile(sizes).FindStringSubmatch(strings.ToLower(text))
	if parts == nil {
		return 0, fmt.Errorf("%q is not a size: want a number such as 4096, 64k, 100m, 10g or 2t", text)
	}
	shift := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[parts[2]]
	n, err := strconv.ParseInt(parts[1], 10, 64)
	switch {
	case err != nil || n > math.MaxInt64>>shift:
		return 0, fmt.Errorf("size %s is too large", text)
	case n == 0:
		return 0, fmt.Errorf("size %s is zero", text)
	}
	return n << shift, nil
}

// formatSize returns a number of bytes for people: exact when it is a round one.
func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return strings.TrimSuffix(strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), "0"), ".") + " " + units[i]
}

// formatCount returns n with its thousands apart.
func formatCount[T ~uint64 | ~int](n T) string {
	digits := strconv.FormatUint(uint64(n), 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// formatAge returns how long ago something was, in the largest unit that it has
// two of.
func formatAge(d time.Duration) string {
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}} {
		if d >= 2*u.unit {
			return fmt.Sprintf("%d %s", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d s", max(d, 0)/time.Second)
}

// formatTime returns a time in the user's zone.
func formatTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
