// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// maxFrame bounds an Ethernet frame, with what offloads may make of it.
const maxFrame = 128 << 10

// Network is an Ethernet segment: each frame that a machine sends reaches all
// others. Machines are connected by QEMU's stream protocol: a length of 4 bytes,
// big endian, and the frame.
type Network struct {
	path     string
	listener net.Listener
	members  sync.WaitGroup

	mu     sync.Mutex
	ports  map[net.Conn]bool
	closed bool
}

// NewNetwork makes a segment, whose socket is in dir.
func NewNetwork(dir string) (*Network, error) {
	n := &Network{path: filepath.Join(dir, "net"), ports: map[net.Conn]bool{}}
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", n.path)
	if err != nil {
		return nil, fmt.Errorf("making a virtual network: %w", err)
	}
	n.listener = l
	n.members.Go(n.accept)
	return n, nil
}

func (n *Network) accept() {
	for {
		conn, err := n.listener.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		n.ports[conn] = true
		if n.closed {
			conn.Close()
		}
		n.mu.Unlock()
		n.members.Go(func() { n.serve(conn) })
	}
}

// serve hands on the frames of one machine until it is gone.
func (n *Network) serve(conn net.Conn) {
	defer n.drop(conn)
	buffer := make([]byte, 4+maxFrame)
	for {
		if _, err := io.ReadFull(conn, buffer[:4]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(buffer)
		if size > maxFrame {
			return
		}
		if _, err := io.ReadFull(conn, buffer[4:4+size]); err != nil {
			return
		}
		n.send(conn, buffer[:4+size])
	}
}

// send writes a frame to all but its sender. One that cannot be written to is
// closed, and dropped by its reader.
func (n *Network) send(from net.Conn, frame []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for port := range n.ports {
		if port == from {
			continue
		}
		if _, err := port.Write(frame); err != nil {
			port.Close()
		}
	}
}

func (n *Network) drop(conn net.Conn) {
	conn.Close()
	n.mu.Lock()
	delete(n.ports, conn)
	n.mu.Unlock()
}

// Close ends the network and waits until nothing uses it.
func (n *Network) Close() error {
	err := n.listener.Close()
	n.mu.Lock()
	n.closed = true
	for port := range n.ports {
		port.Close()
	}
	n.mu.Unlock()
	n.members.Wait()
	return err
}
