// SPDX-License-Identifier: Apache-2.0

// Package pin says who is at the other end of a connection: machines know each other by
// their public keys, as people's machines do with SSH, and by nothing else.
//
// It owns private keys and their files, the file of peers, and the rules of TLS: version
// 1.3 and no other, a key each, and no word before both sides have proved theirs. It does
// not own what is said then. Command ddsnap calls it, for package replicate. Keys and
// lists of peers do not change once they are made; all may be used concurrently.
//
// A connection is refused, on both sides, unless the other side's key is that of a peer,
// known by its pin, whose time is not over. There are no authorities: certificates are
// made on the fly, for each connection, and their names mean nothing. Their dates do: one
// that is out of date is refused, and tells that a clock is wrong by more than a day.
package pin

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Errors that callers decide on.
var (
	// ErrPeer is wrapped when who is at the other end is not who may be there.
	ErrPeer = errors.New("the other side is not a peer")
	// ErrKey is wrapped by the error of a file that has no key, or that others may read.
	ErrKey = errors.New("not a private key of one owner")
)

// Pin is the SHA-256 of a public key, in the form that certificates have it
// (SubjectPublicKeyInfo).
type Pin [sha256.Size]byte

// prefix names what a pin is made with.
const prefix = "sha256:"

// String returns it as in the file of peers.
func (p Pin) String() string { return prefix + base64.RawStdEncoding.EncodeToString(p[:]) }

// Parse is the reverse of String.
func Parse(text string) (p Pin, err error) {
	code, ok := strings.CutPrefix(text, prefix)
	b, err := base64.RawStdEncoding.Strict().DecodeString(code)
	if !ok || err != nil || len(b) != len(p) {
		return p, fmt.Errorf("%q is not a pin: want %s and 43 characters, as \"ddsnap key\" shows it", text, prefix)
	}
	return Pin(b), nil
}

// Key is a machine's private key.
type Key struct{ private ed25519.PrivateKey }

// NewKey makes a key.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return &Key{private}, err
}

// Pin returns the pin of its public key.
func (k *Key) Pin() Pin {
	p, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic(err) // it is an Ed25519 key
	}
	return sha256.Sum256(p)
}

const pemType = "PRIVATE KEY"

// Save writes the key to a new file, which its owner alone may read, and which is there
// complete and durable, or not at all. The error wraps os.ErrExist if there is one.
func (k *Key) Save(path string) error {
	p, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: p}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// maxFile bounds the files that are read, in bytes.
const maxFile = 1 << 20

// Load reads a key that Save wrote. A file that others than its owner may read, or write,
// is refused: the error wraps ErrKey.
func Load(path string) (*Key, error) {
	text, mode, err := read(path)
	if err != nil {
		return nil, err
	}
	if mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: others may read or write %s (mode %#o): \"chmod 600\" it, or make a new one", ErrKey, path, mode)
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != pemType {
		return nil, fmt.Errorf("%w: %s has none", ErrKey, path)
	}
	private, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	k, ok := private.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: the key in %s is not of Ed25519", ErrKey, path)
	}
	return &Key{k}, nil
}

// read reads a regular file.
func read(path string) ([]byte, os.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return text, info.Mode().Perm(), err
}
