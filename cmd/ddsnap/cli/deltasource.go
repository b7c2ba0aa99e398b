// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// contentFlags say where the content of a target's snapshots is read.
type contentFlags struct {
	origin, nbd string
	patience    time.Duration // with a server that went away
}

// defaultPatience is how long a server that went away is waited for.
const defaultPatience = 5 * time.Minute

func (f *contentFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.origin, "origin", "", "`device` of the origin, of a store that no server has open")
	cmd.Flags().StringVar(&f.nbd, "nbd", "", "`address` where the running server exports over NBD (default STORE.nbd)")
}

// addReading adds the flags of a verb that reads snapshots.
func (f *contentFlags) addReading(cmd *cobra.Command) {
	f.add(cmd)
	cmd.Flags().DurationVar(&f.patience, "server-wait", defaultPatience, "how `long` to wait for a server that goes away meanwhile")
}

// openedContent is the content of a snapshot. While it is open the snapshot cannot be
// deleted.
type openedContent struct {
	delta.Content
	io.Closer
}

// opener opens the content of snapshots.
type opener struct {
	open  func(admin.Snapshot) (openedContent, error)
	close func() error
}

// opener returns what opens the content of a target's snapshots. If that is a running
// server, it may be restarted meanwhile, and it is only to be asked from now on.
func (f *contentFlags) opener(ctx context.Context, a *app, t *target) (opener, error) {
	if client, ok := t.Manager.(*admin.Client); ok {
		addr, err := f.address(t)
		if err != nil {
			return opener{}, err
		}
		w := &waiting{app: a, target: t, patience: f.patience}
		l := &lastingManager{waiting: w, client: client}
		t.Manager, t.close = l, l.Close
		return opener{open: func(s admin.Snapshot) (openedContent, error) { return w.open(ctx, addr, s) }, close: func() error { return nil }}, nil
	}
	origin, err := f.openOrigin(t, true)
	if err != nil {
		return opener{}, err
	}
	return opener{open: fromStore(t, origin), close: origin.Close}, nil
}

// openOrigin opens the origin of a store that no server has open.
func (f *contentFlags) openOrigin(t *target, readOnly bool) (*device.File, error) {
	switch {
	case f.nbd != "":
		return nil, noServer(t, "name its origin with --origin instead of --nbd")
	case f.origin == "":
		return nil, usageError{fmt.Errorf("no server has the store on %s open: name its origin with --origin", t.name)}
	}
	origin, err := device.OpenFile(f.origin, device.FileOptions{ReadOnly: readOnly})
	if err != nil {
		return nil, err
	}
	if size := t.offline.Geometry().Size(); origin.Size() < size {
		err = codeError{fmt.Errorf("origin %s has %d bytes, and the store on %s is for one of %d: is it the right device?",
			f.origin, origin.Size(), t.name, size), exitWrong}
		return nil, errors.Join(err, origin.Close())
	}
	return origin, nil
}

// fromStore opens the snapshots of a store that no server has open.
func fromStore(t *target, origin device.Device) func(admin.Snapshot) (openedContent, error) {
	src := volume.SnapshotSource{
		Server: t.offline, Origin: origin, Store: t.devs.Devices, ChunkSize: t.offline.Geometry().ChunkSize(), DataOffset: t.offline.DataOffset(),
	}
	return func(s admin.Snapshot) (openedContent, error) {
		v, err := volume.OpenSnapshotRef(src, wire.SnapshotRef{Tag: s.Tag}, false)
		if err != nil {
			return openedContent{}, err
		}
		return openedContent{sectors{v}, v}, nil
	}
}

// overNBD opens the content of a running server's snapshots. It ends with the server.
func overNBD(addr service.Address) func(admin.Snapshot) (openedContent, error) {
	return func(s admin.Snapshot) (openedContent, error) {
		c, err := dialSnapshot(addr, s)
		if err != nil {
			return openedContent{}, err
		}
		return openedContent{sectors{c}, c}, nil
	}
}

func dialSnapshot(addr service.Address, s admin.Snapshot) (*nbdclient.Client, error) {
	return dialExport(addr, service.SnapshotPrefix+formatTag(s.Tag))
}

// address returns where a running server exports.
func (f *contentFlags) address(t *target) (addr service.Address, err error) {
	if f.origin != "" {
		return addr, usageError{fmt.Errorf("--origin is for a store that no server has open, and one has %s", t.name)}
	}
	if f.nbd != "" {
		if addr, err = service.ParseAddress(f.nbd); err != nil {
			err = usageError{fmt.Errorf("--nbd: %w", err)}
		}
		return addr, err
	}
	addr = service.Address{Network: "unix", Address: strings.TrimSuffix(t.name, service.ControlSuffix) + service.NBDSuffix}
	if !strings.HasSuffix(t.name, service.ControlSuffix) {
		addr.Address, err = service.Socket(t.name, service.NBDSuffix)
	}
	return addr, err
}

func dialExport(addr service.Address, name string) (*nbdclient.Client, error) {
	c, err := nbdclient.Dial(addr.Network, addr.Address, name, nbdclient.Options{})
	if err != nil {
		return nil, fmt.Errorf("%w: does the server export over NBD there? (\"ddsnap nbd\" does, \"ddsnap attach\" with --listen)", err)
	}
	return c, nil
}

// sectors is a device that reads at any offset.
type sectors struct{ delta.Content }

// ReadAt reads the sectors around the range, if it is not of whole ones.
func (s sectors) ReadAt(p []byte, off int64) (int, error) {
	if (off|int64(len(p)))%block.SectorSize == 0 {
		return s.Content.ReadAt(p, off)
	}
	first := off / block.SectorSize * block.SectorSize
	end := min((off+int64(len(p))+block.SectorSize-1)/block.SectorSize*block.SectorSize, s.Size())
	if end <= off {
		return 0, io.EOF
	}
	buf := make([]byte, end-first)
	if _, err := s.Content.ReadAt(buf, first); err != nil {
		return 0, err
	}
	n := copy(p, buf[off-first:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
