// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// Numbers of the kernel's generic netlink family "nbd", from
// include/uapi/linux/nbd-netlink.h.
const (
	nbdFamily  = "nbd"
	nbdVersion = 1

	nbdCmdConnect     = 1
	nbdCmdDisconnect  = 2
	nbdCmdReconfigure = 3

	nbdAttrIndex       = 1
	nbdAttrSize        = 2
	nbdAttrBlockSize   = 3
	nbdAttrServerFlags = 5
	nbdAttrClientFlags = 6
	nbdAttrSockets     = 7
	nbdAttrBackend     = 10

	nbdSockItem = 1
	nbdSockFD   = 1

	// Disconnect when the block device is closed for the last time.
	nbdClientDisconnectOnClose = 1 << 1
)

// nbdControl talks to the kernel's NBD client.
type nbdControl struct {
	conn   *genetlink.Conn
	family uint16
}

// dialNBD fails where the kernel has no NBD client.
func dialNBD() (*nbdControl, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	family, err := conn.GetFamily(nbdFamily)
	if err != nil {
		return nil, fmt.Errorf("generic netlink family %q: %w", nbdFamily, errors.Join(err, conn.Close()))
	}
	return &nbdControl{conn: conn, family: family.ID}, nil
}

func (c *nbdControl) close() error { return c.conn.Close() }

// call sends a command and returns the answers' attributes, if there are any.
func (c *nbdControl) call(command uint8, flags netlink.HeaderFlags, attributes []byte) ([]genetlink.Message, error) {
	m := genetlink.Message{Header: genetlink.Header{Command: command, Version: nbdVersion}, Data: attributes}
	return c.conn.Execute(m, c.family, netlink.Request|flags)
}

// nbdConnect is what NBD_CMD_CONNECT is told.
type nbdConnect struct {
	size        int64
	blockSize   int
	serverFlags uint16
	sockets     []*os.File
	backend     string
}

// encode returns the attributes. The kernel chooses the device.
func (n nbdConnect) encode() ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.Uint64(nbdAttrSize, uint64(n.size))
	e.Uint64(nbdAttrBlockSize, uint64(n.blockSize))
	e.Uint64(nbdAttrServerFlags, uint64(n.serverFlags))
	e.Uint64(nbdAttrClientFlags, nbdClientDisconnectOnClose)
	e.String(nbdAttrBackend, n.backend)
	e.Nested(nbdAttrSockets, func(list *netlink.AttributeEncoder) error {
		for _, f := range n.sockets {
			list.Nested(nbdSockItem, func(item *netlink.AttributeEncoder) error {
				item.Uint32(nbdSockFD, uint32(f.Fd()))
				return nil
			})
		}
		return nil
	})
	return e.Encode()
}

// connect makes a free NBD device use the sockets, and returns its number.
func (c *nbdControl) connect(n nbdConnect) (index int, err error) {
	attributes, err := n.encode()
	if err != nil {
		return 0, err
	}
	// No acknowledgement is asked for: the answer is one.
	answers, err := c.call(nbdCmdConnect, 0, attributes)
	if err != nil {
		return 0, err
	}
	for _, m := range answers {
		d, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return 0, err
		}
		for d.Next() {
			if d.Type() == nbdAttrIndex {
				return int(d.Uint32()), d.Err()
			}
		}
	}
	return 0, errors.New("the kernel's answer has no device number")
}

func (c *nbdControl) disconnect(index int) error {
	return c.change(nbdCmdDisconnect, index, func(*netlink.AttributeEncoder) {})
}

// resize changes the size of a device that was connected with that backend.
func (c *nbdControl) resize(index int, size int64, backend string) error {
	return c.change(nbdCmdReconfigure, index, func(e *netlink.AttributeEncoder) {
		e.Uint64(nbdAttrSize, uint64(size))
		e.String(nbdAttrBackend, backend)
	})
}

func (c *nbdControl) change(command uint8, index int, more func(*netlink.AttributeEncoder)) error {
	e := netlink.NewAttributeEncoder()
	e.Uint32(nbdAttrIndex, uint32(index))
	more(e)
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	_, err = c.call(command, netlink.Acknowledge, attributes)
	return err
}

// shakeHands is the client's side of the handshake on a connection to our own
// server: it chooses the default export, without structured replies, which the
// kernel does not know. What follows on the connection is the kernel's. It
// returns the export's transmission flags.
func shakeHands(rw io.ReadWriter, size int64) (flags uint16, err error) {
	var greeting [18]byte
	if _, err := io.ReadFull(rw, greeting[:]); err != nil {
		return 0, fmt.Errorf("reading the greeting: %w", err)
	}
	if binary.BigEndian.Uint64(greeting[:]) != wire.MagicGreeting || binary.BigEndian.Uint64(greeting[8:]) != wire.MagicOption {
		return 0, fmt.Errorf("%w: greeting % x", wire.ErrProtocol, greeting)
	}
	b := binary.BigEndian.AppendUint32(nil, wire.FlagFixedNewstyle|wire.FlagNoZeroes)
	b = binary.BigEndian.AppendUint64(b, wire.MagicOption)
	b = binary.BigEndian.AppendUint32(b, uint32(wire.OptExportName))
	b = binary.BigEndian.AppendUint32(b, 0) // length of the name
	if _, err := rw.Write(b); err != nil {
		return 0, fmt.Errorf("choosing the export: %w", err)
	}
	var export [10]byte
	if _, err := io.ReadFull(rw, export[:]); err != nil {
		return 0, fmt.Errorf("reading the export's size: %w", err)
	}
	if got := binary.BigEndian.Uint64(export[:]); got != uint64(size) {
		return 0, fmt.Errorf("%w: the export has %d bytes, not %d", wire.ErrProtocol, got, size)
	}
	return binary.BigEndian.Uint16(export[8:]), nil
}
