// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// twoWays is a connection of two pipes.
type twoWays struct {
	io.Reader
	io.Writer
	close func() error
}

// Close ends both.
func (c twoWays) Close() error { return c.close() }

// stdio is the connection that standard input and output are.
func (a *app) stdio() (io.ReadWriteCloser, error) {
	in, err := interruptible(a.In)
	if err != nil {
		return nil, err
	}
	out, err := interruptible(a.Out)
	if err != nil {
		return nil, err
	}
	return twoWays{in.(io.Reader), out.(io.Writer), func() error {
		return errors.Join(closeStream(in), closeStream(out))
	}}, nil
}

// interruptible returns a stream such that to close it ends reads and writes that wait.
func interruptible(stream any) (any, error) {
	f, ok := stream.(*os.File)
	if !ok {
		return stream, nil
	}
	if isTerminal(f) {
		return nil, usageError{fmt.Errorf("%s is a terminal: the other side is to be there", f.Name())}
	}
	fd := int(f.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("using %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func closeStream(stream any) error {
	if c, ok := stream.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// pipeEnds is how long a command has to end when nobody talks to it any more.
const pipeEnds = 5 * time.Second

// runPipe starts a command, whose standard input and output are the connection. It is
// killed when that is closed.
func (a *app) runPipe(ctx context.Context, command string) (io.ReadWriteCloser, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stderr = a.Err
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %q: %w", command, err)
	}
	return twoWays{out, in, func() error {
		err := in.Close() // it ends when it has nothing to read
		_ = out.Close()
		t := time.AfterFunc(pipeEnds, func() { _ = cmd.Process.Kill() })
		defer t.Stop()
		_ = cmd.Wait() // what it says of its end, it has said on standard error
		return err
	}}, nil
}
