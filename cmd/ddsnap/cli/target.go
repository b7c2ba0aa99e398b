// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
)

// target is what the first argument of a verb names: a running server or a store
// that is opened for the verb.
type target struct {
	admin.Manager
	name    string
	offline *server.Server   // nil for a running server
	unclean bool             // if offline: whoever last had it open did not close it
	devs    *service.Devices // if offline
	close   func() error
}

// targetFlags are the flags of the verbs that take a target.
type targetFlags struct {
	meta, journal string
	works         bool // the background work of a store that no server has open is done too
}

// defaultTimeout is how long a verb waits for a running server.
const defaultTimeout = 2 * time.Minute

func (a *app) targetFlags(cmd *cobra.Command) *targetFlags {
	f := &targetFlags{}
	cmd.Flags().StringVarP(&f.meta, "metadev", "m", "", "metadata `device` of the store, if it has one")
	cmd.Flags().StringVarP(&f.journal, "journal", "j", "", "journal `device` of the store, if it has one")
	cmd.Flags().DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for a running server")
	a.jsonFlag(cmd)
	return f
}

// open opens what name names. A store is locked until the target's close, beside
// other readers if it is only to be read. If its server has it open, the target
// is that server.
func (a *app) open(ctx context.Context, name string, f *targetFlags, readOnly bool) (*target, error) {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, codeError{fmt.Errorf("%s does not exist: name a store, or the control socket of a running server", name), exitWrong}
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != os.ModeSocket {
		t, err := openStore(service.Paths{Store: name, Meta: f.meta, Journal: f.journal}, readOnly, f.works)
		if errors.Is(err, device.ErrInUse) {
			if client, _ := serverOf(ctx, service.Paths{Store: name, Meta: f.meta}); client != nil {
				return &target{Manager: client, name: name, close: client.Close}, nil
			}
			err = orphanHint(name, err)
		}
		return t, err
	}
	client, err := admin.Dial(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%w: is the server still running?", err)
	}
	return &target{Manager: client, name: name, close: client.Close}, nil
}

// errNoServer is wrapped when no server has a store open.
var errNoServer = errors.New("no server has the store open")

// openServer returns the running server that name names, or of the store that it names.
func (a *app) openServer(ctx context.Context, name string, f *targetFlags) (*target, error) {
	info, err := os.Stat(name)
	socket := strings.HasSuffix(name, service.ControlSuffix)
	if err == nil && info.Mode().Type() == os.ModeSocket || err != nil && !socket {
		return a.open(ctx, name, f, false)
	}
	if !socket {
		if client, _ := serverOf(ctx, service.Paths{Store: name, Meta: f.meta}); client != nil {
			return &target{Manager: client, name: name, close: client.Close}, nil
		}
	}
	return nil, codeError{fmt.Errorf("%s: %w: start it, or name the origin with --origin", name, errNoServer), exitWrong}
}

// serverOf connects to the server that has a store open, if it listens where
// servers do by default, or in the directory of all of them. Without one the client
// is nil.
func serverOf(ctx context.Context, p service.Paths) (client *admin.Client, socket string) {
	socket, err := service.Socket(p.Store, service.ControlSuffix)
	if err != nil {
		return nil, ""
	}
	if client, err = admin.Dial(ctx, socket); err == nil {
		return client, socket
	}
	uuid, err := service.StoreUUID(p)
	if err != nil {
		return nil, ""
	}
	return serverAmong(ctx, uuid.String(), service.ControlSockets())
}

// askWait is how long a server that may be another store's is waited for.
const askWait = 5 * time.Second

// serverAmong connects to that of the servers on the sockets which has the store.
func serverAmong(ctx context.Context, uuid string, sockets []string) (client *admin.Client, socket string) {
	for _, socket = range sockets {
		if client = dialStore(ctx, uuid, socket); client != nil {
			return client, socket
		}
	}
	return nil, ""
}

// dialStore connects to the server on the socket if it has the store.
func dialStore(ctx context.Context, uuid, socket string) *admin.Client {
	brief, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	client, err := admin.Dial(brief, socket)
	if err != nil {
		return nil
	}
	r, err := client.Do(brief, admin.Request{Verb: admin.VerbStatus})
	if err != nil || r.Status == nil || r.Status.UUID != uuid {
		_ = client.Close()
		return nil
	}
	return client
}

