// SPDX-License-Identifier: Apache-2.0

package pin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newKey(t testing.TB) *Key {
	k, err := NewKey()
	require.NoError(t, err)
	return k
}

func peer(k *Key, name string) Peers { return Peers{{Pin: k.Pin(), Name: name}} }

// pipe returns the two ends of a TCP connection.
func pipe(t *testing.T) (client, server net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// meet has a server that knows peers meet whatever client does, and returns its error.
// What the server reads after that is appended to got.
func meet(t *testing.T, key *Key, peers Peers, client func(net.Conn) error, got *bytes.Buffer) (clientErr, serverErr error) {
	a, b := pipe(t)
	var all sync.WaitGroup
	all.Go(func() {
		c, _, err := key.Server(t.Context(), b, peers)
		if serverErr = err; err == nil {
			_, _ = io.Copy(got, c)
			_ = c.Close()
		}
	})
	clientErr = client(a)
	_ = a.Close()
	all.Wait()
	return clientErr, serverErr
}

// says is a client that follows the rules and says something.
func says(t *testing.T, key *Key, peers Peers) func(net.Conn) error {
	return func(conn net.Conn) error {
		c, _, err := key.Client(t.Context(), conn, peers)
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("word")); err != nil {
			return err
		}
		return c.Close()
	}
}

func TestPeersMeet(t *testing.T) {
	a, b := newKey(t), newKey(t)
	var got bytes.Buffer
	clientErr, serverErr := meet(t, b, peer(a, "a"), says(t, a, peer(b, "b")), &got)
	require.NoError(t, errors.Join(clientErr, serverErr))
	require.Equal(t, "word", got.String())
}

// TestStrangers: nobody says a word to, or hears one from, who is not a peer.
func TestStrangers(t *testing.T) {
	a, b, other := newKey(t), newKey(t), newKey(t)
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, c := range []struct {
		name           string
		client         *Key
		knows, isKnown Peers // by the client, by the server
		clientRefuses  bool
	}{
		{"a wrong key of the client", other, peer(b, "b"), peer(a, "a"), false},
		{"a wrong key of the server", a, peer(other, "b"), peer(a, "a"), true},
		{"nobody is known", a, peer(b, "b"), nil, false},
		{"the client's time is over", a, peer(b, "b"), Peers{{Pin: a.Pin(), Name: "a", Until: past}}, false},
		{"the server's time is over", a, Peers{{Pin: b.Pin(), Name: "b", Until: past}}, Peers{{Pin: a.Pin(), Name: "a", Until: future}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got bytes.Buffer
			clientErr, serverErr := meet(t, b, c.isKnown, says(t, c.client, c.knows), &got)
			require.Error(t, serverErr)
			require.Empty(t, got.Bytes())
			if c.clientRefuses {
				require.ErrorIs(t, clientErr, ErrPeer)
			} else {
				require.ErrorIs(t, serverErr, ErrPeer)
			}
		})
	}
}

// forged is a client with a TLS configuration of its own.
func forged(cfg *tls.Config) func(net.Conn) error {
	return func(conn net.Conn) error {
		c := tls.Client(conn, cfg)
		if err := c.HandshakeContext(context.Background()); err != nil {
			return err
		}
		_, _ = c.Write([]byte("word"))
		_ = c.CloseWrite()
		_, err := c.Read(make([]byte, 1))
		return err
	}
}

// certOf makes a certificate that was made some time ago.
func certOf(t *testing.T, k *Key, ago time.Duration) tls.Certificate {
	c, err := k.certificate(time.Now().Add(-ago))
	require.NoError(t, err)
	return *c
}

// otherKind makes a certificate of a key that is not of Ed25519.
func otherKind(t *testing.T) (tls.Certificate, Pin) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	require.NoError(t, err)
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}, sha(pub)
}

// TestForgeries: the right key is not enough.
func TestForgeries(t *testing.T) {
	a, b, thief := newKey(t), newKey(t), newKey(t)
	good := func() *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}, Certificates: []tls.Certificate{certOf(t, a, 0)}}
	}
	known := peer(a, "a")
	stolen := certOf(t, a, 0)
	stolen.PrivateKey = thief.private
	other, otherPin := otherKind(t)
	for _, c := range []struct {
		name  string
		wrong func(*tls.Config)
	}{
		{"downgrade to TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
		{"downgrade to TLS 1.0", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }},
		{"another protocol", func(c *tls.Config) { c.NextProtos = []string{"h2"} }},
		{"no protocol", func(c *tls.Config) { c.NextProtos = nil }},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }},
		{"an expired certificate", func(c *tls.Config) { c.Certificates = []tls.Certificate{certOf(t, a, 25*time.Hour)} }},
		{"a certificate of the future", func(c *tls.Config) { c.Certificates = []tls.Certificate{certOf(t, a, -25*time.Hour)} }},
		{"another's certificate without its key", func(c *tls.Config) { c.Certificates = []tls.Certificate{stolen} }},
		{"a key of another kind", func(c *tls.Config) { c.Certificates = []tls.Certificate{other} }},
		{"two certificates", func(c *tls.Config) {
			c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, certOf(t, thief, 0).Certificate[0])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good()
			c.wrong(cfg)
			var got bytes.Buffer
			clientErr, serverErr := meet(t, b, append(known, Peer{Pin: otherPin, Name: "kind"}), forged(cfg), &got)
			require.Error(t, serverErr)
			require.Error(t, clientErr)
			require.Empty(t, got.Bytes())
		})
	}
	var got bytes.Buffer
	_, serverErr := meet(t, b, known, forged(good()), &got)
	require.NoError(t, serverErr, "the forger's tools do work")
	require.Equal(t, "word", got.String())
}

