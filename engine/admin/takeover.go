// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Listener is one that a server hands over to the next.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"`          // where it was told to listen, a path as absolute
	Unlink  bool   `json:"unlink,omitempty"` // the path is to be removed at the end
	// File is a copy of the listening socket. Whoever gets it closes it; the server that
	// answers with it closes it when it is sent.
	File *os.File `json:"-"`
}

// rights returns the control message that carries the listeners' sockets, or nil.
func rights(list []Listener) ([]byte, error) {
	var fds []int
	for _, l := range list {
		raw, err := l.File.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return nil, err
		}
	}
	if fds == nil {
		return nil, nil
	}
	return unix.UnixRights(fds...), nil
}

// closeAll closes the listeners' sockets.
func closeAll(list []Listener) {
	for _, l := range list {
		_ = l.File.Close() // a copy of what stays open
	}
}

// receiver reads a connection, and keeps the files that come with the bytes.
type receiver struct {
	conn  *net.UnixConn
	files []*os.File
}

// maxFiles bounds how many files are taken with one read.
const maxFiles = 16

// Read implements io.Reader.
func (r *receiver) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	if err == nil && oobn > 0 {
		err = r.take(oob[:oobn])
	}
	return max(n, 0), err
}

func (r *receiver) take(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("files of a response: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fmt.Errorf("files of a response: %w", err)
		}
		for _, fd := range fds {
			r.files = append(r.files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	return nil
}

// handOut gives the files that came to the listeners of a response.
func (r *receiver) handOut(list []Listener) error {
	files := r.files
	r.files = nil
	if len(files) != len(list) {
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(append(errs, fmt.Errorf("%d sockets came for %d listeners", len(files), len(list)))...)
	}
	for i := range list {
		list[i].File = files[i]
	}
	return nil
}
