// SPDX-License-Identifier: Apache-2.0

package lint_test

import (
	"go/ast"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/lint"
)

func load(t *testing.T) []*lint.File {
	files, err := lint.Load("../..")
	require.NoError(t, err)
	require.Greater(t, len(files), 100, "the whole repository is loaded")
	return files
}

func TestImportDirection(t *testing.T) {
	for _, f := range load(t) {
		if f.Test() {
			continue // tests of a layer may stand it on its users
		}
		for _, sentence := range lint.Broken(f, lint.Rules) {
			t.Error(sentence)
		}
	}
}

// TestRulesBind shows that a rule that is broken is found.
func TestRulesBind(t *testing.T) {
	for _, f := range load(t) {
		if f.Path == "engine/server/server.go" {
			rules := []lint.Rule{{From: "engine", Never: []string{"engine/store"}, Reason: "for the test"}}
			require.Len(t, lint.Broken(f, rules), 1)
			return
		}
	}
	t.Fatal("engine/server/server.go is not loaded")
}

func TestOnePackageComment(t *testing.T) {
	comments := map[string][]string{}
	for _, f := range load(t) {
		if f.Test() {
			continue
		}
		if f.Syntax.Doc != nil {
			comments[f.Package] = append(comments[f.Package], f.Path)
		} else if comments[f.Package] == nil {
			comments[f.Package] = []string{}
		}
	}
	for dir, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s: a package has one package comment, this has %d: %v", dir, len(files), files)
		}
	}
}

func TestLicenceLine(t *testing.T) {
	const want = "// SPDX-License-Identifier: Apache-2.0"
	for _, f := range load(t) {
		if ast.IsGenerated(f.Syntax) {
			continue
		}
		if c := f.Syntax.Comments; len(c) == 0 || c[0].List[0].Text != want {
			t.Errorf("%s: the first line is to be %q", f.Path, want)
		}
	}
}

func TestPackageNames(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc"}
	for _, f := range load(t) {
		if slices.Contains(vague, path.Base(f.Package)) {
			t.Errorf("%s: %q says nothing about what a package owns", f.Path, path.Base(f.Package))
		}
	}
}

// longFunctions are the functions that are clearer in one piece than in two.
var longFunctions = []string{}

func TestFunctionLength(t *testing.T) {
	const most = 75
	for _, f := range load(t) {
		for _, d := range f.Syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.Test() || slices.Contains(longFunctions, f.Package+"."+fn.Name.Name) {
				continue
			}
			if n := f.Set.Position(fn.End()).Line - f.Set.Position(fn.Pos()).Line; n > most {
				t.Errorf("%s: %s has %d lines, more than %d: divide it, or list it here", f.Path, fn.Name.Name, n, most)
			}
		}
	}
}

// TestDocumentsNameRealPackages keeps the map of packages true.
func TestDocumentsNameRealPackages(t *testing.T) {
	text, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	require.NoError(t, err)
	for _, f := range load(t) {
		top := strings.Join(strings.SplitN(f.Package, "/", 3)[:min(2, strings.Count(f.Package, "/")+1)], "/")
		if strings.HasPrefix(top, "engine/") && !strings.Contains(string(text), "`"+top+"`") {
			t.Errorf("docs/ARCHITECTURE.md does not name %s", top)
		}
	}
}
