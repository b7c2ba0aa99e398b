// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// maxContexts bounds how many metadata contexts a connection can select.
const maxContexts = 64

// chosenContexts is what SET_META_CONTEXT selected, for the export of that name.
// A context's ID is its index plus one.
type chosenContexts struct {
	export string
	names  []string
}

// selectedContext is a context as BLOCK_STATUS answers it.
type selectedContext struct {
	id     uint32
	status StatusFunc
}

// parseQueries reads the data of LIST_META_CONTEXT and SET_META_CONTEXT: an
// export's name and any number of queries.
func parseQueries(data []byte) (export string, queries []string, err error) {
	export, rest, err := wire.TakeString(data)
	if err != nil {
		return "", nil, err
	}
	if len(rest) < 4 {
		return "", nil, fmt.Errorf("%w: number of queries is missing", wire.ErrProtocol)
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	for range count {
		var q string
		if q, rest, err = wire.TakeString(rest); err != nil {
			return "", nil, err // soon, however large the count is
		}
		queries = append(queries, q)
	}
	if len(rest) != 0 {
		return "", nil, fmt.Errorf("%w: %d bytes follow the queries", wire.ErrProtocol, len(rest))
	}
	return export, queries, nil
}

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (c *conn) metaContext(o wire.Option, data []byte) error {
	setting := o == wire.OptSetMetaContext
	if setting {
		c.chosen = chosenContexts{}
	}
	if !c.structured {
		return c.refuse(o, wire.RepErrInvalid, "structured replies must be agreed on first")
	}
	name, queries, err := parseQueries(data)
	if err != nil {
		return c.refuse(o, wire.RepErrInvalid, "%v", err)
	}
	e, err := c.srv.open(name)
	if err != nil {
		return c.refuseExport(o, err)
	}
	names := e.match(queries, !setting)
	if err := e.close(); err != nil {
		c.log.Warn("nbd: closing export", "export", name, "err", err)
	}
	if setting && len(names) > maxContexts {
		return c.refuse(o, wire.RepErrTooBig, "%d contexts asked for, at most %d are possible", len(names), maxContexts)
	}
	var b []byte
	for i, n := range names {
		id := uint32(0)
		if setting {
			id = uint32(i) + 1
		}
		b = wire.AppendOptionReply(b, o, wire.RepMetaContext, append(binary.BigEndian.AppendUint32(nil, id), n...))
	}
	if setting {
		c.chosen = chosenContexts{export: name, names: names}
	}
	_, err = c.nc.Write(wire.AppendOptionReply(b, o, wire.RepAck, nil))
	return err
}

// attach makes e, asked for by name, the connection's export, with the contexts
// that were chosen for that name. It changes nothing if one has gone since.
func (c *conn) attach(e *Export, name string) error {
	var contexts []selectedContext
	if c.chosen.export == name {
		for i, n := range c.chosen.names {
			status := e.Contexts[n]
			if status == nil {
				return fmt.Errorf("export %q no longer has the metadata context %q", name, n)
			}
			contexts = append(contexts, selectedContext{id: uint32(i) + 1, status: status})
		}
	}
	c.export, c.contexts = e, contexts
	return nil
}
