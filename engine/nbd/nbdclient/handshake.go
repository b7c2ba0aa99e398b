// SPDX-License-Identifier: Apache-2.0

package nbdclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// readSize is the size of the read buffer.
const readSize = 64 << 10

// maxAnswer bounds the data of one answer to an option.
const maxAnswer = 64 << 10

// dialog is a connection in the handshake.
type dialog struct {
	nc net.Conn
	br *bufio.Reader
}

// optionError is a server's refusal of an option.
type optionError struct {
	option  wire.Option
	reply   wire.OptionReply
	message string
}

func (e *optionError) Error() string {
	return fmt.Sprintf("server refuses option %d with error %d: %s", e.option, e.reply&^(1<<31), e.message)
}

// greet exchanges flags and starts TLS where it is wanted.
func greet(ctx context.Context, nc net.Conn, opts Options) (*dialog, error) {
	if t, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(t); err != nil {
			return nil, err
		}
	}
	d := &dialog{nc: nc, br: bufio.NewReaderSize(nc, readSize)}
	var b [18]byte
	if _, err := io.ReadFull(d.br, b[:]); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint64(b[:]) != wire.MagicGreeting || binary.BigEndian.Uint64(b[8:]) != wire.MagicOption {
		return nil, fmt.Errorf("%w: greeting % x is not newstyle NBD", wire.ErrProtocol, b[:16])
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&wire.FlagFixedNewstyle == 0 {
		return nil, fmt.Errorf("%w: server does not speak fixed newstyle", wire.ErrProtocol)
	}
	reply := binary.BigEndian.AppendUint32(nil, uint32(flags&(wire.FlagFixedNewstyle|wire.FlagNoZeroes)))
	if _, err := nc.Write(reply); err != nil {
		return nil, err
	}
	if opts.TLS == nil {
		return d, nil
	}
	if err := d.option(wire.OptStartTLS, nil, nil); err != nil {
		return nil, err
	}
	if d.br.Buffered() != 0 {
		return nil, fmt.Errorf("%w: server sent data in the clear after STARTTLS", wire.ErrProtocol)
	}
	tc := tls.Client(nc, opts.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &dialog{nc: tc, br: bufio.NewReaderSize(tc, readSize)}, nil
}

// option sends an option and reads the answers up to the last. Those that are
// neither ACK nor error go to each.
func (d *dialog) option(o wire.Option, data []byte, each func(wire.OptionReply, []byte) error) error {
	b := make([]byte, wire.OptionSize, wire.OptionSize+len(data))
	wire.PutOption(b, o, uint32(len(data)))
	if _, err := d.nc.Write(append(b, data...)); err != nil {
		return err
	}
	for {
		var head [wire.OptionReplySize]byte
		if _, err := io.ReadFull(d.br, head[:]); err != nil {
			return err
		}
		t, n, err := wire.ParseOptionReply(head[:], o)
		if err != nil {
			return err
		}
		if n > maxAnswer {
			return fmt.Errorf("%w: answer of %d bytes", wire.ErrProtocol, n)
		}
		answer := make([]byte, n)
		if _, err := io.ReadFull(d.br, answer); err != nil {
			return err
		}
		switch {
		case t == wire.RepAck:
			return nil
		case t.IsError():
			return &optionError{option: o, reply: t, message: string(answer)}
		case each == nil:
			return fmt.Errorf("%w: answer %d to option %d", wire.ErrProtocol, t, o)
		}
		if err := each(t, answer); err != nil {
			return err
		}
	}
}

// attach runs the handshake on nc up to transmission.
func attach(ctx context.Context, nc net.Conn, export string, opts Options) (*lane, Info, error) {
	d, err := greet(ctx, nc, opts)
	if err != nil {
		return nil, Info{}, err
	}
	structured := opts.Structured || len(opts.Contexts) > 0
	if structured {
		if err := d.option(wire.OptStructuredReply, nil, nil); err != nil {
			return nil, Info{}, err
		}
	}
	contexts, err := d.contexts(export, opts.Contexts)
	if err != nil {
		return nil, Info{}, err
	}
	info, err := d.goExport(export)
	if err != nil {
		return nil, Info{}, err
	}
	l := newLane(d.nc, d.br, opts.InFlight)
	l.structured, l.contexts = structured, contexts
	return l, info, nc.SetDeadline(time.Time{})
}

// contexts selects metadata contexts, all of which must exist.
func (d *dialog) contexts(export string, names []string) (map[string]uint32, error) {
	if len(names) == 0 {
		return nil, nil
	}
	data := binary.BigEndian.AppendUint32(wire.AppendString(nil, export), uint32(len(names)))
	for _, n := range names {
		data = wire.AppendString(data, n)
	}
	ids := make(map[string]uint32)
	err := d.option(wire.OptSetMetaContext, data, func(t wire.OptionReply, b []byte) error {
		if t != wire.RepMetaContext || len(b) < 4 {
			return fmt.Errorf("%w: answer %d of %d bytes to a choice of contexts", wire.ErrProtocol, t, len(b))
		}
		ids[string(b[4:])] = binary.BigEndian.Uint32(b)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if _, ok := ids[n]; !ok {
			return nil, fmt.Errorf("export has no metadata context %q", n)
		}
	}
	return ids, nil
}

// goExport opens the export.
func (d *dialog) goExport(export string) (Info, error) {
	info := Info{Size: -1, MinBlock: 1, PreferredBlock: 4096, MaxPayload: wire.MaxPayload}
	data := wire.AppendString(nil, export)
	data = binary.BigEndian.AppendUint16(data, 3)
	for _, i := range []wire.Info{wire.InfoBlockSize, wire.InfoName, wire.InfoDescription} {
		data = binary.BigEndian.AppendUint16(data, uint16(i))
	}
	err := d.option(wire.OptGo, data, func(t wire.OptionReply, b []byte) error {
		if t != wire.RepInfo || len(b) < 2 {
			return fmt.Errorf("%w: answer %d of %d bytes to GO", wire.ErrProtocol, t, len(b))
		}
		return info.parse(wire.Info(binary.BigEndian.Uint16(b)), b[2:])
	})
	if err == nil && info.Size < 0 {
		err = fmt.Errorf("%w: server told no size", wire.ErrProtocol)
	}
	return info, err
}

// parse takes in one item of information.
func (i *Info) parse(t wire.Info, b []byte) error {
	switch {
	case t == wire.InfoExport && len(b) == 10:
		i.Size, i.Flags = int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint16(b[8:])
		if i.Size < 0 {
			return fmt.Errorf("%w: size exceeds 63 bits", wire.ErrProtocol)
		}
	case t == wire.InfoBlockSize && len(b) == 12:
		lo, mid, hi := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		if lo == 0 || lo > mid || mid > hi || lo > 64<<10 {
			return fmt.Errorf("%w: block sizes %d, %d, %d", wire.ErrProtocol, lo, mid, hi)
		}
		i.MinBlock, i.PreferredBlock, i.MaxPayload = int(lo), int(mid), int(min(hi, wire.MaxPayload)/lo*lo)
	case t == wire.InfoName:
		i.Name = string(b)
	case t == wire.InfoDescription:
		i.Description = string(b)
	case t == wire.InfoExport || t == wire.InfoBlockSize:
		return fmt.Errorf("%w: item %d of %d bytes", wire.ErrProtocol, t, len(b))
	}
	return nil
}

// list asks for the names of all exports and leaves.
func list(ctx context.Context, nc net.Conn, opts Options) ([]string, error) {
	d, err := greet(ctx, nc, opts)
	if err != nil {
		return nil, err
	}
	var names []string
	err = d.option(wire.OptList, nil, func(t wire.OptionReply, b []byte) error {
		name, _, err := wire.TakeString(b)
		if t != wire.RepServer || err != nil {
			return errors.Join(fmt.Errorf("%w: answer %d to LIST", wire.ErrProtocol, t), err)
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return names, d.option(wire.OptAbort, nil, nil)
}
