// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd"
)

// nbdDevice is a device of the kernel's NBD client whose connections, pairs of
// Unix sockets, end in a server of our own.
//
// The device disconnects when it is closed for the last time, and we keep it
// open; see loopDevice.
type nbdDevice struct {
	node   string
	label  string
	target *target
	export sizedDevice
	ends   *pairs
	served chan struct{} // closed when the server has returned

	mu      sync.Mutex
	fd      int // of the block device; -1 when closed
	stopped bool
}

// sizedDevice is the device with the size that the kernel was told, as the only
// export.
type sizedDevice struct {
	device.Device
	target *target
	size   *atomic.Int64
}

func newSizedDevice(t *target) sizedDevice {
	d := sizedDevice{Device: t.dev, target: t, size: new(atomic.Int64)}
	d.size.Store(t.dev.Size())
	return d
}

func (d sizedDevice) Size() int64 { return d.size.Load() }

func (d sizedDevice) WriteZeroes(off, n int64) error { return device.WriteZeroes(d.Device, off, n) }

// List implements nbd.Exports.
func (d sizedDevice) List() []string { return []string{""} }

// Open implements nbd.Exports.
func (d sizedDevice) Open(string) (*nbd.Export, error) {
	return &nbd.Export{Device: d, ReadOnly: d.target.readOnly}, nil
}

// probeNBD says whether the kernel has its NBD client with the netlink interface.
func probeNBD() error {
	loadModule("nbd", "/sys/block/nbd0")
	c, err := dialNBD()
	if err != nil {
		return fmt.Errorf("nbd %w: kernel module nbd: %w", ErrNotSupported, err)
	}
	return c.close()
}

func startNBD(t *target, o Options) (binding, error) {
	d := &nbdDevice{target: t, label: newLabel(o.Name).String(), fd: -1, served: make(chan struct{}), export: newSizedDevice(t)}
	ends, err := newPairs(o.Queues)
	if err != nil {
		return nil, err
	}
	d.ends = ends
	server, err := nbd.NewServer(nbd.Config{Exports: d.export, Logger: o.Logger, MaxInFlight: 2 * o.Depth, StallTimeout: 24 * time.Hour})
	if err != nil {
		return nil, errors.Join(err, ends.closeAll())
	}
	go func() {
		defer close(d.served)
		_ = server.Serve(context.Background(), ends)
	}()
	err = d.connect(o)
	// The kernel has its own references to its ends by now.
	if err = errors.Join(err, ends.closeKernel()); err != nil {
		_ = ends.Close()
		<-d.served
		return nil, err
	}
	return d, nil
}

// connect takes the connections through the handshake and gives them to the
// kernel.
func (d *nbdDevice) connect(o Options) error {
	var flags uint16
	for _, end := range d.ends.kernel {
		f, err := shakeHands(end, d.target.dev.Size())
		if err != nil {
			return fmt.Errorf("shaking hands with our own server: %w", err)
		}
		flags = f
	}
	c, err := dialNBD()
	if err != nil {
		return err
	}
	defer c.close()
	index, err := c.connect(nbdConnect{
		size: d.target.dev.Size(), blockSize: o.BlockSize, serverFlags: flags,
		sockets: d.ends.kernel, backend: d.label,
	})
	if err != nil {
		return fmt.Errorf("connecting an NBD device: %w", err)
	}
	d.node = fmt.Sprintf("/dev/nbd%d", index)
	if d.fd, err = openNode(d.node); err != nil {
		return errors.Join(err, c.disconnect(index))
	}
	d.ends.onIdle(func() { _ = d.ends.Close() })
	return nil
}

func (d *nbdDevice) path() string { return d.node }

func (d *nbdDevice) done() <-chan struct{} { return d.served }

func (d *nbdDevice) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil
	}
	return fmt.Errorf("%s was disconnected by another process", d.node)
}

