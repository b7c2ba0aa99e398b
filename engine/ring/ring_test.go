// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t testing.TB, size int) (server, client *Conn) {
	server, client, err := Pair(size, size)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.NoError(t, client.Close())
	})
	return server, client
}

// The positions wrap at 2^32 too: start shortly before.
func nearTheEnd(server, client *Conn) {
	const at = 1<<32 - 1000
	for _, c := range []*Conn{server, client} {
		c.head, c.tail = at, at
		c.in.head.Store(at)
		c.in.tail.Store(at)
		c.out.head.Store(at)
		c.out.tail.Store(at)
	}
}

// Where a side goes to sleep while the other gives it something to see, it sees that or
// is woken. The two meet at all moments of the way to sleep.
func TestNoWakeIsLost(t *testing.T) {
	for _, who := range []string{"reader", "writer"} {
		server, client := pair(t, 64)
		var woken atomic.Bool
		wakes := func(uintptr) error {
			woken.Store(true)
			return nil
		}
		server.wake, client.wake = wakes, wakes
		server.dst, client.src = make([]byte, 64), make([]byte, 64)
		sleeps, acts := server.tryRead, client.tryWrite
		if who == "writer" {
			sleeps, acts = acts, sleeps
			require.True(t, client.tryWrite(0)) // it has no room from now on
		}
		server.in.writerWaits.Store(0)
		const rounds = 5000
		var begun, ended atomic.Int64
		var slept bool
		var other sync.WaitGroup
		other.Go(func() {
			for n := range int64(rounds) {
				for begun.Load() <= n {
				}
				idle(n * 7 % 200)
				slept = !sleeps(0)
				ended.Store(n + 1)
			}
		})
		lost := 0
		for n := range int64(rounds) {
			woken.Store(false)
			begun.Store(n + 1)
			idle(n * 3 % 200)
			acted := acts(0)
			for ended.Load() <= n {
			}
			if !acted || slept && !woken.Load() {
				lost++
			}
			if slept {
				sleeps(0)
			}
		}
		other.Wait()
		require.Zero(t, lost, who)
	}
}

// idle passes a moment.
func idle(n int64) {
	for range n {
		runtime.KeepAlive(n)
	}
}

// What is written comes out, in order and whole, however the sides wait.
func TestMessagesBothWays(t *testing.T) {
	server, client := pair(t, 4096)
	nearTheEnd(server, client)
	var work sync.WaitGroup
	for i, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
		const messages = 20000
		work.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range uint64(messages) {
				p := binary.LittleEndian.AppendUint64(nil, n)
				p = append(p, bytes.Repeat([]byte{byte(n)}, r.IntN(3000)*r.IntN(2))...)
				if _, err := way.from.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(p)))); err != nil {
					t.Error(err)
					return
				}
				if _, err := way.from.Write(p); err != nil {
					t.Error(err)
					return
				}
			}
		})
		work.Go(func() {
			var head [4]byte
			total := uint64(0)
			for n := range uint64(messages) {
				if _, err := io.ReadFull(way.to, head[:]); err != nil {
					t.Error(err)
					return
				}
				p := make([]byte, binary.LittleEndian.Uint32(head[:]))
				if _, err := io.ReadFull(way.to, p); err != nil {
					t.Error(err)
					return
				}
				if binary.LittleEndian.Uint64(p) != n || !bytes.Equal(p[8:], bytes.Repeat([]byte{byte(n)}, len(p)-8)) {
					t.Errorf("message %d is another", n)
					return
				}
				total += uint64(4 + len(p))
				if sent, err := way.to.Sent(); err != nil || sent < total {
					t.Errorf("%d bytes were sent: %v", sent, err)
					return
				}
			}
		})
	}
	work.Wait()
}

func TestSentCountsWhatIsQueued(t *testing.T) {
	server, client := pair(t, 4096)
	for i := range 100 {
		_, err := client.Write(make([]byte, 40))
		require.NoError(t, err)
		sent, err := server.Sent()
		require.NoError(t, err)
		require.Equal(t, uint64(40*(i+1)), sent)
		if i > 50 {
			_, err = io.ReadFull(server, make([]byte, 60))
			require.NoError(t, err)
		}
	}
}

// A message is there as a whole or not at all, and a deadline ends the wait.
func TestWritesAreWhole(t *testing.T) {
	server, client := pair(t, 4096)
	_, err := server.Write(make([]byte, 4097))
	require.ErrorContains(t, err, "does not fit")
	_, err = server.Write(make([]byte, 4000))
	require.NoError(t, err)
	require.NoError(t, server.SetWriteDeadline(time.Now().Add(time.Millisecond)))
	_, err = server.Write(make([]byte, 100))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	sent, err := client.Sent()
	require.NoError(t, err)
	require.Equal(t, uint64(4000), sent)
	_, err = client.Read(make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, server.SetWriteDeadline(time.Time{}))
	_, err = server.Write(make([]byte, 100))
	require.NoError(t, err)
}

