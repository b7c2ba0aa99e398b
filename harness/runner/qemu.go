// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/harness/stack"
)

// qemu is a qcow2 image with an internal snapshot, served by qemu-nbd. Internal
// snapshots are made while nobody serves the image.
type qemu struct {
	image, socket string
	direct        bool // past the page cache
	tag           int  // of the snapshot that the image has; zero for none

	server *exec.Cmd // nil while nobody serves
	errs   strings.Builder
	client *nbdclient.Client
}

func haveQEMU() bool {
	for _, name := range []string{"qemu-nbd", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			return false
		}
	}
	return true
}

func (q *qemu) img(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// create makes the image, with clusters as large as our chunks, and writes all
// of it once.
func (q *qemu) create(ctx context.Context, size, cluster int64) error {
	err := q.img(ctx, "create", "-q", "-f", "qcow2", "-o", "cluster_size="+strconv.FormatInt(cluster, 10), q.image, strconv.FormatInt(size, 10))
	if err != nil {
		return err
	}
	if err := q.start(ctx); err != nil {
		return err
	}
	return stack.Fill(q.client)
}

// snapshot replaces the image's snapshot by a new one, and serves it again.
func (q *qemu) snapshot(ctx context.Context, tag int) error {
	if err := q.stop(); err != nil {
		return err
	}
	if q.tag != 0 {
		if err := q.img(ctx, "snapshot", "-d", strconv.Itoa(q.tag), q.image); err != nil {
			return err
		}
	}
	q.tag = tag
	if err := q.img(ctx, "snapshot", "-c", strconv.Itoa(tag), q.image); err != nil {
		return err
	}
	return q.start(ctx)
}

// start runs qemu-nbd and attaches to it. In cache mode "none" it does what our
// process does: O_DIRECT, with asynchronous I/O as is recommended with it. It
// ends when its client does, so it cannot be left behind.
func (q *qemu) start(ctx context.Context) error {
	mode := []string{"--cache=writeback", "--aio=threads"}
	if q.direct {
		mode = []string{"--cache=none", "--aio=native"}
	}
	if err := os.Remove(q.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	q.errs.Reset()
	q.server = exec.Command("qemu-nbd", append(mode, "--format=qcow2", "--shared=4", "--socket="+q.socket, q.image)...)
	q.server.Stderr = &q.errs
	q.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is ours to handle
	if err := q.server.Start(); err != nil {
		q.server = nil
		return fmt.Errorf("starting qemu-nbd: %w", err)
	}
	const patience, step = 10 * time.Second, 5 * time.Millisecond
	var err error
	for range patience / step {
		if q.client, err = nbdclient.Dial("unix", q.socket, "", nbdclient.Options{}); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), q.stop())
		case <-time.After(step):
		}
	}
	return errors.Join(fmt.Errorf("attaching to qemu-nbd: %w", err), q.stop())
}

// stop ends qemu-nbd, if it runs, and waits for it.
func (q *qemu) stop() error {
	if q.server == nil {
		return nil
	}
	var err error
	if q.client != nil {
		err = q.client.Close()
		q.client = nil
	}
	if serr := q.server.Process.Signal(syscall.SIGTERM); !errors.Is(serr, os.ErrProcessDone) {
		err = errors.Join(err, serr)
	}
	if werr := q.server.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("qemu-nbd: %w: %s", werr, strings.TrimSpace(q.errs.String())))
	}
	q.server = nil
	return err
}
