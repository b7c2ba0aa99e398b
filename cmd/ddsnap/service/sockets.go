// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Suffixes of a store's default sockets.
const (
	NBDSuffix     = ".nbd"
	ControlSuffix = ".control"
	ClientsSuffix = ".clients"
)

// maxSocketPath is the longest path that a Unix socket can be bound to, in bytes.
const maxSocketPath = 107

// Socket returns the path of a store's default socket: the store's own path with
// the suffix for a file, and one in the user's run-time directory for a device.
func Socket(store, suffix string) (string, error) {
	path, err := filepath.EvalSymlinks(store)
	if err != nil {
		return "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		path = filepath.Join(runtimeDir(), "ddsnap", strings.ReplaceAll(strings.TrimPrefix(path, "/dev/"), "/", "-"))
	}
	return path + suffix, nil
}

// ControlSockets returns the control sockets in the directory where the sockets of
// devices' servers live, whatever their names: a service manager may have chosen them.
func ControlSockets() []string {
	paths, _ := filepath.Glob(filepath.Join(runtimeDir(), "ddsnap", "*"+ControlSuffix)) // the pattern is well formed
	return paths
}

// runtimeDir returns where the sockets of devices' servers live.
func runtimeDir() string {
	if os.Geteuid() == 0 {
		return "/run"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	return os.TempDir()
}

// Address is where a server listens.
type Address struct {
	Network string // "unix" or "tcp"
	Address string
}

// ParseAddress reads "unix:PATH", a path with a slash in it, or "HOST:PORT".
func ParseAddress(s string) (Address, error) {
	path, unix := strings.CutPrefix(s, "unix:")
	if unix || strings.Contains(s, "/") {
		if path == "" {
			return Address{}, fmt.Errorf("address %q has no path", s)
		}
		return Address{"unix", path}, nil
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		return Address{}, fmt.Errorf("address %q is neither unix:PATH nor HOST:PORT", s)
	}
	return Address{"tcp", s}, nil
}

// URI returns the NBD URI of the export of that name at the address. ln is the
// address that was bound, which tells a port that the system chose.
func (a Address) URI(bound net.Addr, export string, tls bool) string {
	scheme := "nbd"
	if tls {
		scheme = "nbds"
	}
	if a.Network == "unix" {
		return fmt.Sprintf("%s+unix:///%s?socket=%s", scheme, export, a.Address)
	}
	return fmt.Sprintf("%s://%s/%s", scheme, bound, export)
}

// checkSocketPath reports a path that the system would refuse with no reason
// given.
func checkSocketPath(path, flag string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("socket path %s has %d bytes, and %d are possible: name a shorter one with %s", path, len(path), maxSocketPath, flag)
	}
	return nil
}
