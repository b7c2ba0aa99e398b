// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/json"
	"fmt"
)

// Relay is a manager in another process, with which there is a connection already that
// takes requests and responses in JSON; at its other end is [Answer].
type Relay func(ctx context.Context, request []byte) (response []byte, err error)

var _ Manager = Relay(nil)

// Do implements [Manager].
func (ask Relay) Do(ctx context.Context, r Request) (a Response, err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	if line, err = ask(ctx, line); err != nil {
		return a, err
	}
	switch err := json.Unmarshal(line, &a); {
	case err != nil:
		return Response{}, fmt.Errorf("the answer that was relayed: %w", err)
	case a.Error != nil:
		return Response{}, a.Error
	case !a.answers(r.Verb):
		return Response{}, fmt.Errorf("the answer that was relayed is not one to %s", r.Verb)
	}
	return a, nil
}
