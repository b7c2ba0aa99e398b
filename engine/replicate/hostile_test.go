// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/replica"
)

const (
	hostileSize = 64 << 10
	storeID     = "aaaaaaaa-0000-0000-0000-000000000000"
)

// played is a connection whose other end has said all that it will.
type played struct {
	io.Reader
	said bytes.Buffer
}

func (p *played) Write(b []byte) (int, error) { return p.said.Write(b) }
func (p *played) Close() error                { return nil }

// fenced is an origin that fails the test when it is used where it is not.
type fenced struct {
	t testing.TB
	p []byte
}

func (f *fenced) Size() int64 { return int64(len(f.p)) }

func (f *fenced) within(off, n int64) {
	if off < 0 || n < 0 || off > f.Size() || n > f.Size()-off {
		f.t.Errorf("%d bytes at offset %d are outside the volume", n, off)
	}
}

func (f *fenced) ReadAt(p []byte, off int64) (int, error) {
	f.within(off, int64(len(p)))
	return copy(p, f.p[off:]), nil
}

func (f *fenced) WriteAt(p []byte, off int64) (int, error) {
	f.within(off, int64(len(p)))
	return copy(f.p[off:], p), nil
}

func (f *fenced) Zero(off, n int64) error {
	f.within(off, n)
	clear(f.p[off : off+n])
	return nil
}

func (f *fenced) Flush() error { return nil }

// blank manages a store without snapshots.
type blank struct{}

func (blank) Do(_ context.Context, r admin.Request) (admin.Response, error) {
	switch r.Verb {
	case admin.VerbStatus:
		return admin.Response{Status: &admin.Status{UUID: storeID, OriginSize: hostileSize, ChunkSize: 4096}}, nil
	case admin.VerbCreate:
		return admin.Response{Snapshot: &admin.Snapshot{Tag: r.New.Tag}}, nil
	}
	return admin.Response{}, nil
}

func blankReceiver(t testing.TB) (*Receiver, *fenced) {
	f := &fenced{t, make([]byte, hostileSize)}
	return &Receiver{Full: true, Open: func(context.Context) (replica.Volume, func() error, error) {
		return replica.Volume{Manager: blank{}, Origin: f}, func() error { return nil }, nil
	}}, f
}

// pattern is the content of a snapshot.
type pattern struct{}

func (pattern) Size() int64 { return hostileSize }
func (pattern) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte((off+int64(i))>>12) + 1
	}
	return len(p), nil
}

func patternOffer() Offer {
	return Offer{To: Copy{Store: storeID, Generation: 5, Tag: 1}, Size: hostileSize, Open: func(context.Context, *Copy) (*Delta, error) {
		id := delta.Identity{Store: [16]byte{0xaa, 0xaa, 0xaa, 0xaa}, Generation: 5}
		return &Delta{
			Source: delta.Source{Target: pattern{}, Extents: []delta.Extent{{Length: hostileSize}}},
			Options: delta.EncodeOptions{
				Header:  delta.Header{ChunkSize: 4096, Extent: 64 << 10, Codecs: []codec.ID{codec.Raw, codec.Zstd}, To: delta.End{Identity: id, Tag: 1, Size: hostileSize}},
				Workers: 1, Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.Zstd, codec.Options{}) },
			},
		}, nil
	}}
}

// frames is what a sender says that gets no answer but expects the best.
func frames(t testing.TB) []byte {
	var p []byte
	p = appendFrame(p, kindHello, hello{1, 1, roleSender, time.Minute}.encode())
	p = appendFrame(p, kindPropose, encodeJSON(proposal{To: patternOffer().To, Size: hostileSize}))
	content := make([]byte, 4096)
	p = appendFrame(p, kindProbe, probe{delta.Extent{Length: 4096}, delta.SumOf(content)}.append(nil))
	p = appendFrame(p, kindStart, binary.LittleEndian.AppendUint64(nil, 0))
	d, err := patternOffer().Open(t.Context(), nil)
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = delta.Encode(t.Context(), &b, d.Source, d.Options)
	require.NoError(t, err)
	for b.Len() > 0 {
		p = appendFrame(p, kindData, b.Next(50_000))
	}
	return p
}

