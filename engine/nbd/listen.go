// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// Listen listens on network "tcp" or "unix". A Unix socket is for its owner
// alone (mode 0600); one that a dead server left behind is replaced, a live one
// or any other file is not.
func Listen(network, address string) (net.Listener, error) {
	if network != "unix" {
		ln, err := net.Listen(network, address)
		if err != nil {
			return nil, fmt.Errorf("nbd: %w", err)
		}
		return ln, nil
	}
	if err := removeStale(address); err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	if err := os.Chmod(address, 0o600); err != nil {
		return nil, fmt.Errorf("nbd: %w", errors.Join(err, ln.Close()))
	}
	return ln, nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != os.ModeSocket {
		return nil // nothing there, or something that listening will fail on
	}
	nc, err := net.Dial("unix", path)
	if err == nil {
		_ = nc.Close()
		return fmt.Errorf("socket %s is in use by another server", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return os.Remove(path)
}
