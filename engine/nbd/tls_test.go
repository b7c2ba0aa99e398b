// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// authority is a certificate authority for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes an authority and writes ca-cert.pem.
func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes NAME-cert.pem and NAME-key.pem.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	a.write(name+"-cert.pem", "CERTIFICATE", der)
	a.write(name+"-key.pem", "EC PRIVATE KEY", keyDER)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return cert, key
}

func (a *authority) write(file, kind string, der []byte) {
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	require.NoError(a.t, os.WriteFile(filepath.Join(a.dir, file), b, 0o600))
}

// certificateDir returns a directory with the certificates of an authority, a
// server on this machine and a client.
func certificateDir(t *testing.T) string {
	a := newAuthority(t)
	a.issue("server", &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	a.issue("client", &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return a.dir
}

// testCertificates returns the two ends' configs, with client certificates.
func testCertificates(t *testing.T) (server, client *tls.Config) {
	dir := certificateDir(t)
	server, err := LoadTLS(dir, true)
	require.NoError(t, err)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "client-cert.pem"), filepath.Join(dir, "client-key.pem"))
	require.NoError(t, err)
	return server, &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: server.ClientCAs, ServerName: "localhost"}
}

func TestTLSModes(t *testing.T) {
	server, client := testCertificates(t)
	stranger := client.Clone()
	stranger.Certificates = nil
	for _, tc := range []struct {
		name   string
		mode   TLSMode
		client *tls.Config
		ok     bool
	}{
		{"off, plain client", TLSOff, nil, true},
		{"off, TLS client", TLSOff, client, false},
		{"offered, plain client", TLSOffered, nil, true},
		{"offered, TLS client", TLSOffered, client, true},
		{"required, plain client", TLSRequired, nil, false},
		{"required, TLS client", TLSRequired, client, true},
		{"required, client without certificate", TLSRequired, stranger, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ts := start(t, Config{TLS: server, TLSMode: tc.mode}, one())
			c, err := nbdclient.Dial("unix", ts.addr, "", nbdclient.Options{TLS: tc.client})
			names, listErr := nbdclient.List("unix", ts.addr, nbdclient.Options{TLS: tc.client})
			if !tc.ok {
				require.Error(t, err)
				require.Error(t, listErr)
				return
			}
			require.NoError(t, err)
			require.NoError(t, listErr)
			require.Equal(t, []string{""}, names)
			_, err = c.WriteFUA(make([]byte, 4096), 0)
			require.NoError(t, err)
			require.NoError(t, c.Close())
		})
	}
}

// TestStartTLSForgetsTheClear has an attacker prepend options and data to the
// client's TLS session.
func TestStartTLSForgetsTheClear(t *testing.T) {
	server, client := testCertificates(t)
	ts := start(t, Config{TLS: server, TLSMode: TLSOffered}, one())
	r := ts.greeted(t)
	b := make([]byte, 2*wire.OptionSize)
	wire.PutOption(b, wire.OptStartTLS, 0)
	wire.PutOption(b[wire.OptionSize:], wire.OptList, 0)
	r.send(b)
	r.closed()

	r = ts.greeted(t)
	r.option(wire.OptStructuredReply, nil)
	r.answer(wire.OptStructuredReply)
	r.option(wire.OptStartTLS, nil)
	rep, _ := r.answer(wire.OptStartTLS)
	require.Equal(t, wire.RepAck, rep)
	tc := &raw{Conn: tls.Client(r.Conn, client), t: t}
	tc.option(wire.OptSetMetaContext, append(wire.AppendString(nil, ""), 0, 0, 0, 0))
	rep, _ = tc.answer(wire.OptSetMetaContext)
	require.Equal(t, wire.RepErrInvalid, rep, "structured replies were agreed on before TLS")
	tc.option(wire.OptStartTLS, nil)
	rep, _ = tc.answer(wire.OptStartTLS)
	require.Equal(t, wire.RepErrInvalid, rep)
}

func TestLoadTLSErrors(t *testing.T) {
	_, err := LoadTLS(t.TempDir(), false)
	require.ErrorContains(t, err, "server-cert.pem")
	dir := certificateDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca-cert.pem"), []byte("junk"), 0o600))
	_, err = LoadTLS(dir, true)
	require.ErrorContains(t, err, "no certificate")
}
