// SPDX-License-Identifier: Apache-2.0

// Package fio has fio issue a workload to an NBD export and returns what it
// measured.
//
// It owns job files ([Job]), the running of fio ([Run]) and the reading of its
// figures ([Parse]). It does not serve the export. Experiments call it, to set a
// client that nobody here wrote beside package apply, whose Result it fills; and
// tests of NBD servers do. Everything is safe for concurrent use; each Run is a
// process of its own, which ends with its context. Where fio or its nbd engine
// is missing, [Supported] and Run fail with [ErrNotSupported]; when fio fails,
// Run's error carries what it said, and there is no Result.
package fio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"zumastor.org/zumastor/workloads/apply"
)

// ErrNotSupported is wrapped when this machine has no fio with an nbd engine.
var ErrNotSupported = errors.New("fio is not supported here")

// Job is one fio job on one export.
type Job struct {
	Name string // of the section in the job file; letters, digits and dashes
	// RW is fio's word for the pattern: read, write, randread, randwrite, rw or
	// randrw. The random ones touch each block once before any twice.
	RW        string
	BlockSize int64 // bytes
	Depth     int   // ops under way at once
	Range     int64 // bytes from the start of the export
	Seed      uint64
	Reads     int           // percentage of ops that read, for rw and randrw
	SyncEvery int           // a flush behind every so many writes; zero means none
	Runtime   time.Duration // repeats the pass over the range for so long; zero means one pass
}

// Standard returns the jobs that experiments share, in the order in which they
// must run on one export: each block written for the first time, in random order;
// written again in another order; random reads; a sequential write and read.
func Standard(size, blockSize int64, depth int) []Job {
	job := func(name, rw string, seed uint64, block int64) Job {
		return Job{Name: name, RW: rw, BlockSize: block, Depth: depth, Range: size, Seed: seed}
	}
	const stream = 1 << 20
	return []Job{
		job("first-write", "randwrite", 1, blockSize),
		job("rewrite", "randwrite", 2, blockSize),
		job("random-read", "randread", 3, blockSize),
		job("sequential-write", "write", 4, stream),
		job("sequential-read", "read", 5, stream),
	}
}

// patterns are the values of RW.
var patterns = [...]string{"read", "write", "randread", "randwrite", "rw", "randrw"}

func (j Job) check() error {
	switch {
	case j.Name == "" || strings.Trim(strings.ToLower(j.Name), "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return fmt.Errorf("job name %q is not of letters, digits and dashes", j.Name)
	case !slices.Contains(patterns[:], j.RW):
		return fmt.Errorf("job %s: unknown pattern %q: want one of %s", j.Name, j.RW, strings.Join(patterns[:], ", "))
	case j.BlockSize <= 0 || j.BlockSize%512 != 0 || j.Range < j.BlockSize:
		return fmt.Errorf("job %s: block size %d is not a positive multiple of 512 within the range %d", j.Name, j.BlockSize, j.Range)
	case j.Depth < 1 || j.SyncEvery < 0 || j.Runtime < 0 || j.Reads < 0 || j.Reads > 100:
		return fmt.Errorf("job %s: queue depth %d, sync interval %d, run time %v or %d %% reads is out of range", j.Name, j.Depth, j.SyncEvery, j.Runtime, j.Reads)
	}
	return nil
}

// File returns the job file that issues j to the export at uri.
func (j Job) File(uri string) (string, error) {
	if err := j.check(); err != nil {
		return "", err
	}
	if strings.ContainsAny(uri, "\r\n") {
		return "", fmt.Errorf("job %s: uri %q has line breaks", j.Name, uri)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\nioengine=nbd\nuri=%s\nrw=%s\nbs=%d\niodepth=%d\nsize=%d\nrandseed=%d\n",
		j.Name, uri, j.RW, j.BlockSize, j.Depth, j.Range, j.Seed)
	if j.RW == "rw" || j.RW == "randrw" {
		fmt.Fprintf(&b, "rwmixread=%d\n", j.Reads)
	}
	if j.SyncEvery > 0 {
		fmt.Fprintf(&b, "fsync=%d\n", j.SyncEvery)
	}
	if j.Runtime > 0 {
		fmt.Fprintf(&b, "time_based=1\nruntime=%dms\n", j.Runtime.Milliseconds())
	}
	return b.String(), nil
}

// UnixURI returns the URI of the named export behind a Unix socket; the empty
// name is the default export.
func UnixURI(socket, export string) string {
	return "nbd+unix:///" + url.PathEscape(export) + "?socket=" + url.PathEscape(socket)
}

// Supported returns an error wrapping [ErrNotSupported] unless fio is installed
// and has its nbd engine.
func Supported(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "fio", "--enghelp=nbd").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: fio --enghelp=nbd: %w", ErrNotSupported, err)
	}
	if !bytes.Contains(out, []byte("uri")) {
		return fmt.Errorf("%w: this fio was built without its nbd engine", ErrNotSupported)
	}
	return nil
}

// Run issues j to the export at uri and returns fio's figures.
func Run(ctx context.Context, uri string, j Job) (apply.Result, error) {
	text, err := j.File(uri)
	if err != nil {
		return apply.Result{}, err
	}
	if err := Supported(ctx); err != nil {
		return apply.Result{}, err
	}
	dir, err := os.MkdirTemp("", "fio-")
	if err != nil {
		return apply.Result{}, err
	}
	defer os.RemoveAll(dir)
	jobFile, outFile := filepath.Join(dir, "job.fio"), filepath.Join(dir, "out.json")
	if err := os.WriteFile(jobFile, []byte(text), 0o600); err != nil {
		return apply.Result{}, err
	}
	cmd := exec.CommandContext(ctx, "fio", "--output-format=json+", "--output="+outFile, jobFile)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return apply.Result{}, fmt.Errorf("fio job %s: %w: %s", j.Name, err, bytes.TrimSpace(said))
	}
	out, err := os.Open(outFile)
	if err != nil {
		return apply.Result{}, fmt.Errorf("fio job %s: %w", j.Name, err)
	}
	defer out.Close()
	result, err := Parse(out)
	if err != nil {
		return apply.Result{}, fmt.Errorf("fio job %s: %w", j.Name, err)
	}
	return result, nil
}