// A side that is woken was waiting, and is woken by no more than that.
func TestOnlyWhoWaitsIsWoken(t *testing.T) {
	server, client := pair(t, 4096)
	wakes := 0
	inner := client.wake
	client.wake = func(fd uintptr) error { wakes++; return inner(fd) }
	for range 10 {
		_, err := client.Write(make([]byte, 16))
		require.NoError(t, err)
	}
	require.Zero(t, wakes)
	require.False(t, func() bool {
		_, err := io.ReadFull(server, make([]byte, 160))
		require.NoError(t, err)
		server.dst = make([]byte, 1)
		return server.tryRead(0) // waits from now on
	}())
	for range 10 {
		_, err := client.Write(make([]byte, 16))
		require.NoError(t, err)
	}
	require.Equal(t, 1, wakes)
}

// The kernel leaves the flags of the server set: who has gone on is not woken any more.
func TestWhoGoesOnTakesItsFlagBack(t *testing.T) {
	server, client := pair(t, 64)
	_, err := client.Write(make([]byte, 48))
	require.NoError(t, err)
	server.in.readerWaits.Store(1)
	n, err := server.Read(make([]byte, 64))
	require.NoError(t, err)
	require.Equal(t, 48, n)
	require.Zero(t, server.in.readerWaits.Load())
	server.out.writerWaits.Store(1)
	_, err = server.Write(make([]byte, 48))
	require.NoError(t, err)
	require.Zero(t, server.out.writerWaits.Load())
}

func TestEndComesAfterWhatWasSent(t *testing.T) {
	server, client := pair(t, 4096)
	_, err := client.Write([]byte("last"))
	require.NoError(t, err)
	require.NoError(t, client.Close())
	p := make([]byte, 10)
	n, err := server.Read(p)
	require.NoError(t, err)
	require.Equal(t, "last", string(p[:n]))
	_, err = server.Read(p)
	require.ErrorIs(t, err, io.EOF)
	_, err = server.Write(p)
	require.ErrorIs(t, err, unix.EPIPE)
}

func TestCloseEndsWhatWaits(t *testing.T) {
	for _, closes := range []string{"this", "other"} {
		server, client := pair(t, 4096)
		_, err := server.Write(make([]byte, 4096))
		require.NoError(t, err)
		errs := make(chan error, 2)
		go func() {
			_, err := server.Read(make([]byte, 1))
			errs <- err
		}()
		go func() {
			_, err := server.Write(make([]byte, 1))
			errs <- err
		}()
		for server.in.readerWaits.Load() == 0 || server.out.writerWaits.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		if closes == "this" {
			require.NoError(t, server.Close())
			_, err := server.Sent()
			require.ErrorIs(t, err, os.ErrClosed)
		} else {
			require.NoError(t, client.Close())
		}
		require.Error(t, <-errs)
		require.Error(t, <-errs)
	}
}

// Positions that cannot be are errors, and no memory beyond the ring is looked at.
func TestImpossiblePositionsAreErrors(t *testing.T) {
	server, _ := pair(t, 4096)
	server.in.head.Store(4097)
	_, err := server.Read(make([]byte, 1))
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = server.Sent()
	require.ErrorIs(t, err, ErrCorrupt)
	server.out.tail.Store(1)
	_, err = server.Write(make([]byte, 1))
	require.ErrorIs(t, err, ErrCorrupt)
}

func TestMessagesAllocateNothing(t *testing.T) {
	server, client := pair(t, 4096)
	p, q := make([]byte, 100), make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := client.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(q); err != nil {
			t.Fatal(err)
		}
	}))
}

func TestWithoutTheModule(t *testing.T) {
	if Present() {
		t.Skip("the kernel has the module")
	}
	_, err := Bind(UUID{1})
	require.ErrorIs(t, err, ErrNoDevice)
	s, err := Query(UUID{1})
	require.NoError(t, err)
	require.Zero(t, s)
}

// A message there and back between two goroutines that wait for each other.
func BenchmarkRoundTrip(b *testing.B) {
	server, client := pair(b, 64<<10)
	go func() {
		p := make([]byte, 64)
		for {
			n, err := server.Read(p)
			if err != nil {
				return
			}
			if _, err := server.Write(p[:n]); err != nil {
				return
			}
		}
	}()
	p := make([]byte, 64)
	for b.Loop() {
		if _, err := client.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, p); err != nil {
			b.Fatal(err)
		}
	}
}
