// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// Limits of the handshake.
const (
	maxOption  = 64 << 10 // bytes of an option's data that are looked at
	maxSkipped = 32 << 20 // bytes of an option's data that are skipped rather than cut off
)

// handshake greets the client and answers its options until one opens an
// export, which is then in c.export. It returns errDone for a client that leaves
// in good order.
func (c *conn) handshake(ctx context.Context) error {
	if err := c.setDeadline(time.Now().Add(c.srv.cfg.HandshakeTimeout)); err != nil {
		return err
	}
	if err := c.greet(); err != nil {
		return err
	}
	for c.export == nil {
		opt, data, err := c.option()
		if errors.Is(err, io.EOF) {
			return errDone
		}
		if err == nil {
			err = c.answerOption(ctx, opt, data)
		}
		if err != nil {
			return err
		}
	}
	return c.setDeadline(time.Time{})
}

// greet exchanges flags.
func (c *conn) greet() error {
	b := binary.BigEndian.AppendUint64(nil, wire.MagicGreeting)
	b = binary.BigEndian.AppendUint64(b, wire.MagicOption)
	b = binary.BigEndian.AppendUint16(b, wire.FlagFixedNewstyle|wire.FlagNoZeroes)
	if _, err := c.nc.Write(b); err != nil {
		return err
	}
	var reply [4]byte
	if _, err := io.ReadFull(c.br, reply[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return errDone
		}
		return err
	}
	flags := binary.BigEndian.Uint32(reply[:])
	if flags&^(wire.FlagFixedNewstyle|wire.FlagNoZeroes) != 0 {
		return fmt.Errorf("%w: client flags %#x", wire.ErrProtocol, flags)
	}
	c.noZeroes = flags&wire.FlagNoZeroes != 0
	return nil
}

// option reads an option. Data longer than maxOption is skipped, answered with
// ERR_TOO_BIG, and the next option read.
func (c *conn) option() (wire.Option, []byte, error) {
	for {
		var head [wire.OptionSize]byte
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return 0, nil, err
		}
		opt, n, err := wire.ParseOption(head[:])
		if err != nil {
			return 0, nil, err
		}
		if n <= maxOption {
			data := make([]byte, n)
			_, err := io.ReadFull(c.br, data)
			return opt, data, err
		}
		if opt == wire.OptExportName || n > maxSkipped {
			return 0, nil, fmt.Errorf("%w: option %d with %d bytes of data", wire.ErrProtocol, opt, n)
		}
		if _, err := c.br.Discard(int(n)); err != nil {
			return 0, nil, err
		}
		if err := c.reply(opt, wire.RepErrTooBig, nil); err != nil {
			return 0, nil, err
		}
	}
}

// reply sends one answer to an option.
func (c *conn) reply(o wire.Option, t wire.OptionReply, data []byte) error {
	_, err := c.nc.Write(wire.AppendOptionReply(nil, o, t, data))
	return err
}

// refuse answers an option with an error and a message for people.
func (c *conn) refuse(o wire.Option, t wire.OptionReply, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	return c.reply(o, t, []byte(msg[:min(len(msg), wire.MaxName)]))
}

// answerOption answers one option. An error ends the connection.
func (c *conn) answerOption(ctx context.Context, o wire.Option, data []byte) error {
	needTLS := c.srv.cfg.TLSMode == TLSRequired && !c.tls
	switch {
	case o == wire.OptAbort:
		_ = c.reply(o, wire.RepAck, nil) // the client may have left already
		return errDone
	case c.draining.Load() && o != wire.OptExportName:
		return c.refuse(o, wire.RepErrShutdown, "server is shutting down")
	case o == wire.OptStartTLS:
		return c.startTLS(ctx, data)
	case needTLS && o == wire.OptExportName:
		return fmt.Errorf("%w: client asks for an export before TLS", wire.ErrProtocol)
	case needTLS:
		return c.refuse(o, wire.RepErrTLSReqd, "TLS is required: start it first")
	}
	switch o {
	case wire.OptExportName:
		return c.exportName(string(data))
	case wire.OptList:
		return c.list(data)
	case wire.OptInfo, wire.OptGo:
		return c.info(o, data)
	case wire.OptStructuredReply:
		if len(data) != 0 {
			return c.refuse(o, wire.RepErrInvalid, "option takes no data")
		}
		c.structured = true
		return c.reply(o, wire.RepAck, nil)
	case wire.OptListMetaContext, wire.OptSetMetaContext:
		return c.metaContext(o, data)
	}
	return c.refuse(o, wire.RepErrUnsup, "option %d is not supported", o)
}

