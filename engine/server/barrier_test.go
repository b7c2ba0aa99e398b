// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// While a report is queued and not taken in, neither a Map nor a Changed is answered;
// then both know of it.
func TestReportsAreTakenInBeforeAnswers(t *testing.T) {
	const size, chunk = 1 << 20, 16 << 10
	d := placement.Devices{Store: memdev.New(64 << 20)}
	_, err := store.Format(d, store.FormatOptions{OriginSize: size, ChunkSize: chunk})
	require.NoError(t, err)
	s, err := Open(d, Options{Manual: true})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	l := s.Listen(ListenOptions{})
	go func() { done <- l.Serve(ctx, ln) }()
	writer, err := client.Dial(ctx, path, client.Options{})
	require.NoError(t, err)
	reader, err := client.Dial(ctx, path, client.Options{})
	require.NoError(t, err)
	v, err := volume.OpenOrigin(writer, memdev.New(size), d, volume.Options{})
	require.NoError(t, err)
	snap, err := s.CreateSnapshot(1)
	require.NoError(t, err)
	session, err := reader.OpenSnapshot(wire.SnapshotRef{Tag: 1}, false, nobody{})
	require.NoError(t, err)

	for i, ask := range []func(c block.Chunk) (bool, error){
		func(c block.Chunk) (bool, error) {
			list, err := reader.Map(session.Handle, c, c+1, nil)
			return err == nil && list[0].Kind == wire.Stored, err
		},
		func(c block.Chunk) (bool, error) {
			runs, err := s.Changed(snap.Generation, store.OriginGeneration, c, c+1, nil)
			return err == nil && runs[0].Changed, err
		},
	} {
		c := block.Chunk(i)
		_, err = v.WriteAt(make([]byte, chunk), int64(10+i)*chunk) // what it asks for first, it has
		require.NoError(t, err)
		l.mu.Lock()
		origin := l.origin
		l.mu.Unlock()
		origin.mu.Lock() // a report is not taken in meanwhile
		_, err = v.WriteAt(make([]byte, chunk), int64(c)*chunk)
		answered := make(chan bool, 1)
		go func() {
			known, err := ask(c)
			answered <- known && err == nil
		}()
		select {
		case <-answered:
			t.Errorf("question %d is answered before the report is taken in", i)
			origin.mu.Unlock()
			continue
		case <-time.After(50 * time.Millisecond):
		}
		origin.mu.Unlock()
		require.NoError(t, err)
		require.True(t, <-answered, "question %d", i)
	}
	require.NoError(t, reader.CloseSnapshot(session.Handle))
	require.NoError(t, v.Close())
	require.NoError(t, writer.Close())
	require.NoError(t, reader.Close())
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, s.Close())
}

type nobody struct{}

func (nobody) Quiesce(change func() (wire.SnapshotState, error)) error {
	_, err := change()
	return err
}
