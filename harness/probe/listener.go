// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcessOf returns the process that listens at a Unix socket, such as a server at its
// control socket.
func ProcessOf(socket string) (int, error) {
	maker, err := makerOf(socket)
	if err != nil {
		return 0, fmt.Errorf("who listens at %s: %w", socket, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", maker)); err == nil {
		return maker, nil
	}
	// A server that was taken over has handed the socket on.
	return holderOf(socket)
}

// makerOf returns the process that began to listen at a socket.
func makerOf(socket string) (int, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

// holderOf returns a process that has a listening socket, by its path.
func holderOf(socket string) (int, error) {
	path, err := filepath.Abs(socket)
	if err != nil {
		return 0, err
	}
	table, err := os.Open("/proc/net/unix")
	if err != nil {
		return 0, fmt.Errorf("who listens at %s: %w", socket, err)
	}
	defer table.Close()
	inodes := map[string]bool{}
	for lines := bufio.NewScanner(table); lines.Scan(); {
		// Num RefCount Protocol Flags Type St Inode Path; the flag says that it listens.
		f := strings.Fields(lines.Text())
		if len(f) == 8 && f[3] == "00010000" && (f[7] == path || f[7] == socket) {
			inodes["socket:["+f[6]+"]"] = true
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && inodes[target] {
			return strconv.Atoi(strings.Split(file, "/")[2])
		}
	}
	return 0, fmt.Errorf("no process listens at %s", socket)
}
