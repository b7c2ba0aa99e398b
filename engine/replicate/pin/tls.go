// SPDX-License-Identifier: Apache-2.0

package pin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

// protocol is what both sides must want to speak (ALPN).
const protocol = "zumastor-replicate"

// validity is for how long before and after it is made a certificate is valid: clocks may
// differ by so much.
const validity = 24 * time.Hour

// handshaking bounds how long it takes until both sides know each other.
const handshaking = 10 * time.Second

// certificate makes a certificate of the key.
func (k *Key) certificate(now time.Time) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "zumastor"},
		NotBefore: now.Add(-validity), NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.private.Public(), k.private)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.private}, nil
}

// config returns the rules of a connection with one of the peers, for either side.
func (k *Key) config(peers Peers) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return k.certificate(time.Now())
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return k.certificate(time.Now())
		},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // there is no authority; VerifyConnection has the last word
		SessionTicketsDisabled: true, // each connection is proved anew
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := peers.check(s, time.Now())
			return err
		},
	}
}

// check returns the peer at the other end of a connection.
func (l Peers) check(s tls.ConnectionState, now time.Time) (Peer, error) {
	if s.Version < tls.VersionTLS13 || s.NegotiatedProtocol != protocol || s.DidResume || len(s.PeerCertificates) != 1 {
		return Peer{}, fmt.Errorf("%w: it speaks something else", ErrPeer)
	}
	c := s.PeerCertificates[0]
	if _, ok := c.PublicKey.(ed25519.PublicKey); !ok {
		return Peer{}, fmt.Errorf("%w: its key is not of Ed25519", ErrPeer)
	}
	id := Pin(sha256.Sum256(c.RawSubjectPublicKeyInfo))
	p, ok := l.find(id)
	switch {
	case !ok:
		return p, fmt.Errorf("%w: its key %v is not known here", ErrPeer, id)
	case !p.Until.IsZero() && !now.Before(p.Until):
		return p, fmt.Errorf("%w: %s was one until %v", ErrPeer, p.Name, p.Until.Format(time.DateOnly))
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return p, fmt.Errorf("%w: the certificate of %s is of %v and now it is %v: are the clocks right?", ErrPeer, p.Name,
			c.NotAfter.Add(-validity).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return p, nil
}

// Client proves to be the owner of the key to the other end of a connection, which must
// be one of the peers. It closes the connection if that fails; the error wraps ErrPeer if
// the other end is somebody else.
func (k *Key) Client(ctx context.Context, conn net.Conn, peers Peers) (*tls.Conn, Peer, error) {
	return handshake(ctx, tls.Client(conn, k.config(peers)), peers)
}

// Server is Client for the side that was connected to. Nothing that the other end sent is
// given out before it has proved to be a peer.
func (k *Key) Server(ctx context.Context, conn net.Conn, peers Peers) (*tls.Conn, Peer, error) {
	return handshake(ctx, tls.Server(conn, k.config(peers)), peers)
}

func handshake(ctx context.Context, c *tls.Conn, peers Peers) (*tls.Conn, Peer, error) {
	brief, cancel := context.WithTimeout(ctx, handshaking)
	defer cancel()
	err := c.HandshakeContext(brief)
	var p Peer
	if err == nil {
		p, err = peers.check(c.ConnectionState(), time.Now())
	}
	if err != nil {
		part(c.NetConn())
		return nil, p, fmt.Errorf("TLS: %w", err)
	}
	return c, p, nil
}

// parting is how long a side that refuses the other waits for it to close, and how much
// it reads and forgets: to close with bytes unread would take the reason back.
const (
	parting      = time.Second
	partingBytes = 64 << 10
)

// part closes a connection after the last word was said.
func part(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(parting)) == nil {
		_, _ = io.CopyN(io.Discard, c, partingBytes) // whatever it was
	}
	_ = c.Close() // the error is the one that counts
}
