// SPDX-License-Identifier: Apache-2.0

package nbdclient

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/nbd/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testFlags = wire.FlagHasFlags | wire.FlagSendFlush | wire.FlagSendFUA | wire.FlagSendTrim | wire.FlagSendWriteZeroes

// fakeServer runs serve at the other end of a client that is past the
// handshake, and ends with the test. The client's first cookie is 1<<16.
func fakeServer(t testing.TB, structured bool, serve func(nc net.Conn)) *Client {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(theirs)
		_ = theirs.Close()
	}()
	l := newLane(ours, bufio.NewReaderSize(ours, readSize), 4)
	l.structured, l.contexts = structured, map[string]uint32{"x:y": 1}
	c := &Client{info: Info{Size: 1 << 30, Flags: testFlags, MinBlock: 512, MaxPayload: 1 << 20}, lanes: []*lane{l}}
	t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	return c
}

// answering reads one request and answers with fixed bytes.
func answering(reply []byte) func(net.Conn) {
	return func(nc net.Conn) {
		if _, err := io.ReadFull(nc, make([]byte, wire.RequestSize)); err == nil {
			_, _ = nc.Write(reply)
		}
	}
}

const cookie = 1 << 16

func simple(e wire.Errno, cookie uint64, data ...byte) []byte {
	b := make([]byte, wire.SimpleSize)
	wire.PutSimple(b, e, cookie)
	return append(b, data...)
}

func chunk(t wire.ChunkType, flags uint16, payload []byte) []byte {
	b := make([]byte, wire.ChunkSize)
	(&wire.Chunk{Flags: flags, Type: t, Cookie: cookie, Length: uint32(len(payload))}).Put(b)
	return append(b, payload...)
}

func at(off uint64, data ...byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, off), data...)
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// TestReplies has a server answer a read of 1024 bytes at 4096.
func TestReplies(t *testing.T) {
	const done = wire.ChunkFlagDone
	half := make([]byte, 512)
	errorOf := func(e wire.Errno) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(e)), 0, 3, 'w', 'h', 'y')
	}
	hole := func(off uint64, n uint32) []byte { return binary.BigEndian.AppendUint32(at(off), n) }
	for _, tc := range []struct {
		name       string
		structured bool
		reply      []byte
		want       error
	}{
		{"simple", false, simple(wire.OK, cookie, make([]byte, 1024)...), nil},
		{"simple error", false, simple(wire.EIO, cookie), wire.EIO},
		{"cut short", false, simple(wire.OK, cookie, half...), io.ErrUnexpectedEOF},
		{"nothing", false, nil, io.ErrUnexpectedEOF},
		{"bad magic", false, make([]byte, 32), wire.ErrProtocol},
		{"to nobody", false, simple(wire.OK, 2), wire.ErrProtocol},
		{"to a slot that does not exist", false, simple(wire.OK, cookie|0xffff), wire.ErrProtocol},
		{"to a request not made", false, simple(wire.OK, cookie|1), wire.ErrProtocol},
		{"chunk not agreed on", false, chunk(wire.ChunkNone, done, nil), wire.ErrProtocol},
		{"simple to a structured read", true, simple(wire.OK, cookie), wire.ErrProtocol},
		{"two chunks, second first", true, join(chunk(wire.ChunkData, 0, at(4608, half...)), chunk(wire.ChunkHole, done, hole(4096, 512))), nil},
		{"data, then done", true, join(chunk(wire.ChunkData, 0, at(4096, make([]byte, 1024)...)), chunk(wire.ChunkNone, done, nil)), nil},
		{"structured error", true, chunk(wire.ChunkError, done, errorOf(wire.EOVERFLOW)), wire.EOVERFLOW},
		{"data, then error", true, join(chunk(wire.ChunkData, 0, at(4096, half...)), chunk(wire.ChunkErrorOffset, done, append(errorOf(wire.EIO), at(4608)...))), wire.EIO},
		{"too little data", true, chunk(wire.ChunkData, done, at(4096, half...)), wire.ErrProtocol},
		{"done without data", true, chunk(wire.ChunkNone, done, nil), wire.ErrProtocol},
		{"data before the range", true, chunk(wire.ChunkData, done, at(4095, half...)), wire.ErrProtocol},
		{"data beyond the range", true, chunk(wire.ChunkData, done, at(4609, half...)), wire.ErrProtocol},
		{"data far beyond the range", true, chunk(wire.ChunkData, done, at(1<<63, half...)), wire.ErrProtocol},
		{"no data", true, chunk(wire.ChunkData, done, at(4096)), wire.ErrProtocol},
		{"data without offset", true, chunk(wire.ChunkData, done, []byte{1, 2, 3}), wire.ErrProtocol},
		{"huge hole", true, chunk(wire.ChunkHole, done, hole(4096, 1<<31)), wire.ErrProtocol},
		{"status of a read", true, chunk(wire.ChunkBlockStatus, done, make([]byte, 12)), wire.ErrProtocol},
		{"unknown chunk", true, chunk(77, done, nil), wire.ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := fakeServer(t, tc.structured, answering(tc.reply))
			_, err := c.ReadAt(make([]byte, 1024), 4096)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// TestLossFailsAll has the server vanish under several callers, of which more
// exist than can be in flight.
func TestLossFailsAll(t *testing.T) {
	c := fakeServer(t, false, func(nc net.Conn) { _, _ = io.ReadFull(nc, make([]byte, 2*wire.RequestSize)) })
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := c.ReadAt(make([]byte, 512), 0); err == nil {
				t.Error("read succeeded without a server")
			}
		})
	}
	wg.Wait()
	require.Error(t, c.Flush(), "the loss is for good")
}