// TestServersDowngrade: a client refuses an old server, or one without a word of it.
func TestServersDowngrade(t *testing.T) {
	a, b := newKey(t), newKey(t)
	for _, wrong := range []func(*tls.Config){
		func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		func(c *tls.Config) { c.NextProtos = nil },
		func(c *tls.Config) { c.Certificates = []tls.Certificate{certOf(t, b, 48*time.Hour)} },
	} {
		cfg := &tls.Config{NextProtos: []string{protocol}, Certificates: []tls.Certificate{certOf(t, b, 0)}, ClientAuth: tls.RequireAnyClientCert}
		wrong(cfg)
		client, server := pipe(t)
		var all sync.WaitGroup
		all.Go(func() {
			_ = tls.Server(server, cfg).HandshakeContext(t.Context())
			_ = server.Close()
		})
		_, _, err := a.Client(t.Context(), client, peer(b, "b"))
		require.Error(t, err)
		all.Wait()
	}
}

// recorder keeps what is written.
type recorder struct {
	net.Conn
	all *bytes.Buffer
}

func (r recorder) Write(p []byte) (int, error) {
	r.all.Write(p)
	return r.Conn.Write(p)
}

// TestReplay: who has recorded a session can do nothing with it.
func TestReplay(t *testing.T) {
	a, b := newKey(t), newKey(t)
	var heard, got bytes.Buffer
	_, serverErr := meet(t, b, peer(a, "a"), func(c net.Conn) error { return says(t, a, peer(b, "b"))(recorder{c, &heard}) }, &got)
	require.NoError(t, serverErr)
	require.Equal(t, "word", got.String())
	got.Reset()
	_, serverErr = meet(t, b, peer(a, "a"), func(c net.Conn) error {
		_, err := c.Write(heard.Bytes())
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, c)
		return nil
	}, &got)
	require.Error(t, serverErr)
	require.Empty(t, got.Bytes())
}

// TestInTheClear: what is no TLS is not heard.
func TestInTheClear(t *testing.T) {
	a, b := newKey(t), newKey(t)
	var got bytes.Buffer
	_, serverErr := meet(t, b, peer(a, "a"), func(c net.Conn) error {
		_, _ = c.Write(bytes.Repeat([]byte("word"), 1000))
		return nil
	}, &got)
	require.Error(t, serverErr)
	require.Empty(t, got.Bytes())
}

func TestListener(t *testing.T) {
	a, b, other := newKey(t), newKey(t), newKey(t)
	from, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	words, refused := make(chan string, 1), make(chan error, 1)
	l := &Listener{
		Key: b, Peers: func() (Peers, error) { return peer(a, "a"), nil },
		Handle: func(_ context.Context, c *tls.Conn, p Peer) {
			text, _ := io.ReadAll(c)
			_ = c.Close()
			words <- p.Name + " says " + string(text)
		},
		Refused: func(_ net.Addr, err error) { refused <- err },
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- l.Serve(ctx, from) }()
	dial := func(k *Key) error {
		c, err := net.Dial("tcp", from.Addr().String())
		require.NoError(t, err)
		return says(t, k, peer(b, "b"))(c)
	}
	require.NoError(t, dial(a))
	require.Equal(t, "a says word", <-words)
	_ = dial(other)
	require.ErrorIs(t, <-refused, ErrPeer)
	cancel()
	require.NoError(t, <-served)
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k := newKey(t)
	require.NoError(t, k.Save(path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	require.ErrorIs(t, newKey(t).Save(path), os.ErrExist)
	got, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, k.Pin(), got.Pin())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = Load(path)
		require.ErrorIs(t, err, ErrKey)
	}
	for _, text := range []string{"", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chmod(path, 0o600))
		_, err = Load(path)
		require.ErrorIs(t, err, ErrKey)
	}
	_, err = Load(filepath.Dir(path))
	require.ErrorContains(t, err, "not a regular file")
}

func TestPeersFile(t *testing.T) {
	a, b := newKey(t).Pin().String(), newKey(t).Pin().String()
	list, err := ParsePeers("# who\n\n" + a + " one\n  " + b + "\ttwo until=2031-05-06 # until then\n")
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, a, list[0].Pin.String())
	require.Equal(t, "two", list.Named("two")[0].Name)
	require.Equal(t, time.Date(2031, 5, 7, 0, 0, 0, 0, time.UTC), list[1].Until)
	require.Empty(t, list.Named("three"))
	for _, text := range []string{
		a, a + " one\n" + a + " two", "sha256:AAAA one", a[:len(a)-1] + " one", "md5:" + a[7:] + " one", a + " until=2031-05-06",
		a + " one till=2031-05-06", a + " one until=yesterday", a + "= one",
	} {
		_, err := ParsePeers(text)
		require.Error(t, err, text)
	}
	path := filepath.Join(t.TempDir(), "peers")
	require.NoError(t, os.WriteFile(path, []byte(a+" one\n"), 0o600))
	_, err = LoadPeers(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o664))
	_, err = LoadPeers(path)
	require.ErrorContains(t, err, "others may write")
}

// FuzzPeers: whatever the file has, what is read is what is written of it.
func FuzzPeers(f *testing.F) {
	f.Add(newKey(f).Pin().String() + " one until=2031-05-06 # x\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParsePeers(text)
		if err != nil {
			return
		}
		for _, p := range list {
			again, err := ParsePeers(p.Pin.String() + " " + p.Name)
			require.NoError(t, err)
			require.Equal(t, p.Pin, again[0].Pin)
			require.Equal(t, p.Name, again[0].Name)
		}
	})
}

func sha(p []byte) Pin { return sha256.Sum256(p) }