func (d *nbdDevice) resize(size int64) error {
	c, err := dialNBD()
	if err != nil {
		return err
	}
	defer c.close()
	index, err := nodeIndex(d.node, "nbd")
	if err != nil {
		return err
	}
	before := d.export.size.Swap(size)
	if err := c.resize(index, size, d.label); err != nil {
		d.export.size.Store(before)
		return err
	}
	return nil
}

func (d *nbdDevice) stop(force bool) error {
	claim := -1
	if !force && !isClosed(d.served) {
		var err error
		if claim, err = claimNode(d.node); err != nil {
			return err
		}
	}
	d.mu.Lock()
	fds := []int{claim, d.fd}
	d.fd, d.stopped = -1, true
	d.mu.Unlock()
	var err error
	if force && !isClosed(d.served) {
		err = disconnectNBD(d.node)
	}
	for _, fd := range fds { // the last close disconnects
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	switch {
	case waitFor(d.served, stopTimeout):
	case force:
		err = errors.Join(err, fmt.Errorf("%s: requests are still under way", d.node))
	default:
		err = fmt.Errorf("%w: %s was opened meanwhile, and goes when it is closed", device.ErrInUse, d.node)
	}
	return err
}

// disconnectNBD disconnects the device at node.
func disconnectNBD(node string) error {
	index, err := nodeIndex(node, "nbd")
	if err != nil {
		return err
	}
	c, err := dialNBD()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.disconnect(index); err != nil && !errors.Is(err, unix.EINVAL) { // not connected any more
		return fmt.Errorf("disconnecting %s: %w", node, err)
	}
	return nil
}

// nodeIndex returns 3 for /dev/nbd3.
func nodeIndex(node, kind string) (int, error) {
	var n int
	if _, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(node), kind), "%d", &n); err != nil {
		return 0, fmt.Errorf("%s is no %s device: %w", node, kind, err)
	}
	return n, nil
}

// pairs are connected sockets, of which one end is given to the kernel and the
// other is accepted by a server: a net.Listener.
type pairs struct {
	kernel []*os.File
	accept chan net.Conn
	closed chan struct{}
	close  func()

	mu   sync.Mutex
	open int // accepted and not closed
	idle func()
}

func newPairs(n int) (*pairs, error) {
	p := &pairs{accept: make(chan net.Conn, n), closed: make(chan struct{}), open: n}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("making a pair of sockets: %w", err), p.closeAll())
		}
		p.kernel = append(p.kernel, os.NewFile(uintptr(fds[0]), "nbd kernel end"))
		ours := os.NewFile(uintptr(fds[1]), "nbd server end")
		nc, err := net.FileConn(ours)
		if err = errors.Join(err, ours.Close()); err != nil {
			return nil, errors.Join(err, p.closeAll())
		}
		p.accept <- &countedConn{Conn: nc, of: p}
	}
	return p, nil
}

// countedConn tells its pairs when it is closed.
type countedConn struct {
	net.Conn
	of   *pairs
	once sync.Once
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.of.ended)
	return err
}

func (p *pairs) ended() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.open == 0 && p.idle != nil {
		go p.idle()
	}
}

// onIdle runs f, once, when all connections have been closed.
func (p *pairs) onIdle(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = f
	if p.open == 0 {
		go f()
	}
}

// Accept implements net.Listener.
func (p *pairs) Accept() (net.Conn, error) {
	select {
	case nc := <-p.accept:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pairs) Close() error {
	p.close()
	return nil
}

// Addr implements net.Listener.
func (p *pairs) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "kernel"} }

func (p *pairs) closeKernel() error {
	var errs []error
	for _, f := range p.kernel {
		errs = append(errs, f.Close())
	}
	p.kernel = nil
	return errors.Join(errs...)
}

// closeAll closes both ends of all pairs that no server has yet.
func (p *pairs) closeAll() error {
	errs := []error{p.closeKernel()}
	for {
		select {
		case nc := <-p.accept:
			errs = append(errs, nc.Close())
		default:
			return errors.Join(errs...)
		}
	}
}
