// SPDX-License-Identifier: Apache-2.0

package nbdclient

import (
	"encoding/binary"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// maxStatus bounds the length of a chunk without data that is accepted.
const maxStatus = 16 << 20

// chunk reads one chunk of a structured reply.
func (l *lane) chunk() error {
	b, err := l.br.Peek(wire.ChunkSize)
	if err != nil {
		return lost(err)
	}
	var c wire.Chunk
	if err := c.Parse(b); err != nil {
		return err
	}
	_, _ = l.br.Discard(wire.ChunkSize)
	s, err := l.find(c.Cookie)
	if err != nil {
		return err
	}
	if c.Type == wire.ChunkData {
		err = l.dataChunk(s, &c)
	} else {
		err = l.otherChunk(s, &c)
	}
	if err != nil {
		return err
	}
	if c.Flags&wire.ChunkFlagDone != 0 {
		if s.failure == nil && s.Type == wire.CmdRead && s.got != len(s.data) {
			return fmt.Errorf("%w: %d bytes of %d read", wire.ErrProtocol, s.got, len(s.data))
		}
		s.complete()
	}
	return nil
}

// place returns where n bytes read at off belong.
func (s *slot) place(off, n uint64) ([]byte, error) {
	if s.Type != wire.CmdRead || off < s.Offset || off-s.Offset > uint64(len(s.data)) || n == 0 || n > uint64(len(s.data))-(off-s.Offset) {
		return nil, fmt.Errorf("%w: %d bytes at %d in reply to %v of %d at %d", wire.ErrProtocol, n, off, s.Type, s.Length, s.Offset)
	}
	s.got += int(n)
	at := off - s.Offset
	return s.data[at : at+n], nil
}

func (l *lane) dataChunk(s *slot, c *wire.Chunk) error {
	if c.Length < 8 {
		return fmt.Errorf("%w: data chunk of %d bytes", wire.ErrProtocol, c.Length)
	}
	b, err := l.br.Peek(8)
	if err != nil {
		return lost(err)
	}
	off := binary.BigEndian.Uint64(b)
	_, _ = l.br.Discard(8)
	p, err := s.place(off, uint64(c.Length-8))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(l.br, p); err != nil {
		return lost(err)
	}
	return nil
}

// otherChunk handles the chunks that are rare or short.
func (l *lane) otherChunk(s *slot, c *wire.Chunk) error {
	if c.Length > maxStatus {
		return fmt.Errorf("%w: chunk of type %d with %d bytes", wire.ErrProtocol, c.Type, c.Length)
	}
	b := make([]byte, c.Length)
	if _, err := io.ReadFull(l.br, b); err != nil {
		return lost(err)
	}
	bad := fmt.Errorf("%w: chunk of type %d with %d bytes in reply to %v", wire.ErrProtocol, c.Type, c.Length, s.Type)
	switch {
	case c.Type == wire.ChunkNone && len(b) == 0:
		return nil
	case c.Type == wire.ChunkHole && len(b) == 12:
		p, err := s.place(binary.BigEndian.Uint64(b), uint64(binary.BigEndian.Uint32(b[8:])))
		clear(p)
		return err
	case c.Type == wire.ChunkBlockStatus && s.status != nil && len(b) >= 12 && len(b)%8 == 4:
		s.status.parse(b)
		return nil
	case c.Type.IsError() && len(b) >= 6:
		if e := wire.Errno(binary.BigEndian.Uint32(b)); s.failure == nil && e != wire.OK {
			s.failure = e
		}
		return nil
	}
	return bad
}

// parse keeps the extents of the context wanted.
func (st *status) parse(b []byte) {
	if binary.BigEndian.Uint32(b) != st.id {
		return
	}
	for b = b[4:]; len(b) > 0; b = b[8:] {
		st.extents = append(st.extents, Extent{
			Length: int64(binary.BigEndian.Uint32(b)), Flags: binary.BigEndian.Uint32(b[4:]),
		})
	}
}
