// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// slowClient takes its time to take a new state over.
type slowClient struct {
	mu    sync.Mutex
	state wire.State
	slow  func()
}

func (c *slowClient) Quiesce(change func() (wire.State, error)) error {
	state, err := change()
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state = state
	}
	return err
}

func (c *slowClient) Update(s wire.State) {
	c.slow()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

func (*slowClient) Settle(_, _ block.Chunk) error { return nil }

// TestClientHearsOfChangesInOrder is for a client that took over the state after
// a deletion later than that of a snapshot made since, and so let writes through
// that the new snapshot needed copied.
func TestClientHearsOfChangesInOrder(t *testing.T) {
	devs := placement.Devices{Store: memdev.New(32 << 20)}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: 4 << 20})
	require.NoError(t, err)
	s, err := store.Open(devs, store.Options{})
	require.NoError(t, err)
	var created sync.WaitGroup
	client := &slowClient{slow: func() {
		created.Go(func() {
			_, err := s.CreateSnapshot(2)
			if err != nil {
				t.Error(err)
			}
		})
		time.Sleep(20 * time.Millisecond) // time enough for it to overtake
	}}
	_, err = s.Attach(client)
	require.NoError(t, err)
	_, err = s.CreateSnapshot(1)
	require.NoError(t, err)
	require.NoError(t, s.DeleteSnapshot(1))
	created.Wait()
	require.EqualValues(t, 2, client.state.Newest)
	require.NoError(t, s.Detach())
	require.NoError(t, s.Close())
}