// mended returns the frames with right checksums, as far as they are frames.
func mended(p []byte) []byte {
	p = bytes.Clone(p)
	for at := 0; len(p)-at >= frameSize; {
		n := int64(binary.LittleEndian.Uint32(p[at+4:]))
		if n > int64(len(p)-at-frameSize) {
			break
		}
		f := appendFrame(nil, kind(p[at]), p[at+frameSize:][:n])
		copy(p[at:], f)
		at += len(f)
	}
	return p
}

// FuzzReceiver: whatever a peer says, the receiver writes nothing outside its volume, and
// keeps no more than the bounds allow.
func FuzzReceiver(f *testing.F) {
	good := frames(f)
	f.Add(good, false)
	f.Add(good[:len(good)-10], false)
	f.Add(good[:60], true)
	f.Fuzz(func(t *testing.T, p []byte, mend bool) {
		if mend {
			p = mended(p)
		}
		r, _ := blankReceiver(t)
		_, _ = r.Serve(t.Context(), &played{Reader: bytes.NewReader(p)})
	})
}

// FuzzSender: whatever a receiver answers, the sender ends.
func FuzzSender(f *testing.F) {
	p := appendFrame(nil, kindHello, hello{1, 1, roleReceiver, time.Minute}.encode())
	f.Add(appendFrame(p, kindStanding, encodeJSON(standing{There: true})))
	p = appendFrame(p, kindStanding, encodeJSON(standing{Size: hostileSize, Resume: resume{"x", 5}}))
	f.Add(appendFrame(p, kindHad, []byte{9, 0, 0, 0}))
	p = appendFrame(p, kindHad, []byte{0, 0, 0, 0})
	f.Add(appendFrame(appendFrame(p, kindAck, ack{-5, 1 << 60}.encode()), kindDone, []byte("{}")))
	f.Fuzz(func(t *testing.T, p []byte) {
		_, _ = Send(t.Context(), &played{Reader: bytes.NewReader(mended(p))}, patternOffer(), SendOptions{})
	})
}

// FuzzVerify: whatever a receiver answers to one that compares, that ends, and believes
// in no content beyond the volume.
func FuzzVerify(f *testing.F) {
	p := appendFrame(nil, kindHello, hello{1, 1, roleReceiver, time.Minute}.encode())
	p = appendFrame(p, kindStanding, encodeJSON(standing{Size: hostileSize, There: true, Digest: digest.Zero(0).String()}))
	f.Add(appendFrame(p, kindSums, make([]byte, sumsSize)), true)
	sums := encodeSums([][digest.Fanout]digest.Sum{{digest.Sum{1}}})
	for range digest.Height {
		p = appendFrame(p, kindSums, sums)
	}
	f.Add(appendFrame(appendFrame(p, kindEqual, []byte{0xfe, 0xff}), kindDone, []byte("{}")), true)
	f.Add(p, false)
	f.Fuzz(func(t *testing.T, p []byte, tree bool) {
		o := Original{To: patternOffer().To, Size: hostileSize, Chunk: 4096, Content: pattern{}, Digest: digest.Sum{9}}
		if tree {
			o.Tree = digest.TreeOf(digest.Nothing{})
		}
		_, _ = Verify(t.Context(), &played{Reader: bytes.NewReader(mended(p))}, o, VerifyOptions{Differs: func(x delta.Extent) error {
			require.GreaterOrEqual(t, x.Offset, int64(0))
			require.LessOrEqual(t, x.Offset+x.Length, int64(hostileSize))
			return nil
		}})
	})
}

// TestNodesAreOfTheTree: no node is asked for or answered that the tree has not.
func TestNodesAreOfTheTree(t *testing.T) {
	for _, n := range []digest.Node{{Level: 0}, {Level: digest.Height + 1}, {Level: digest.Height, Index: 1}, {Level: 1, Index: 1 << 32}} {
		_, err := decodeNodes(encodeNodes([]digest.Node{n}))
		require.ErrorIs(t, err, ErrProtocol)
	}
	good := []digest.Node{{Level: digest.Height}, {Level: 1, Index: 1<<32 - 1}}
	got, err := decodeNodes(encodeNodes(good))
	require.NoError(t, err)
	require.Equal(t, good, got)
	_, err = decodeNodes(encodeNodes(good)[:17])
	require.ErrorIs(t, err, ErrProtocol)

	sums := make([][digest.Fanout]digest.Sum, 1)
	for i := range sums[0] {
		sums[0][i] = digest.Zero(0)
	}
	theirs := remoteTree{leaves: 3, ask: func([]byte) ([]byte, error) { return encodeSums(sums), nil }}
	sums[0][2] = digest.Sum{1}
	_, err = theirs.Children([]digest.Node{{Level: 1}})
	require.NoError(t, err)
	sums[0][3] = digest.Sum{1}
	_, err = theirs.Children([]digest.Node{{Level: 1}})
	require.ErrorIs(t, err, ErrProtocol)
	_, err = theirs.Children([]digest.Node{{Level: 1}, {Level: 1, Index: 1}})
	require.ErrorIs(t, err, ErrProtocol, "an answer to one of two")
}

