// SPDX-License-Identifier: Apache-2.0

// Package serve shows recorded runs to a browser on the same machine.
//
// It owns the list of runs and the addresses: / for the list, /run/NAME for a report,
// /compare?run=A&run=B for a comparison. It does not own what those pages say: package
// report does, anew for each request, so that no file of a run is read as a page and none
// is changed. zbench serve calls it. A handler keeps nothing and is safe for concurrent
// use. A run that cannot be read is an error on its own page and a line of the list.
package serve

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"zumastor.org/zumastor/analysis/page"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/results"
)

//go:embed list.html
var listText string

// policy lets a page use what is in it and nothing else.
const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Handler returns the pages of the runs in the directory root.
func Handler(root string) http.Handler {
	s := &shelf{root}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.list)
	mux.HandleFunc("GET /run/{name}", s.run)
	mux.HandleFunc("GET /compare", s.compare)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Loopback(r.Host) {
			// A page elsewhere whose name was made to lead here must read nothing.
			http.Error(w, "runs are shown to this machine only", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		mux.ServeHTTP(w, r)
	})
}

// Loopback reports whether an address, with or without a port, is of this machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

type shelf struct{ root string }

// entry is a run in the list.
type entry struct {
	Name     string
	Manifest results.Manifest
	Err      error
}

func (s *shelf) list(w http.ResponseWriter, _ *http.Request) {
	entries, err := s.entries()
	if err != nil {
		fail(w, err)
		return
	}
	t, err := template.New("list").Parse(listText)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = t.Execute(w, struct {
		Style template.CSS
		Root  string
		Runs  []entry
	}{page.Style(), s.root, entries}) // the reader is gone
}

// entries returns the runs of root, the newest first.
func (s *shelf) entries() ([]entry, error) {
	names, err := os.ReadDir(s.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []entry
	for _, d := range names {
		if !d.IsDir() {
			continue // the link to the newest
		}
		e := entry{Name: d.Name()}
		run, err := s.open(d.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			e.Err = err
		default:
			e.Manifest = run.Manifest()
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b entry) int { return b.Manifest.Start.Compare(a.Manifest.Start) })
	return all, nil
}

// open opens the run of a name that is a directory in root: never a path.
func (s *shelf) open(name string) (*results.Run, error) {
	if name == "" || name != filepath.Base(name) || name[0] == '.' {
		return nil, fmt.Errorf("run %q: %w", name, fs.ErrNotExist)
	}
	if _, err := os.Stat(filepath.Join(s.root, name, "run.json")); err != nil {
		return nil, err
	}
	return results.Open(filepath.Join(s.root, name))
}

func (s *shelf) run(w http.ResponseWriter, r *http.Request) {
	run, err := s.open(r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	html, err := report.Page(run)
	show(w, html, err)
}

// most is how many runs a comparison may have.
const most = 16

func (s *shelf) compare(w http.ResponseWriter, r *http.Request) {
	names := r.URL.Query()["run"]
	if len(names) < 2 || len(names) > most {
		http.Error(w, fmt.Sprintf("choose from 2 to %d runs to compare", most), http.StatusBadRequest)
		return
	}
	var runs []*results.Run
	for _, name := range names {
		run, err := s.open(name)
		if err != nil {
			fail(w, err)
			return
		}
		runs = append(runs, run)
	}
	slices.SortStableFunc(runs, func(a, b *results.Run) int { return a.Manifest().Start.Compare(b.Manifest().Start) })
	html, err := report.Comparison(runs, results.NsPerOp)
	show(w, html, err)
}

func show(w http.ResponseWriter, html []byte, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(html) // the reader is gone
}

func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	if errors.Is(err, fs.ErrNotExist) {
		code = http.StatusNotFound
	}
	http.Error(w, err.Error(), code)
}
