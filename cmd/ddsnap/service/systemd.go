// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What systemd and a service say to each other; see sd_notify(3) and
// sd_listen_fds(3).

// firstListenFD is the first descriptor of a listener that systemd hands over.
const firstListenFD = 3

// manager is the service manager that has started the process, or none.
type manager struct {
	socket    string        // to notify; empty: nobody wants to know
	watchdog  time.Duration // within which a sign of life is expected; zero: never
	listeners map[string]net.Listener
}

// managedBy reads what the manager says in the environment, and takes the listeners
// over that it hands to this process.
func managedBy(getenv func(string) string) (*manager, error) {
	m := &manager{socket: getenv("NOTIFY_SOCKET"), listeners: make(map[string]net.Listener)}
	self := strconv.Itoa(os.Getpid())
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == self {
		if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			m.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	if getenv("LISTEN_PID") != self {
		return m, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 16 {
		return nil, fmt.Errorf("LISTEN_FDS=%s: it says how many listeners the service manager hands over", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		if err := m.take(firstListenFD+i, name); err != nil {
			return nil, errors.Join(fmt.Errorf("listener %q of the service manager: %w", name, err), m.close())
		}
	}
	return m, nil
}

// take makes a listener of a descriptor.
func (m *manager) take(fd int, name string) error {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return err
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the socket is the manager's
	}
	m.listeners[name] = ln
	return nil
}

// listener returns a listener that was handed over, or nil. It is the caller's then.
func (m *manager) listener(name string) net.Listener {
	ln := m.listeners[name]
	delete(m.listeners, name)
	return ln
}

// close closes the listeners that nobody has asked for.
func (m *manager) close() error {
	var errs []error
	for name, ln := range m.listeners {
		errs = append(errs, ln.Close())
		delete(m.listeners, name)
	}
	return errors.Join(errs...)
}

// notify tells the manager of a state, such as "READY=1".
func (m *manager) notify(state string) error {
	if m.socket == "" {
		return nil
	}
	name := m.socket
	if strings.HasPrefix(name, "@") { // of the abstract name space
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling the service manager %s: %w", state, err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte(state))
	return err
}

// live gives signs of life until ctx ends, each after alive has returned: a store
// that hangs is restarted.
func (m *manager) live(ctx context.Context, alive func()) {
	if m.watchdog == 0 {
		return
	}
	ticker := time.NewTicker(m.watchdog / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			alive()
			_ = m.notify("WATCHDOG=1") // what does not arrive is missed
		}
	}
}
