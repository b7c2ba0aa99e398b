// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of locks.
var (
	// ErrLocked is wrapped when others use the repository in a way that does not go
	// together with what is to be done.
	ErrLocked = errors.New("the repository is in use")
	// ErrLockLost is wrapped when somebody removed the lock of what was being done.
	ErrLockLost = errors.New("somebody removed the lock on the repository")
)

// How long locks last. Clocks of the machines that use a repository may differ by less
// than lockLasts - 2*renewEvery.
const (
	renewEvery = 5 * time.Minute
	lockLasts  = 30 * time.Minute
)

// holder is who has a lock, as it is written. Part of the format, must not change.
type holder struct {
	Format    int       `json:"format"`
	Doing     string    `json:"doing"`
	Exclusive bool      `json:"exclusive"`
	Host      string    `json:"host"`
	Boot      string    `json:"boot"` // of the host, and the processes' name space
	Process   int       `json:"process"`
	Since     time.Time `json:"since"`
	Renewed   time.Time `json:"renewed"`
}

func (h *holder) String() string {
	return fmt.Sprintf("%s by process %d on %s since %s, last heard of at %s", h.Doing, h.Process, h.Host,
		h.Since.UTC().Format(time.DateTime), h.Renewed.UTC().Format(time.DateTime))
}

// dead reports whether it is known that the holder does nothing any more.
func (h *holder) dead(own *holder) bool {
	if own.Renewed.Sub(h.Renewed) > lockLasts {
		return true
	}
	return h.Host == own.Host && h.Boot == own.Boot && h.Boot != "" && h.Process != own.Process && errors.Is(unix.Kill(h.Process, 0), unix.ESRCH)
}

// boot names this run of the machine and the name space in which process numbers count.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, err2 := os.Readlink("/proc/self/ns/pid")
	if errors.Join(err, err2) != nil {
		return ""
	}
	return strings.TrimSpace(string(id)) + " " + space
}

// Lock is the right to use a repository, shared or alone, until Close.
type Lock struct {
	r    *Repository
	name string
	own  holder
	stop context.CancelFunc
	done chan struct{}
}

// Lock takes a lock, and returns a context that ends when ctx does or when the lock is
// lost. The error wraps [ErrLocked] if others' locks do not allow it. Locks of processes
// that are known to be gone are removed.
func (r *Repository) Lock(ctx context.Context, doing string, exclusive bool) (context.Context, *Lock, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	now := r.now()
	l := &Lock{r: r, name: locksPrefix + randomName(16), done: make(chan struct{}),
		own: holder{Format, doing, exclusive, host, boot(), os.Getpid(), now, now}}
	if err := l.put(ctx); err != nil {
		return nil, nil, fmt.Errorf("locking the repository: %w", err)
	}
	if err := l.others(ctx); err != nil {
		return nil, nil, errors.Join(err, r.remove(ctx, l.name))
	}
	held, cancel := context.WithCancelCause(ctx)
	l.stop = func() { cancel(nil) }
	go l.keep(held, cancel)
	return held, l, nil
}

func (l *Lock) put(ctx context.Context) error {
	content, err := json.Marshal(l.own)
	if err != nil {
		return err
	}
	return l.r.putSealed(ctx, l.name, content)
}

// others returns an error if the locks of others do not go together with this one. It is
// looked after one's own is there: of two who lock, one at least sees the other.
func (l *Lock) others(ctx context.Context) error {
	list, err := l.r.storage.List(ctx, locksPrefix)
	if err != nil {
		return fmt.Errorf("looking for locks: %w", err)
	}
	for _, o := range list {
		if o.Name == l.name {
			continue
		}
		h, err := l.r.holder(ctx, o.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // released meanwhile
		case err != nil:
			return fmt.Errorf("%w: %s: %w", ErrLocked, o.Name, err)
		case h.dead(&l.own):
			if err := l.r.storage.Delete(ctx, o.Name); err != nil {
				return fmt.Errorf("removing the lock of a process that is gone: %w", err)
			}
		case h.Exclusive || l.own.Exclusive:
			return fmt.Errorf("%w: %v", ErrLocked, h)
		}
	}
	return nil
}

func (r *Repository) holder(ctx context.Context, name string) (*holder, error) {
	content, err := readSealed(ctx, r.storage, r.seals, name)
	if err != nil {
		return nil, err
	}
	var h holder
	return &h, decodeJSON(content, &h, &h.Format)
}

// keep renews the lock, and ends its context when it is gone.
func (l *Lock) keep(ctx context.Context, lost context.CancelCauseFunc) {
	defer close(l.done)
	t := time.NewTicker(l.r.renew)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := l.Held(ctx)
		if err == nil {
			l.own.Renewed = l.r.now()
			err = l.put(ctx)
		}
		if errors.Is(err, ErrLockLost) || err != nil && l.r.now().Sub(l.own.Renewed) > lockLasts-2*renewEvery {
			lost(err)
			return
		}
	}
}

// Held returns an error, which wraps [ErrLockLost], unless the lock is there.
func (l *Lock) Held(ctx context.Context) error {
	_, err := l.r.holder(ctx, l.name)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrLockLost
	}
	return err
}

// Close gives the lock back.
func (l *Lock) Close() error {
	l.stop()
	<-l.done
	return l.r.remove(context.Background(), l.name)
}

// removeTime is how long removing something that is of no more use is tried.
const removeTime = time.Minute

// remove deletes an object even if ctx has ended.
func (r *Repository) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	return r.storage.Delete(ctx, name)
}

// Unlock removes all locks, whoever has them, and says whose they were.
func (r *Repository) Unlock(ctx context.Context) (were []string, err error) {
	list, err := r.storage.List(ctx, locksPrefix)
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		text := o.Name
		if h, err := r.holder(ctx, o.Name); err == nil {
			text = h.String()
		}
		if err := r.storage.Delete(ctx, o.Name); err != nil {
			return were, err
		}
		were = append(were, text)
	}
	return were, nil
}
