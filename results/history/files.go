// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Series is the records that may be compared, by the date of their commits.
type Series struct {
	Name    string
	Records []Record
}

// History is all that is recorded.
type History struct {
	Series   []Series
	Accepted []Accepted
}

// Accepted says that what changed at a revision is meant, and why.
type Accepted struct {
	Series   string
	Revision string // at least seven digits of it
	Reason   string
}

// acceptedFile has a line for each: series, revision, reason.
const acceptedFile = "accepted.txt"

// Reason returns why changes of the series at a revision are accepted, "" if they are
// not.
func (h History) Reason(series, revision string) string {
	for _, a := range h.Accepted {
		if a.Series == series && strings.HasPrefix(revision, a.Revision) {
			return a.Reason
		}
	}
	return ""
}

// With returns a history that has r, too, which is not recorded.
func (h History) With(r Record) History {
	all := slices.Clone(h.Series)
	i := slices.IndexFunc(all, func(s Series) bool { return s.Name == r.Series() })
	if i < 0 {
		all = append(all, Series{Name: r.Series()})
		i = len(all) - 1
	}
	all[i].Records = append(slices.Clone(all[i].Records), r)
	sortRecords(all[i].Records)
	return History{all, h.Accepted}
}

func sortRecords(all []Record) {
	slices.SortStableFunc(all, func(a, b Record) int {
		return cmp.Or(a.Committed.Compare(b.Committed), a.Recorded.Compare(b.Recorded))
	})
}

// Load reads the history in dir; one that is not there is empty. A file that is not
// what the format says, or not where it belongs, is an error wrapping [ErrRecord] that
// names it.
func Load(dir string) (History, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil {
		return History{}, err
	}
	var h History
	for _, path := range paths { // sorted
		r, err := readRecord(path)
		if err != nil {
			return History{}, fmt.Errorf("%s: %w", path, err)
		}
		if n := len(h.Series); n == 0 || h.Series[n-1].Name != r.Series() {
			h.Series = append(h.Series, Series{Name: r.Series()})
		}
		s := &h.Series[len(h.Series)-1]
		s.Records = append(s.Records, r)
	}
	for _, s := range h.Series {
		sortRecords(s.Records)
	}
	h.Accepted, err = readAccepted(filepath.Join(dir, acceptedFile))
	return h, err
}

func readRecord(path string) (Record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	r, err := Decode(data)
	if err != nil {
		return r, err
	}
	if want := filepath.Join(r.Series(), r.file()); filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)) != want {
		return r, fmt.Errorf("%w: by what is in it, it belongs to %s", ErrRecord, want)
	}
	return r, nil
}

func readAccepted(path string) ([]Accepted, error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var all []Accepted
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 3 || len(f[1]) < 7 {
			return nil, fmt.Errorf("%s, line %d: %w: a line is a series, seven digits of a revision or more, and a reason", path, n, ErrRecord)
		}
		all = append(all, Accepted{f[0], f[1], strings.Join(f[2:], " ")})
	}
	return all, lines.Err()
}

// Add writes the record to the history in dir, durably, and returns the file's path.
// One that is there stays as it is; the error wraps [ErrExists].
func Add(dir string, r Record) (path string, err error) {
	data, err := Encode(r)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, r.Series(), r.file())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	// Written under another name first: a file of the history is there as a whole.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return "", err
	}
	err = os.Link(tmp.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s: %w", path, ErrExists)
	}
	return path, err
}
