// SPDX-License-Identifier: Apache-2.0

package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Child is a process that serves.
type Child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	errs  strings.Builder // its standard error; read once it has ended
}

// Command is the name of the command that runs [Serve] with [Config.Args].
const Command = "export"

// Args returns the arguments of the command.
func (c Config) Args() []string {
	return []string{Command, "--origin", c.Origin, "--store", c.Store, "--chunk", strconv.FormatInt(c.ChunkSize, 10),
		"--variant", c.Variant, "--socket", c.Socket}
}

// Start runs a program with the config's arguments behind its own, and returns
// when it serves. Close ends it.
func Start(program []string, c Config) (*Child, error) {
	return start(program, c.Args())
}

func start(program, args []string) (*Child, error) {
	ch := &Child{cmd: exec.Command(program[0], append(program[1:len(program):len(program)], args...)...)}
	ch.cmd.Stderr = &ch.errs
	ch.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is the parent's to handle
	out, err := ch.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if ch.in, err = ch.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := ch.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the export: %w", err)
	}
	ch.lines = bufio.NewScanner(out)
	if err := ch.expect("ready"); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the export: %w", err), ch.Close())
	}
	return ch, nil
}

func (c *Child) expect(want string) error {
	if !c.lines.Scan() {
		return fmt.Errorf("the process has ended: %w", errors.Join(c.lines.Err(), io.ErrUnexpectedEOF))
	}
	if got := c.lines.Text(); got != want {
		return errors.New(got)
	}
	return nil
}

func (c *Child) say(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	if err := c.expect("ok"); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// Snapshot makes a snapshot of the volume.
func (c *Child) Snapshot(tag int) error { return c.say("snapshot %d", tag) }

// Delete deletes a snapshot and waits until what it held is freed.
func (c *Child) Delete(tag int) error { return c.say("delete %d", tag) }

// Close ends the process and waits for it.
func (c *Child) Close() error {
	err := c.in.Close()
	if werr := c.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("the export: %w: %s", werr, strings.TrimSpace(c.errs.String())))
	}
	return err
}