// TestGoodFrames shows that the fuzzer begins with what is right.
func TestGoodFrames(t *testing.T) {
	r, origin := blankReceiver(t)
	c := &played{Reader: bytes.NewReader(frames(t))}
	_, err := r.Serve(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, byte(1), origin.p[0])
	require.Equal(t, byte(16), origin.p[hostileSize-1])
}

// TestDamagedFrames: a frame that is not as it was sent ends the session.
func TestDamagedFrames(t *testing.T) {
	good := frames(t)
	for at := 0; at < len(good); at += 1 + at/7 {
		p := bytes.Clone(good)
		p[at] ^= 0x10
		r, _ := blankReceiver(t)
		_, err := r.Serve(t.Context(), &played{Reader: bytes.NewReader(p)})
		require.Error(t, err, "byte %d", at)
	}
}

// endless is a peer that says a frame's begin, and more of the payload as long as it is heard.
type endless struct{ read int64 }

func (e *endless) Read(p []byte) (int, error) {
	e.read += int64(len(p))
	if e.read > 1<<30 {
		return 0, errors.New("somebody reads without end")
	}
	for i := range p {
		p[i] = 0xff
	}
	return len(p), nil
}

// TestBounds: no length that a peer states makes memory of more than a frame.
func TestBounds(t *testing.T) {
	for k := range kind(20) {
		head := []byte{byte(k), 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}
		e := &endless{}
		_, _, buf, err := readFrame(io.MultiReader(bytes.NewReader(head), e), nil)
		require.ErrorIs(t, err, ErrProtocol)
		require.LessOrEqual(t, cap(buf), frameSize+MaxFrame)
		require.Zero(t, e.read)
	}
	_, err := decodeProbes(probe{Extent: delta.Extent{Offset: hostileSize - 4096, Length: 8192}}.append(nil), hostileSize)
	require.ErrorIs(t, err, ErrProtocol)
	_, err = decodeProbes(probe{Extent: delta.Extent{Offset: -4096, Length: 4096}}.append(nil), hostileSize)
	require.ErrorIs(t, err, ErrProtocol)
	_, err = decodeProbes(probe{Extent: delta.Extent{Offset: 0, Length: maxPiece + 512}}.append(nil), 1<<40)
	require.ErrorIs(t, err, ErrProtocol)
}

// TestVersions: sides that have no version in common do not go on.
func TestVersions(t *testing.T) {
	for _, h := range []hello{{2, 9, roleSender, time.Minute}, {0, 0, roleSender, time.Minute}, {1, 1, roleReceiver, time.Minute}} {
		r, _ := blankReceiver(t)
		c := &played{Reader: bytes.NewReader(appendFrame(nil, kindHello, h.encode()))}
		_, err := r.Serve(t.Context(), c)
		require.Error(t, err)
		c = &played{Reader: bytes.NewReader(c.said.Bytes())}
		k, _, _, err := readFrame(c, nil)
		require.NoError(t, err)
		require.Equal(t, kindHello, k, "so that the other side knows")
		k, p, _, err := readFrame(c, nil)
		require.NoError(t, err)
		require.Equal(t, kindRefuse, k)
		require.Error(t, decodeRefusal(p))
	}
	require.NoError(t, hello{min: 1, max: 3, role: roleSender}.meets(hello{min: 3, max: 5, role: roleReceiver}))
}

// TestRefusalText: what the other side says is short, and does nothing to a terminal.
func TestRefusalText(t *testing.T) {
	long := refusal(CodeError, errors.New(string(bytes.Repeat([]byte("\x1b\U0001F600"), 5000))))
	require.LessOrEqual(t, len(long), maxControl)
	err := decodeRefusal(long)
	require.NotContains(t, err.Error(), "\x1b")
}