func TestCloseFailsRequestsUnderWay(t *testing.T) {
	asked := make(chan struct{})
	c := fakeServer(t, false, func(nc net.Conn) {
		_, _ = io.ReadFull(nc, make([]byte, wire.RequestSize))
		close(asked)
		_, _ = io.Copy(io.Discard, nc)
	})
	failed := make(chan error, 1)
	go func() { failed <- c.Flush() }()
	<-asked
	require.NoError(t, c.Close())
	require.Error(t, <-failed)
}

// TestReplyReadByAnother has two callers, and replies that come together: the
// one who did not read must not wait for more.
func TestReplyReadByAnother(t *testing.T) {
	const rounds = 500
	c := fakeServer(t, false, func(nc net.Conn) {
		b := make([]byte, 2*wire.RequestSize)
		for range rounds {
			if _, err := io.ReadFull(nc, b); err != nil {
				return
			}
			first, second := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[wire.RequestSize+8:])
			_, _ = nc.Write(join(simple(wire.OK, second), simple(wire.OK, first)))
		}
	})
	for range rounds {
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := c.Flush(); err != nil {
					t.Errorf("flush: %v", err)
				}
			})
		}
		wg.Wait()
	}
}

func TestWhatTheServerLacks(t *testing.T) {
	c := fakeServer(t, false, func(net.Conn) {})
	c.info.Flags = wire.FlagHasFlags
	_, err := c.WriteFUA(make([]byte, 512), 0)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorIs(t, c.WriteZeroes(0, 512), errors.ErrUnsupported)
	require.NoError(t, c.Flush())
	require.NoError(t, c.Discard(0, 512))
	_, err = c.BlockStatus("no:such", 0, 512)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = c.ReadAt(make([]byte, 512), 1<<30)
	require.Error(t, err, "beyond the end, without asking")
}

func TestBlockStatusKeepsItsContext(t *testing.T) {
	extents := func(id uint32, pairs ...uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, id)
		for _, v := range pairs {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		return b
	}
	c := fakeServer(t, true, answering(join(chunk(wire.ChunkBlockStatus, 0, extents(2, 512, 9)),
		chunk(wire.ChunkBlockStatus, wire.ChunkFlagDone, extents(1, 512, 1, 1024, 0)))))
	got, err := c.BlockStatus("x:y", 0, 4096)
	require.NoError(t, err)
	require.Equal(t, []Extent{{512, 1}, {1024, 0}}, got)
}

// FuzzReplies feeds bytes to callers of every kind of request.
func FuzzReplies(f *testing.F) {
	f.Add(true, simple(wire.OK, cookie))
	f.Add(false, simple(wire.OK, cookie, make([]byte, 512)...))
	f.Add(true, chunk(wire.ChunkData, wire.ChunkFlagDone, at(0, make([]byte, 512)...)))
	f.Add(true, chunk(wire.ChunkBlockStatus, wire.ChunkFlagDone, make([]byte, 12)))
	f.Fuzz(func(t *testing.T, structured bool, replies []byte) {
		c := fakeServer(t, structured, func(nc net.Conn) {
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = io.Copy(io.Discard, nc) })
			_, _ = nc.Write(replies)
			_ = nc.Close()
			wg.Wait()
		})
		_, _ = c.ReadAt(make([]byte, 512), 0)
		_, _ = c.BlockStatus("x:y", 0, 4096)
		_ = c.Flush()
	})
}

// FuzzGreeting feeds bytes to a handshake.
func FuzzGreeting(f *testing.F) {
	greeting := binary.BigEndian.AppendUint64(nil, wire.MagicGreeting)
	greeting = binary.BigEndian.AppendUint64(greeting, wire.MagicOption)
	greeting = append(greeting, 0, 3)
	size := append(make([]byte, 2), at(1<<30, 0, 1)...)
	f.Add(join(greeting, wire.AppendOptionReply(nil, wire.OptStructuredReply, wire.RepAck, nil),
		wire.AppendOptionReply(nil, wire.OptGo, wire.RepInfo, size), wire.AppendOptionReply(nil, wire.OptGo, wire.RepAck, nil)))
	f.Fuzz(func(t *testing.T, input []byte) {
		ours, theirs := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
		wg.Go(func() {
			_, _ = theirs.Write(input)
			_ = theirs.Close()
		})
		opts := Options{Structured: true, InFlight: 1, Timeout: 5 * time.Second}
		ctx, cancel := opts.context()
		l, info, err := attach(ctx, ours, "", opts)
		cancel()
		if err == nil {
			require.NotNil(t, l)
			require.GreaterOrEqual(t, info.Size, int64(0))
			require.Positive(t, info.MaxPayload)
		}
		_ = ours.Close()
		wg.Wait()
	})
}
