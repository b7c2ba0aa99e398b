// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/block"
)

// Verbs of the protocol.
const (
	verbCreate  = "create"
	verbDelete  = "delete"
	verbList    = "list"
	verbStatus  = "status"
	verbSharing = "sharing"
)

// Bounds of a line, its end included.
const (
	maxRequest  = 4 << 10
	maxResponse = 256 << 20 // the sharing table of a million snapshots
)

// request asks for one thing. On the socket it is one line of JSON:
//
//	{"verb":"create","tag":7}
//
// Create and delete need a tag, the others take none. Members that are not known
// are refused.
type request struct {
	Verb string     `json:"verb"`
	Tag  *block.Tag `json:"tag,omitempty"`
}

// response answers one request, in one line: with an error, or with what the verb
// asks for. Delete is answered by an object without members.
type response struct {
	Error    *Error     `json:"error,omitempty"`
	Snapshot *Snapshot  `json:"snapshot,omitempty"`
	List     []Snapshot `json:"list,omitempty"`
	Status   *Status    `json:"status,omitempty"`
	Sharing  []Sharing  `json:"sharing,omitempty"`
}

// decodeRequest reads a request from its line.
func decodeRequest(line []byte) (request, error) {
	var req request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return req, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return req, fmt.Errorf("%w: something follows the object on its line", ErrRequest)
	}
	switch req.Verb {
	case verbCreate, verbDelete:
		if req.Tag == nil {
			return req, fmt.Errorf("%w: verb %s needs a tag", ErrRequest, req.Verb)
		}
	case verbList, verbStatus, verbSharing:
		if req.Tag != nil {
			return req, fmt.Errorf("%w: verb %s takes no tag", ErrRequest, req.Verb)
		}
	default:
		return req, fmt.Errorf("%w: unknown verb %q", ErrRequest, req.Verb)
	}
	return req, nil
}

// errTooLong is returned for a line that exceeds its bound.
var errTooLong = errors.New("line is too long")

// readLine reads a line of at most max bytes. It returns io.EOF when there is
// none, and io.ErrUnexpectedEOF when its end is missing.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max {
			return line, errTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}