// duplex is a connection in memory that keeps what is written until it is read.
type duplex struct {
	io.Reader
	io.Writer
	closer func()
}

func (d duplex) Close() error { d.closer(); return nil }

func duplexes() (a, b duplex) {
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	closer := func() { _, _, _, _ = ar.Close(), aw.Close(), br.Close(), bw.Close() }
	return duplex{ar, aw, closer}, duplex{br, bw, closer}
}

// TestSilence: a peer that says nothing is gone after a while, and one that only has
// nothing to say is not.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := duplexes()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		begin := time.Now()
		_, err := Send(t.Context(), a, patternOffer(), SendOptions{Idle: 10 * time.Second})
		require.ErrorIs(t, err, ErrConnection)
		require.Equal(t, 10*time.Second, time.Since(begin))
	})
	synctest.Test(t, func(t *testing.T) {
		_, b := duplexes()
		r, _ := blankReceiver(t)
		r.Idle = 7 * time.Second
		begin := time.Now()
		_, err := r.Serve(t.Context(), b)
		require.ErrorIs(t, err, ErrConnection)
		require.Equal(t, 7*time.Second, time.Since(begin))
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := duplexes()
		r, origin := blankReceiver(t)
		r.Idle = 5 * time.Second
		slow := patternOffer()
		open := slow.Open
		slow.Open = func(ctx context.Context, base *Copy) (*Delta, error) {
			time.Sleep(time.Hour) // the snapshot is far away
			return open(ctx, base)
		}
		served := make(chan error)
		go func() {
			_, err := r.Serve(t.Context(), b)
			served <- err
		}()
		_, err := Send(t.Context(), a, slow, SendOptions{})
		require.NoError(t, errors.Join(err, <-served))
		require.Equal(t, byte(1), origin.p[0])
	})
}

// TestLimiter: no more than the rate is sent, and a new rate counts at once.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(1000)
		begin := time.Now()
		for range 100 {
			require.NoError(t, l.Wait(t.Context(), 100))
		}
		require.InDelta(t, 10, time.Since(begin).Seconds(), 0.2)
		waited := make(chan time.Duration)
		begin = time.Now()
		go func() {
			_ = l.Wait(t.Context(), 1_000_000)
			waited <- time.Since(begin)
		}()
		time.Sleep(10 * time.Second)
		l.SetRate(99_000)
		require.InDelta(t, 20, (<-waited).Seconds(), 0.2)
		l.SetRate(0)
		begin = time.Now()
		require.NoError(t, l.Wait(t.Context(), 1<<40))
		require.Zero(t, time.Since(begin))
		l.SetRate(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, l.Wait(ctx, 1000), context.DeadlineExceeded)
	})
	var none *Limiter
	require.NoError(t, none.Wait(t.Context(), 1<<40))
}

// TestDeliver: a delivery goes on after cuts, with pauses, until it is done or given up.
func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, origin := blankReceiver(t)
		tries := 0
		dial := func(context.Context) (io.ReadWriteCloser, error) {
			if tries++; tries < 4 {
				return nil, ErrConnection
			}
			a, b := duplexes()
			go func() { _, _ = r.Serve(t.Context(), b) }()
			return a, nil
		}
		var pauses []time.Duration
		_, err := Deliver(t.Context(), dial, patternOffer(), DeliverOptions{Failed: func(_ error, next time.Duration) { pauses = append(pauses, next) }})
		require.NoError(t, err)
		require.Equal(t, byte(1), origin.p[0])
		require.Len(t, pauses, 3)
		require.GreaterOrEqual(t, pauses[2], 2*time.Second)
		begin := time.Now()
		_, err = Deliver(t.Context(), func(context.Context) (io.ReadWriteCloser, error) { return nil, ErrConnection }, patternOffer(), DeliverOptions{GiveUp: time.Hour})
		require.ErrorIs(t, err, ErrConnection)
		require.InDelta(t, 60, time.Since(begin).Minutes(), 1.1)
		wrong := errors.New("wrong key")
		_, err = Deliver(t.Context(), func(context.Context) (io.ReadWriteCloser, error) { return nil, wrong }, patternOffer(), DeliverOptions{})
		require.ErrorIs(t, err, wrong)
	})
}