func openStore(p service.Paths, readOnly, works bool) (*target, error) {
	devs, err := service.OpenDevices(p, service.Access{ReadOnly: readOnly})
	if err != nil {
		return nil, err
	}
	sb := devs.Superblock()
	unclean := sb != nil && !sb.Clean
	s, err := server.Open(devs.Devices, server.Options{Manual: !works, Store: store.Options{ReadOnly: readOnly}})
	if err != nil {
		err = storeHint(devs, p, err)
		return nil, errors.Join(err, devs.Close())
	}
	return &target{
		Manager: admin.Local{Store: s, Held: &admin.Held{}}, name: p.Store, offline: s, unclean: unclean, devs: devs,
		close: func() error { return errors.Join(s.Close(), devs.Close()) },
	}, nil
}

// orphanHint says of a locked store whose server has ended that one is to be started.
func orphanHint(path string, err error) error {
	if !device.Orphaned(path) {
		return err
	}
	return fmt.Errorf("%s %w: no server has it now, and clients of one wait: start \"ddsnap server %s\"", path, device.ErrInUse, path)
}

// serverHint adds to the error of a locked store where its server can be reached.
func serverHint(p service.Paths, err error) error {
	if !errors.Is(err, device.ErrInUse) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	client, socket := serverOf(ctx, p)
	if client == nil {
		return orphanHint(p.Store, err)
	}
	return errors.Join(fmt.Errorf("%w; its server's control socket is %s", err, socket), client.Close())
}

// storeHint says of a store that cannot be opened what is likely wrong.
func storeHint(devs *service.Devices, p service.Paths, err error) error {
	where := p.Store
	if devs.Meta != nil {
		where += " with metadata on " + p.Meta
	}
	err = fmt.Errorf("opening the store on %s: %w", where, err)
	if !errors.Is(err, store.ErrNoStore) || devs.Meta != nil {
		return err
	}
	if part := partHint(p.Store); part != nil {
		return part
	}
	return fmt.Errorf("%w (\"ddsnap initialize\" makes one; if there was one, \"ddsnap repair --dry-run\" says what is left)", err)
}

// partHint returns an error if the device at path is a part of a store but not the
// one that is to be named alone.
func partHint(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	label := make([]byte, layout.LabelSize)
	if _, err := f.ReadAt(label, 0); err != nil {
		return nil
	}
	for role, hint := range map[layout.Role]string{
		layout.RoleData:    "data: its metadata is on a device of its own: name that too",
		layout.RoleJournal: "a store's journal: name the store",
	} {
		if layout.CheckLabel(label, layout.UUID(label[16:32]), role) == nil {
			return codeError{fmt.Errorf("%s holds no store but %s", path, hint), exitWrong}
		}
	}
	return nil
}

// with runs do on the target that name names.
func (a *app) with(ctx context.Context, name string, f *targetFlags, readOnly bool, do func(context.Context, *target) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("no answer within %v", a.timeout))
	defer cancel()
	t, err := a.open(ctx, name, f, readOnly)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, t), t.close())
}

// watch runs do on the running server that name names, until a signal. Without one, an
// error ends with what else there is.
func (a *app) watch(ctx context.Context, name string, f *targetFlags, instead string, do func(context.Context, *target) error) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	t, err := a.open(ctx, name, f, true)
	if err != nil {
		return err
	}
	if t.offline != nil {
		err = noServer(t, instead)
	} else {
		err = do(ctx, t)
	}
	return errors.Join(err, t.close())
}

// noServer is the error of a store that no server has open, which ends with what to do.
func noServer(t *target, instead string) error {
	return codeError{fmt.Errorf("no server has the store on %s open: %s", t.name, instead), exitWrong}
}

// ask makes a request that needs nothing else.
func (t *target) ask(ctx context.Context, v admin.Verb) (admin.Response, error) {
	return t.Do(ctx, admin.Request{Verb: v})
}

// list returns the snapshots, oldest first.
func (t *target) list(ctx context.Context) ([]admin.Snapshot, error) {
	r, err := t.ask(ctx, admin.VerbList)
	return r.List, err
}
