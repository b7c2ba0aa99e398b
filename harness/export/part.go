// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/harness/stack"
)

// PartCommand is the name of the command that runs [RunPart] with the arguments
// behind it.
const PartCommand = "part"

// The parts, first argument of [RunPart], and their further arguments.
const (
	ServePart = "serve" // STORE SOCKET: the store's metadata server
	CrashPart = "crash" // ORIGIN STORE SEED: writes to an origin until it is killed
	CheckPart = "check" // STORE: checks the checkpoint that ReadCheck hands it
)

// ErrPart is wrapped by errors about the arguments of a part.
var ErrPart = errors.New("bad part of an experiment")

// RunPart is what a part of an experiment in a process of its own does.
func RunPart(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == ServePart:
		return serveStore(ctx, args[1], args[2], in, out)
	case len(args) == 4 && args[0] == CrashPart:
		seed, err := strconv.ParseUint(args[3], 10, 64)
		if err != nil {
			return fmt.Errorf("%w: seed: %w", ErrPart, err)
		}
		return writeOn(ctx, args[1], args[2], seed, out)
	case len(args) == 2 && args[0] == CheckPart:
		return checkStore(args[1], in, out)
	case len(args) == 8 && args[0] == EncodePart:
		return encodeImages(ctx, args[1:], out)
	case len(args) == 5 && args[0] == ApplyPart:
		return applyImage(ctx, args[1:], out)
	}
	return fmt.Errorf("%w: %q", ErrPart, args)
}

// StartPart runs a program with arguments for [RunPart], and returns when the part
// is ready.
func StartPart(program []string, args ...string) (*Child, error) {
	return start(program, append([]string{PartCommand}, args...))
}

// Kill ends the process as a crash does, and waits until it is gone.
func (c *Child) Kill() error {
	if err := c.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("killing a part: %w", err)
	}
	err := c.in.Close()
	if werr := c.cmd.Wait(); c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		return errors.Join(err, fmt.Errorf("the part was to be killed: %w: %s", werr, c.errs.String()))
	}
	return err
}

// serveStore serves a formatted store's clients on a socket, and makes snapshots. An
// origin client of an earlier server that lives is waited for.
func serveStore(ctx context.Context, path, socket string, in io.Reader, out io.Writer) (err error) {
	f, err := device.OpenFile(path, device.FileOptions{Direct: true, Role: device.Server})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	alive := func(lock uint32) bool { // one of which that cannot be told is taken to live
		taken, err := f.TakenBytes(lock, lock)
		return err != nil || len(taken) > 0
	}
	s, err := server.Open(placement.Devices{Store: f}, server.Options{Store: store.Options{Await: alive(device.OriginByte)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listening for clients of the store: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- s.Listen(server.ListenOptions{Alive: alive, Held: alive}).Serve(ctx, ln) }()
	err = obey(servedStore{s}, in, out)
	cancel()
	return errors.Join(err, <-served)
}

// servedStore is a server as obey wants it.
type servedStore struct{ *server.Server }

func (s servedStore) Snapshot(tag block.Tag) error {
	_, err := s.CreateSnapshot(tag)
	return err
}
func (s servedStore) Delete(tag block.Tag) error { return s.DeleteSnapshot(tag) }
func (s servedStore) Idle() error                { return stack.AwaitIdle(s.Server) }

// CheckReport is what a check in a process of its own has found.
type CheckReport struct {
	Seconds    float64 // that the check took
	PeakBytes  int64   // the most memory that the process ever had, of any kind
	Entries    uint64  // of the trees
	Violations []string
}

// ReadCheck checks a checkpoint of a store that is in use, in a process of its own.
// Somebody keeps the checkpoint (store.Pin) meanwhile.
func ReadCheck(program []string, store string, superblock []byte) (r CheckReport, err error) {
	ch, err := StartPart(program, CheckPart, store)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ch.Close()) }()
	if _, err := fmt.Fprintf(ch.in, "%x\n", superblock); err != nil {
		return r, fmt.Errorf("handing over a superblock: %w", err)
	}
	if !ch.lines.Scan() {
		return r, fmt.Errorf("the check has ended: %w", errors.Join(ch.lines.Err(), io.ErrUnexpectedEOF))
	}
	if err := json.Unmarshal(ch.lines.Bytes(), &r); err != nil {
		return r, fmt.Errorf("reading the check's report: %w", err)
	}
	return r, nil
}

func checkStore(path string, in io.Reader, out io.Writer) (err error) {
	f, err := os.Open(path) // without a lock: a server has it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading a superblock: %w", err)
	}
	var superblock []byte
	if _, err := fmt.Sscanf(line, "%x", &superblock); err != nil {
		return fmt.Errorf("reading a superblock: %w", err)
	}
	r, began := CheckReport{}, time.Now()
	for v := range check.Check(check.Devices{Store: f}, check.Options{Superblock: superblock, OnProgress: func(_, total uint64) { r.Entries = max(r.Entries, total) }}) {
		if v.Severity > check.Note && len(r.Violations) < 10 {
			r.Violations = append(r.Violations, v.String())
		}
	}
	r.Seconds = time.Since(began).Seconds()
	if r.PeakBytes, err = peakMemory(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// peakMemory returns the most memory that this process ever had resident.
func peakMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	var kib int64
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("reading the peak of memory: %w", err)
	}
	return kib << 10, nil
}
