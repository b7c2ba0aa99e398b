// SPDX-License-Identifier: Apache-2.0

// Package lint holds the repository to its own rules: which package may import
// which, one package comment a directory, licence lines, names and sizes.
//
// It owns those rules that gofmt, go vet and staticcheck do not know. It reads
// source files and nothing else; its tests are its only caller. A rule that is
// broken is a failed test that names the file and says what to do.
package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the repository.
const Module = "zumastor.org/zumastor"

// File is a Go source file of the repository.
type File struct {
	Path    string // from the root, with slashes
	Package string // the directory
	Syntax  *ast.File
	Set     *token.FileSet
}

// Test reports whether the file belongs to a test.
func (f *File) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Imports returns the packages of the repository that the file imports, by
// directory.
func (f *File) Imports() []string {
	var dirs []string
	for _, spec := range f.Syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if dir, ok := strings.CutPrefix(name, Module+"/"); ok {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Load parses all Go files below root, but for those in testdata and in
// directories whose names begin with a dot.
func Load(root string) ([]*File, error) {
	var files []*File
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		syntax, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		files = append(files, &File{Path: rel, Package: path.Dir(rel), Syntax: syntax, Set: set})
		return nil
	})
	return files, err
}

// Rule says which packages those below From must not import.
type Rule struct {
	From   string   // directory, with all below it
	Save   string   // one below From that the rule does not bind
	Never  []string // directories, with all below them
	But    []string // exceptions to Never
	Reason string
}

// Rules is the direction of imports. Tests are bound by it as far as they are in
// the package that they test.
var Rules = []Rule{
	{From: "engine/block", Never: []string{"engine", "harness", "workloads", "analysis", "results", "nvramsim", "cmd"},
		Reason: "units are below everything"},
	{From: "engine/device", Never: []string{"engine", "harness", "workloads", "analysis", "results", "nvramsim", "cmd"},
		But: []string{"engine/block", "engine/device"}, Reason: "devices know no structure"},
	{From: "engine/layout", Never: []string{"engine"}, But: []string{"engine/block", "engine/layout"},
		Reason: "codecs are pure functions"},
	{From: "engine/mark", Never: []string{"engine"}, Reason: "marks are known to all and know nobody"},
	{From: "engine/check", Never: []string{"engine"}, But: []string{"engine/block", "engine/device", "engine/layout", "engine/check"},
		Reason: "the checker shares no code with what it checks"},
	{From: "engine", Save: "engine/metamorphic", Never: []string{"harness", "workloads", "analysis", "results", "nvramsim", "cmd"},
		Reason: "the engine is measured from outside"},
	{From: "engine/volume", Never: []string{"engine/store", "engine/server"}, Reason: "a client knows the server by package wire only"},
	{From: "engine/delta", Never: []string{"engine"}, But: []string{"engine/block", "engine/delta", "engine/mark"},
		Reason: "a delta is made of any content"},
	{From: "engine/delta/codec", Never: []string{"engine"}, But: []string{"engine/delta/codec", "engine/delta/vcdiff", "engine/delta/similar", "engine/delta/zstddict", "engine/delta/corpus"},
		Reason: "codecs are below the delta"},
	{From: "engine/backup", Never: []string{"engine"}, But: []string{"engine/block", "engine/delta", "engine/backup"},
		Reason: "a repository is of any content"},
	{From: "engine/backup/storage", Never: []string{"engine"}, But: []string{"engine/backup/storage"},
		Reason: "a storage keeps any objects"},
	{From: "engine/backup/seal", Never: []string{"engine"}, But: []string{"engine/backup/seal"},
		Reason: "any object can be sealed"},
	{From: "engine/nbd", Never: []string{"engine"}, But: []string{"engine/block", "engine/device", "engine/nbd"},
		Reason: "NBD exports any block device"},
	{From: "engine/attach", Never: []string{"engine"}, But: []string{"engine/block", "engine/device", "engine/nbd", "engine/attach"},
		Reason: "any block device can be attached"},
	{From: "nvramsim", Never: []string{"engine", "harness", "workloads", "analysis", "results", "cmd"},
		But: []string{"engine/block", "engine/device"}, Reason: "models are devices"},
	{From: "workloads", Never: []string{"engine", "harness", "analysis", "cmd"},
		But: []string{"engine/block", "engine/device"}, Reason: "a workload runs on any device"},
	{From: "results", Never: []string{"engine", "harness", "workloads", "analysis", "nvramsim", "cmd"},
		Reason: "a record outlives what made it"},
	{From: "analysis", Never: []string{"engine", "harness", "workloads", "nvramsim", "cmd"},
		Reason: "results are judged by what was recorded alone"},
	{From: "harness", Never: []string{"cmd"}, Reason: "commands are on top"},
}

// Broken returns the imports of a file that break the rules, a sentence each.
func Broken(f *File, rules []Rule) []string {
	var found []string
	for _, r := range rules {
		if !below(f.Package, r.From) || r.Save != "" && below(f.Package, r.Save) {
			continue
		}
		for _, dir := range f.Imports() {
			forbidden := slices.ContainsFunc(r.Never, func(d string) bool { return below(dir, d) })
			allowed := slices.ContainsFunc(r.But, func(d string) bool { return below(dir, d) })
			if forbidden && !allowed {
				found = append(found, fmt.Sprintf("%s imports %s: %s", f.Path, dir, r.Reason))
			}
		}
	}
	return found
}

// below reports whether dir is top or a directory in it.
func below(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }
