// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Key is the secret of a repository. Whoever has it can read and make objects.
type Key [32]byte

// keyPrefix begins the text of a key. Part of the format, must not change.
const keyPrefix = "ddsnap-backup-key-1:"

// ErrNoKey is wrapped by the error of a text that is no key.
var ErrNoKey = errors.New("no key of a backup repository")

// NewKey makes a key of random bytes.
func NewKey() (Key, error) {
	var k Key
	_, err := rand.Read(k[:])
	return k, err
}

// Text returns the key as it stands in files.
func (k Key) Text() string { return keyPrefix + base64.StdEncoding.EncodeToString(k[:]) + "\n" }

// ParseKey reads a key's text.
func ParseKey(text string) (Key, error) {
	var k Key
	coded, ok := strings.CutPrefix(strings.TrimSpace(text), keyPrefix)
	p, err := base64.StdEncoding.DecodeString(coded)
	if !ok || err != nil || len(p) != len(k) {
		return k, ErrNoKey
	}
	copy(k[:], p)
	return k, nil
}

// ReadKey reads a key from a file.
func ReadKey(path string) (Key, error) {
	p, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("reading the key: %w", err)
	}
	k, err := ParseKey(string(p))
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// ID names the key of a repository without telling it.
func (k Key) ID(repository string) (string, error) {
	p, err := hkdf.Key(sha256.New, k[:], []byte(repository), "zumastor backup key id", 8)
	return hex.EncodeToString(p), err
}
