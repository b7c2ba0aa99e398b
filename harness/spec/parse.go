// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"bufio"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads an experiment's file as it is in a suite. Sections of other suites
// are read too, so that an error is found whichever suite is asked for.
func Parse(file, text string, s Suite) (Experiment, error) {
	e := Experiment{Name: strings.TrimSuffix(path.Base(file), path.Ext(file)), Measured: true, Suites: general()}
	var section Suite
	seen := map[string]int{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		at := func(err error) error { return fmt.Errorf("%s:%d: %w: %w", file, n, ErrSpec, err) }
		if strings.HasPrefix(line, "[") {
			section = Suite(strings.Trim(line, "[]"))
			if !slices.Contains(Suites(), section) {
				return e, at(fmt.Errorf("no suite %q", section))
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || value == "" {
			return e, at(fmt.Errorf("%q is not \"key = value\"", line))
		}
		if before := seen[string(section)+"/"+key]; before > 0 {
			return e, at(fmt.Errorf("%s was set in line %d", key, before))
		}
		seen[string(section)+"/"+key] = n
		to := &e
		if section != "" && section != s {
			to = new(Experiment) // read for its errors only
		}
		if err := to.set(key, value); err != nil {
			return e, at(err)
		}
	}
	if err := lines.Err(); err != nil {
		return e, fmt.Errorf("%s: %w: %w", file, ErrSpec, err)
	}
	if err := e.check(); err != nil {
		return e, fmt.Errorf("%s: suite %s: %w", file, s, err)
	}
	return e, nil
}

// set takes one setting.
func (e *Experiment) set(key, value string) (err error) {
	switch key {
	case "title":
		e.Title = value
	case "shows":
		e.Shows = value
	case "procedure":
		e.Procedure = Procedure(value)
	case "measured":
		e.Measured, err = yesOrNo(value)
	case "models":
		e.Models, err = words(value)
	case "variants":
		e.Variants, err = words(value)
	case "ops":
		e.Ops, err = words(value)
	case "chunks":
		e.Chunks, err = list(value, ParseSize)
	case "depths":
		e.Depths, err = list(value, strconv.Atoi)
	case "snapshots":
		e.Snapshots, err = list(value, strconv.Atoi)
	case "volumes":
		e.Volumes, err = list(value, ParseSize)
	case "suites":
		e.Suites, err = words(value)
	case "data":
		e.Data, err = words(value)
	case "extents":
		e.Extents, err = list(value, ParseSize)
	case "links":
		e.Links, err = list(value, strconv.Atoi)
	case "trace":
		e.Trace = value
	default:
		return e.setAmount(key, value)
	}
	return err
}

// setAmount takes a setting that is one number.
func (e *Experiment) setAmount(key, value string) (err error) {
	switch key {
	case "block":
		e.Block, err = ParseSize(value)
	case "origin":
		e.Origin, err = ParseSize(value)
	case "store":
		e.Store, err = ParseSize(value)
	case "window":
		e.Window, err = time.ParseDuration(value)
	case "exceptions":
		e.Exceptions, err = strconv.Atoi(value)
	case "min-ops":
		e.MinOps, err = strconv.Atoi(value)
	case "max-ops":
		e.MaxOps, err = strconv.Atoi(value)
	case "rounds":
		e.Rounds, err = strconv.Atoi(value)
	case "phases":
		e.Phases, err = strconv.Atoi(value)
	case "model-phases":
		e.ModelPhases, err = strconv.Atoi(value)
	default:
		err = fmt.Errorf("unknown setting %q", key)
	}
	return err
}

func yesOrNo(value string) (bool, error) {
	if value != "yes" && value != "no" {
		return false, fmt.Errorf("%q is neither yes nor no", value)
	}
	return value == "yes", nil
}

// words reads a list, in which "none" stands for an empty one.
func words(value string) ([]string, error) {
	if value == "none" {
		return nil, nil
	}
	return list(value, func(w string) (string, error) { return w, nil })
}

func list[T comparable](value string, one func(string) (T, error)) ([]T, error) {
	var all []T
	for _, word := range strings.Fields(value) {
		v, err := one(word)
		if err != nil {
			return nil, err
		}
		if slices.Contains(all, v) {
			return nil, fmt.Errorf("%s is there twice", word)
		}
		all = append(all, v)
	}
	return all, nil
}

// ParseSize reads a number of bytes with an optional suffix K, M, G or T, powers
// of 1024.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	for i, suffix := range []string{"K", "M", "G", "T"} {
		if d, ok := strings.CutSuffix(text, suffix); ok {
			digits, shift = d, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n<<shift>>shift != n {
		return 0, fmt.Errorf("size %q is not a number of bytes such as 65536, 64K or 1G", text)
	}
	return n << shift, nil
}
