// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// LoadTLS reads a server's certificate from dir, which has the layout that qemu,
// nbdkit and libnbd use: server-cert.pem, server-key.pem and, where
// clientCerts asks that clients prove who they are, ca-cert.pem.
func LoadTLS(dir string, clientCerts bool) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server-cert.pem"), filepath.Join(dir, "server-key.pem"))
	if err != nil {
		return nil, fmt.Errorf("nbd: loading the server's certificate: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if !clientCerts {
		return cfg, nil
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca-cert.pem"))
	if err != nil {
		return nil, fmt.Errorf("nbd: loading the authority of client certificates: %w", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("nbd: %s has no certificate", filepath.Join(dir, "ca-cert.pem"))
	}
	return cfg, nil
}

// startTLS answers STARTTLS and makes the connection a TLS one. What was
// negotiated in the clear is forgotten, and bytes that came ahead of TLS in the
// clear are refused: both could be an attacker's.
func (c *conn) startTLS(ctx context.Context, data []byte) error {
	const o = wire.OptStartTLS
	switch {
	case len(data) != 0:
		return c.refuse(o, wire.RepErrInvalid, "option takes no data")
	case c.tls:
		return c.refuse(o, wire.RepErrInvalid, "TLS is up already")
	case c.srv.cfg.TLSMode == TLSOff:
		return c.refuse(o, wire.RepErrPolicy, "this server has no TLS")
	case c.br.Buffered() != 0:
		return fmt.Errorf("%w: client sent %d bytes in the clear after STARTTLS", wire.ErrProtocol, c.br.Buffered())
	}
	if err := c.reply(o, wire.RepAck, nil); err != nil {
		return err
	}
	tc := tls.Server(c.raw, c.srv.cfg.TLS)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.nc, c.br, c.tls = tc, bufio.NewReaderSize(tc, readSize), true
	c.structured, c.chosen = false, chosenContexts{}
	return nil
}
