// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
)

// Errors of opening.
var (
	// ErrNoRepository is wrapped when there is none.
	ErrNoRepository = errors.New("there is no backup repository")
	// ErrKey is wrapped when a key is missing, another one, or needless.
	ErrKey = errors.New("the key does not open the repository")
)

// Repository is an open repository.
type Repository struct {
	storage   storage.Storage
	seals     seal.Seals
	id        string
	encrypted bool
	now       func() time.Time
	renew     time.Duration
}

// config is the object that every repository has. Part of the format, must not change.
type config struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	Key    string `json:"key_id"` // empty: it is not encrypted
}

// Init makes a repository: with a key, an encrypted one. The error wraps [ErrExists] if
// there is one.
func Init(ctx context.Context, s storage.Storage, key *seal.Key) error {
	list, err := s.List(ctx, "")
	if err != nil {
		return fmt.Errorf("looking for a repository: %w", err)
	}
	if len(list) > 0 {
		return fmt.Errorf("a repository begins empty, and %s %w", list[0].Name, ErrExists)
	}
	c := config{Format: Format, ID: randomName(16)}
	if key != nil {
		if c.Key, err = key.ID(c.ID); err != nil {
			return err
		}
	}
	content, err := json.Marshal(c)
	if err != nil {
		return err
	}
	object, err := seal.Checksums().Seal(configName, content)
	if err != nil {
		return err
	}
	return s.Put(ctx, configName, object)
}

// Open opens a repository, with the key if it has one.
func Open(ctx context.Context, s storage.Storage, key *seal.Key) (*Repository, error) {
	content, err := readSealed(ctx, s, seal.Checksums(), configName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoRepository, err)
	}
	if err != nil {
		return nil, err
	}
	var c config
	if err := decodeJSON(content, &c, &c.Format); err != nil {
		return nil, fmt.Errorf("%s: %w", configName, err)
	}
	r := &Repository{storage: s, seals: seal.Checksums(), id: c.ID, encrypted: c.Key != "", now: time.Now, renew: renewEvery}
	switch {
	case c.Key == "" && key == nil:
		return r, nil
	case c.Key == "":
		return nil, fmt.Errorf("%w: it is not encrypted", ErrKey)
	case key == nil:
		return nil, fmt.Errorf("%w: it is encrypted, and there is no key", ErrKey)
	}
	id, err := key.ID(c.ID)
	if err != nil {
		return nil, err
	}
	if id != c.Key {
		return nil, fmt.Errorf("%w: it is another one: %s and not %s", ErrKey, id, c.Key)
	}
	r.seals = seal.WithKey(*key)
	return r, nil
}

// ID names the repository for good.
func (r *Repository) ID() string { return r.id }

// Encrypted reports whether it has a key.
func (r *Repository) Encrypted() bool { return r.encrypted }

// randomName returns n random hexadecimal digits.
func randomName(n int) string {
	p := make([]byte, n/2)
	_, _ = rand.Read(p) // never fails
	return hex.EncodeToString(p)
}

// readSealed returns the content of a small object.
func readSealed(ctx context.Context, s storage.Storage, seals seal.Seals, name string) ([]byte, error) {
	p := make([]byte, seal.SealedSize(maxManifest)+1)
	n, err := s.ReadAt(ctx, name, p, 0)
	if err == nil {
		return nil, fmt.Errorf("%s: %w: it is larger than it can be", name, ErrDamaged)
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return opened(seals.Open(name, p[:n]))
}

// opened gives errors of seals the names that this package's have.
func opened[T any](v T, err error) (T, error) {
	switch {
	case errors.Is(err, seal.ErrDamaged):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.Is(err, seal.ErrVersion):
		err = fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return v, err
}

func (r *Repository) putSealed(ctx context.Context, name string, content []byte) error {
	object, err := r.seals.Seal(name, content)
	if err != nil {
		return err
	}
	return r.storage.Put(ctx, name, object)
}

// point reads the manifest of a point.
func (r *Repository) point(ctx context.Context, id string) (*Point, error) {
	content, err := readSealed(ctx, r.storage, r.seals, pointName(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoPoint, id)
	}
	if err != nil {
		return nil, err
	}
	p, err := decodePoint(content)
	if err == nil && p.ID != id {
		err = fmt.Errorf("%w: the manifest of %s is of %s", ErrDamaged, id, p.ID)
	}
	return p, err
}

// manifestReads is how many manifests are read at a time.
const manifestReads = 16

// Points returns the points, oldest state first, and what is wrong with those whose
// manifests cannot be read, which are left out.
func (r *Repository) Points(ctx context.Context) (points []Point, damaged []error, err error) {
	list, err := r.storage.List(ctx, pointsPrefix)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the backups: %w", err)
	}
	var mu sync.Mutex
	err = parallel(ctx, manifestReads, len(list), func(i int) error {
		p, err := r.point(ctx, strings.TrimPrefix(list[i].Name, pointsPrefix))
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			points = append(points, *p)
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion):
			damaged = append(damaged, err)
		case !errors.Is(err, ErrNoPoint): // else it went meanwhile
			return err
		}
		return nil
	})
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(cmp.Compare(a.Snapshot.Created, b.Snapshot.Created), cmp.Compare(a.Snapshot.Generation, b.Snapshot.Generation), cmp.Compare(a.ID, b.ID))
	})
	return points, damaged, err
}

// parallel calls do for 0 to n-1, some at a time, and returns the first error, after
// which it calls it no more.
func parallel(ctx context.Context, workers, n int, do func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var all sync.WaitGroup
	for range min(workers, n) {
		all.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case <-ctx.Done():
		case next <- i:
			continue
		}
		break
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}