// exportName opens an export the old way, in which errors cannot be told.
func (c *conn) exportName(name string) error {
	if len(name) > wire.MaxName {
		return fmt.Errorf("%w: export name of %d bytes", wire.ErrProtocol, len(name))
	}
	e, err := c.srv.open(name)
	if err != nil {
		return err
	}
	if err := c.attach(e, name); err != nil {
		return errors.Join(err, e.close())
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(e.Device.Size()))
	b = binary.BigEndian.AppendUint16(b, e.flags(c.structured))
	if !c.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	_, err = c.nc.Write(b)
	return err
}

// list answers LIST.
func (c *conn) list(data []byte) error {
	if len(data) != 0 {
		return c.refuse(wire.OptList, wire.RepErrInvalid, "option takes no data")
	}
	var b []byte
	for _, name := range c.srv.cfg.Exports.List() {
		b = wire.AppendOptionReply(b, wire.OptList, wire.RepServer, wire.AppendString(nil, name))
	}
	_, err := c.nc.Write(wire.AppendOptionReply(b, wire.OptList, wire.RepAck, nil))
	return err
}

// parseInfo reads the data of INFO and GO: a name and the items wanted.
func parseInfo(data []byte) (name string, want map[wire.Info]bool, err error) {
	name, rest, err := wire.TakeString(data)
	if err != nil {
		return "", nil, err
	}
	if len(rest) < 2 || len(rest)-2 != 2*int(binary.BigEndian.Uint16(rest)) {
		return "", nil, fmt.Errorf("%w: list of %d bytes of items does not fit its count", wire.ErrProtocol, len(rest))
	}
	want = make(map[wire.Info]bool)
	for rest = rest[2:]; len(rest) > 0; rest = rest[2:] {
		want[wire.Info(binary.BigEndian.Uint16(rest))] = true
	}
	return name, want, nil
}

// info answers INFO, and GO, which keeps the export open.
func (c *conn) info(o wire.Option, data []byte) error {
	name, want, err := parseInfo(data)
	if err != nil {
		return c.refuse(o, wire.RepErrInvalid, "%v", err)
	}
	e, err := c.srv.open(name)
	if err != nil {
		return c.refuseExport(o, err)
	}
	if o == wire.OptGo {
		if err := c.attach(e, name); err != nil {
			return errors.Join(c.refuse(o, wire.RepErrUnknown, "%v", err), e.close())
		}
	} else {
		defer func() { _ = e.close() }()
	}
	_, err = c.nc.Write(appendInfo(o, e, want, c.structured))
	return err
}

// appendInfo returns the answer to INFO or GO about e.
func appendInfo(o wire.Option, e *Export, want map[wire.Info]bool, structured bool) []byte {
	var b []byte
	item := func(t wire.Info, data []byte) {
		b = wire.AppendOptionReply(b, o, wire.RepInfo, append(binary.BigEndian.AppendUint16(nil, uint16(t)), data...))
	}
	size := binary.BigEndian.AppendUint64(nil, uint64(e.Device.Size()))
	item(wire.InfoExport, binary.BigEndian.AppendUint16(size, e.flags(structured)))
	blocks := binary.BigEndian.AppendUint32(nil, uint32(e.BlockSizes.Min))
	blocks = binary.BigEndian.AppendUint32(blocks, uint32(e.BlockSizes.Preferred))
	item(wire.InfoBlockSize, binary.BigEndian.AppendUint32(blocks, uint32(e.BlockSizes.Max)))
	if want[wire.InfoName] {
		item(wire.InfoName, []byte(e.Name))
	}
	if want[wire.InfoDescription] && e.Description != "" {
		item(wire.InfoDescription, []byte(e.Description))
	}
	return wire.AppendOptionReply(b, o, wire.RepAck, nil)
}

// refuseExport tells a client why it does not get an export.
func (c *conn) refuseExport(o wire.Option, err error) error {
	if errors.Is(err, ErrNoExport) {
		return c.refuse(o, wire.RepErrUnknown, "%v", err)
	}
	c.log.Warn("nbd: export refused", "err", err)
	return c.refuse(o, wire.RepErrPolicy, "%v", err)
}
