// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

func at(minutes int) time.Time {
	return time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
}

func revision(c string) string { return strings.Repeat(c, 40) }

func measured() Record {
	return Record{
		Kind: results.Measured, Suite: "full", Machine: []results.Pair{{Key: "CPU", Value: "X <1>"}, {Key: "number of CPUs", Value: "2"}},
		Revision: revision("a"), Committed: at(0), Recorded: at(5), Marks: []string{"noisy: 12%"},
		Metrics: map[string]map[string]Value{
			"E6/op=rewrite/variant=inline": {"ns/op": {Center: 105.5, Lo: 101, Hi: 110, N: 20}, "allocs/op": Exact(0)},
			"E4/op=read":                   {"ns/op": {Center: 5, Lo: 5, Hi: 5, N: 3}},
		},
	}
}

func counters(c string, committed int) Record {
	return Record{
		Kind: results.Modelled, Suite: Counters, Revision: revision(c), Committed: at(committed), Recorded: at(100),
		Metrics: map[string]map[string]Value{"inline/rewrite": {"writes": Exact(1024), "read-bytes": Exact(1 << 53)}},
	}
}

func TestGolden(t *testing.T) {
	for name, r := range map[string]Record{"measured": measured(), "counters": counters("b", 1)} {
		got, err := Encode(r)
		require.NoError(t, err)
		file := filepath.Join("testdata", name+".golden")
		if *rewrite {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
		back, err := Decode(want)
		require.NoError(t, err)
		require.Equal(t, r, back)
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	for says, change := range map[string]func(*Record){
		"neither measured nor modelled": func(r *Record) { r.Kind = "" },
		"is not a word":                 func(r *Record) { r.Suite = "../x" },
		"needs its machine":             func(r *Record) { r.Machine = nil },
		"is of no machine":              func(r *Record) { r.Kind = results.Modelled },
		"full name of a commit":         func(r *Record) { r.Revision = "abc1234-dirty" },
		"the dates of commit and run":   func(r *Record) { r.Committed = time.Time{} },
		"it has no metrics":             func(r *Record) { r.Metrics = nil },
		"no name or no values":          func(r *Record) { r.Metrics["E1"] = nil },
		"median 5 of 0 samples":         func(r *Record) { r.Metrics["E1"] = map[string]Value{"x": {Center: 5, Lo: 5, Hi: 5}} },
		"with an interval from 6 to 7":  func(r *Record) { r.Metrics["E1"] = map[string]Value{"x": {Center: 5, Lo: 6, Hi: 7, N: 1}} },
		`E1, unit "": `:                 func(r *Record) { r.Metrics["E1"] = map[string]Value{"": Exact(1)} },
	} {
		r := measured()
		change(&r)
		_, err := Encode(r)
		require.ErrorIs(t, err, ErrRecord)
		require.ErrorContains(t, err, says)
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	good, err := Encode(counters("b", 1))
	require.NoError(t, err)
	for says, change := range map[string][2]string{
		"format 2, and this program reads format 1": {`"format":1`, `"format":2`},
		`unknown field "speed"`:                     {`"kind"`, `"speed":1,"kind"`},
		"unexpected end of JSON input":              {"\n}\n}\n", ""},
		"a median, the ends of its interval":        {`"writes":1024`, `"writes":[1,2]`},
		"full name of a commit":                     {strings.Repeat("b", 40), "bbbb"},
	} {
		bad := bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1)
		require.NotEqual(t, string(good), string(bad), says)
		_, err := Decode(bad)
		require.ErrorIs(t, err, ErrRecord)
		require.ErrorContains(t, err, says)
	}
}

func TestAddAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "history")
	empty, err := Load(dir)
	require.NoError(t, err)
	require.Empty(t, empty.Series)
	// Added in another order than that of their commits.
	for _, r := range []Record{counters("c", 2), measured(), counters("b", 1)} {
		_, err := Add(dir, r)
		require.NoError(t, err)
	}
	other := measured()
	other.Machine = []results.Pair{{Key: "CPU", Value: "Y"}}
	path, err := Add(dir, other)
	require.NoError(t, err)

	h, err := Load(dir)
	require.NoError(t, err)
	require.Len(t, h.Series, 3, "another machine is another series")
	require.Equal(t, Series{"counters", []Record{counters("b", 1), counters("c", 2)}}, h.Series[0])
	require.ElementsMatch(t, []Record{measured(), other}, []Record{h.Series[1].Records[0], h.Series[2].Records[0]})

	_, err = Add(dir, counters("b", 1))
	require.ErrorIs(t, err, ErrExists)
	left, err := filepath.Glob(filepath.Join(dir, "*", ".tmp*"))
	require.NoError(t, err)
	require.Empty(t, left)

	require.NoError(t, os.Rename(path, filepath.Join(dir, "counters", filepath.Base(path))))
	_, err = Load(dir)
	require.ErrorIs(t, err, ErrRecord)
	require.ErrorContains(t, err, "it belongs to full-")
}

func TestWith(t *testing.T) {
	h := History{Series: []Series{{"counters", []Record{counters("b", 1), counters("d", 3)}}}}
	more := h.With(counters("c", 2)).With(measured())
	require.Equal(t, counters("c", 2), more.Series[0].Records[1])
	require.Len(t, more.Series, 2)
	require.Len(t, h.Series[0].Records, 2, "the history is as it was")
}

func TestAccepted(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, acceptedFile), []byte(text), 0o644))
	}
	write("# why\n\ncounters bbbbbbb sums of chunks  are kept\n")
	h, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, "sums of chunks are kept", h.Reason("counters", revision("b")))
	require.Empty(t, h.Reason("counters", revision("c")))
	require.Empty(t, h.Reason("quick", revision("b")))
	write("counters bbbbbbb\n")
	_, err = Load(dir)
	require.ErrorIs(t, err, ErrRecord)
	require.ErrorContains(t, err, "line 1")
}

// TestRecordedHistory holds the files in git to the format.
func TestRecordedHistory(t *testing.T) {
	_, err := Load(".")
	require.NoError(t, err)
}

func FuzzDecode(f *testing.F) {
	for _, r := range []Record{measured(), counters("b", 1)} {
		data, err := Encode(r)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(r)
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatal(err)
		}
	})
}
