// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
)

func TestLocks(t *testing.T) {
	m := storage.NewMemory()
	r := newRepository(t, m, nil)
	lock := func(exclusive bool) (*Lock, error) {
		_, l, err := r.Lock(t.Context(), "test", exclusive)
		return l, err
	}
	a, err := lock(false)
	require.NoError(t, err)
	b, err := lock(false)
	require.NoError(t, err, "it is shared")
	_, err = lock(true)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "test by process")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	c, err := lock(true)
	require.NoError(t, err)
	_, err = lock(false)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, c.Close())
	list, err := m.List(t.Context(), locksPrefix)
	require.NoError(t, err)
	require.Empty(t, list, "who was refused leaves nothing")
	require.NoError(t, m.Put(t.Context(), locksPrefix+"0123456789abcdef", []byte("nonsense")))
	_, err = lock(false)
	require.ErrorIs(t, err, ErrLocked, "who knows whose it is")
	were, err := r.Unlock(t.Context())
	require.NoError(t, err)
	require.Len(t, were, 1)
	d, err := lock(true)
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

// TestDeadLocks: the lock of a process of this machine that has ended, and one that was
// not renewed, hinder nobody; others do.
func TestDeadLocks(t *testing.T) {
	ended := exec.Command("true")
	require.NoError(t, ended.Run())
	host, err := os.Hostname()
	require.NoError(t, err)
	now := time.Now()
	for _, c := range []struct {
		what string
		h    holder
		dead bool
	}{
		{"ended", holder{Host: host, Boot: boot(), Process: ended.Process.Pid, Renewed: now}, true},
		{"alive", holder{Host: host, Boot: boot(), Process: os.Getppid(), Renewed: now}, false},
		{"of an earlier boot", holder{Host: host, Boot: "earlier", Process: ended.Process.Pid, Renewed: now}, false},
		{"elsewhere", holder{Host: "elsewhere", Boot: boot(), Process: ended.Process.Pid, Renewed: now}, false},
		{"elsewhere, long ago", holder{Host: "elsewhere", Renewed: now.Add(-lockLasts - time.Minute)}, true},
		{"elsewhere, a while ago", holder{Host: "elsewhere", Renewed: now.Add(-lockLasts + time.Minute)}, false},
	} {
		r := newRepository(t, storage.NewMemory(), nil)
		c.h.Format, c.h.Exclusive = Format, true
		content, err := json.Marshal(c.h)
		require.NoError(t, err)
		require.NoError(t, r.putSealed(t.Context(), locksPrefix+"0000000000000000", content))
		_, l, err := r.Lock(t.Context(), "test", false)
		if !c.dead {
			require.ErrorIs(t, err, ErrLocked, c.what)
			continue
		}
		require.NoError(t, err, c.what)
		require.NoError(t, l.Close())
	}
}

// TestLockIsRenewed: for as long as it is held; and if somebody removes it, what was being
// done ends.
func TestLockIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRepository(t, storage.NewMemory(), nil)
		ctx, l, err := r.Lock(t.Context(), "test", true)
		require.NoError(t, err)
		time.Sleep(3 * lockLasts)
		synctest.Wait()
		require.NoError(t, ctx.Err())
		_, _, err = r.Lock(t.Context(), "other", false)
		require.ErrorIs(t, err, ErrLocked)
		_, err = r.Unlock(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, l.Held(t.Context()), ErrLockLost)
		<-ctx.Done()
		require.NoError(t, l.Close())
	})
}

// TestAddWithoutLock: who lost the lock while adding leaves no point.
func TestAddWithoutLock(t *testing.T) {
	m := storage.NewMemory()
	h := newHistory(t, newRepository(t, m, nil), 2)
	h.grow(1)
	_, l, err := h.r.Lock(t.Context(), "test", false)
	require.NoError(t, err)
	_, err = h.r.Unlock(t.Context())
	require.NoError(t, err)
	p, err := h.r.point(t.Context(), h.order[0])
	require.NoError(t, err)
	p.ID = "20300101t000000z-00000000"
	require.ErrorIs(t, h.r.publish(t.Context(), l, p), ErrLockLost)
	_, err = h.r.point(t.Context(), p.ID)
	require.ErrorIs(t, err, ErrNoPoint)
	require.NoError(t, l.Close())
}
