// SPDX-License-Identifier: Apache-2.0

// Package traces holds the recorded traces that experiments replay.
//
// It owns the files beside it, which are built into every program that uses
// them; README.md of the folder above says what each is, its own header how it
// was made. It does not own their format (package trace) or their making
// (package record). Experiments call it. Its functions are safe for concurrent
// use; each call of [Load] decodes a trace of its own. They fail for unknown
// names only, since a test reads every file.
package traces

import (
	"embed"
	"fmt"
	"strings"

	"zumastor.org/zumastor/workloads/trace"
)

const extension = ".trace"

//go:embed *.trace
var files embed.FS

// Names returns the names of all traces, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // the embedded root always exists
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), extension))
	}
	return names
}

// Load reads the trace of that name.
func Load(name string) (*trace.Trace, error) {
	f, err := files.Open(name + extension)
	if err != nil {
		return nil, fmt.Errorf("no trace %q: there are %s", name, strings.Join(Names(), ", "))
	}
	defer f.Close()
	t, err := trace.Read(f)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", name, err)
	}
	return t, nil
}
