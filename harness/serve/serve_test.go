// SPDX-License-Identifier: Apache-2.0

package serve_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/serve"
	"zumastor.org/zumastor/results"
)

func record(t *testing.T, root, id, cpu string) {
	t.Helper()
	run, err := results.Create(root, results.Manifest{ID: id, Suite: "smoke"})
	require.NoError(t, err)
	require.NoError(t, run.SetEnvironment(results.Environment{CPU: cpu}))
	require.NoError(t, run.Append(results.Sample{
		Experiment: "E6", Kind: results.Measured, N: 1, Values: map[string]float64{results.NsPerOp: 100},
		Config: results.Conf("op", "rewrite", "variant", "inline"),
	}))
}

// get asks for a page as if by the host's name.
func get(t *testing.T, root, host, path string) (code int, body string, header http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	serve.Handler(root).ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

func TestPages(t *testing.T) {
	root := t.TempDir()
	record(t, root, "one", "X")
	record(t, root, "two", "Y")
	require.NoError(t, os.Mkdir(filepath.Join(root, "bad"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "bad", "run.json"), []byte("{"), 0o644))
	for path, want := range map[string][]string{
		"/":                        {`<a href="/run/one">one</a>`, `<a href="/run/two">two</a>`, "not readable"},
		"/run/one":                 {"Zumastor: run one", `id="explore-data"`},
		"/compare?run=one&run=two": {"two against one", "other machine", "CPU: X, Y"},
	} {
		code, body, header := get(t, root, "localhost:8080", path)
		require.Equal(t, http.StatusOK, code, path)
		for _, w := range want {
			require.True(t, strings.Contains(body, w), "%s: %s", path, w)
		}
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'")
	}
	_, err := os.Stat(filepath.Join(root, "one", "report.html"))
	require.ErrorIs(t, err, os.ErrNotExist, "showing a run changes nothing in it")
	code, body, _ := get(t, t.TempDir(), "127.0.0.1", "/")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "no runs")
}

func TestNothingElseIsShown(t *testing.T) {
	parent := t.TempDir()
	root := filepath.Join(parent, "runs")
	require.NoError(t, os.Mkdir(root, 0o755))
	record(t, parent, "outside", "X")
	record(t, root, "one", "X")
	for _, c := range []struct {
		host, path string
		code       int
	}{
		{"evil.example", "/", http.StatusForbidden},
		{"evil.example:80", "/run/one", http.StatusForbidden},
		{"10.0.0.1", "/", http.StatusForbidden},
		{"[::1]:80", "/", http.StatusOK},
		{"localhost", "/run/none", http.StatusNotFound},
		{"localhost", "/run/..%2Foutside", http.StatusNotFound},
		{"localhost", "/run/.latest.tmp", http.StatusNotFound},
		{"localhost", "/one/run.json", http.StatusNotFound},
		{"localhost", "/compare?run=one", http.StatusBadRequest},
		{"localhost", "/compare?run=one&run=../outside", http.StatusNotFound},
	} {
		code, _, _ := get(t, root, c.host, c.path)
		require.Equal(t, c.code, code, "%s %s", c.host, c.path)
	}
}
