// SPDX-License-Identifier: Apache-2.0

package pin

import (
	"fmt"
	"strings"
	"time"
)

// Peer is a machine that may be at the other end.
type Peer struct {
	Pin   Pin
	Name  string
	Until time.Time // after which it is no peer any more; zero: there is no end
}

// Peers are those that one knows. A name may have several pins, as it does while a
// machine's key is being changed.
type Peers []Peer

// LoadPeers reads a file of peers: a line each with the pin, the name and, if there is an
// end, until=YYYY-MM-DD, the last day (UTC). What follows a # is a comment. A file that
// others than its owner may write is refused.
func LoadPeers(path string) (Peers, error) {
	text, mode, err := read(path)
	if err != nil {
		return nil, err
	}
	if mode&0o022 != 0 {
		return nil, fmt.Errorf("others may write to %s (mode %#o), and so say who is a peer: \"chmod 644\" it", path, mode)
	}
	list, err := ParsePeers(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// ParsePeers reads what LoadPeers does. A line that it does not understand is an error.
func ParsePeers(text string) (list Peers, err error) {
	no := 0
	for line := range strings.Lines(text) {
		no++
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		p, err := parsePeer(f)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", no, err)
		}
		for _, other := range list {
			if other.Pin == p.Pin {
				return nil, fmt.Errorf("line %d: pin %v is there twice", no, p.Pin)
			}
		}
		list = append(list, p)
	}
	return list, nil
}

func parsePeer(f []string) (p Peer, err error) {
	if p.Pin, err = Parse(f[0]); err != nil {
		return p, err
	}
	if len(f) < 2 || strings.Contains(f[1], "=") {
		return p, fmt.Errorf("no name after the pin")
	}
	p.Name = f[1]
	for _, option := range f[2:] {
		day, ok := strings.CutPrefix(option, "until=")
		if !ok {
			return p, fmt.Errorf("%q is not until=YYYY-MM-DD", option)
		}
		last, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return p, fmt.Errorf("%q is not until=YYYY-MM-DD: %w", option, err)
		}
		p.Until = last.AddDate(0, 0, 1)
	}
	return p, nil
}

// Named returns those of a name.
func (l Peers) Named(name string) (named Peers) {
	for _, p := range l {
		if p.Name == name {
			named = append(named, p)
		}
	}
	return named
}

// find returns the peer with a pin.
func (l Peers) find(p Pin) (Peer, bool) {
	for _, peer := range l {
		if peer.Pin == p {
			return peer, true
		}
	}
	return Peer{}, false
}
