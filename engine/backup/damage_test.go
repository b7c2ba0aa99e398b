// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
)

// whole returns all of an object.
func whole(t testing.TB, s storage.Storage, name string) []byte {
	p := make([]byte, 2*PartSize)
	n, err := s.ReadAt(t.Context(), name, p, 0)
	require.ErrorIs(t, err, io.EOF)
	return p[:n]
}

// TestCheckFindsDamage: whichever object is cut off, missing or changed at any byte, check
// says so, and what is read is right or an error.
func TestCheckFindsDamage(t *testing.T) {
	for _, key := range []*seal.Key{nil, {7}} {
		m := storage.NewMemory()
		h := newHistory(t, newRepository(t, m, key), 21)
		h.grow(4)
		all, err := m.List(t.Context(), "")
		require.NoError(t, err)
		for _, o := range all {
			if o.Name == configName {
				continue
			}
			content := whole(t, m, o.Name)
			damage := map[string]func(s *storage.Memory) error{
				"missing": func(s *storage.Memory) error { return s.Delete(t.Context(), o.Name) },
				"cut off": func(s *storage.Memory) error { return s.Put(t.Context(), o.Name, content[:len(content)-20]) },
				"empty":   func(s *storage.Memory) error { return s.Put(t.Context(), o.Name, nil) },
				"a segment less": func(s *storage.Memory) error {
					return s.Put(t.Context(), o.Name, content[:max(0, len(content)-seal.SegmentSize-seal.TagSize)])
				},
			}
			for what, do := range damage {
				s := m.Clone()
				require.NoError(t, do(s))
				r, err := Open(t.Context(), s, key)
				require.NoError(t, err)
				res, err := r.Check(t.Context(), CheckOptions{})
				require.NoError(t, err)
				if what == "missing" && strings.HasPrefix(o.Name, pointsPrefix) { // only others can miss it
					continue
				}
				require.NotEmpty(t, res.Wrong, "%s: %s", o.Name, what)
			}
			for at := h.rng.IntN(50); at < len(content); at += 1 + len(content)/9 {
				bad := bytes.Clone(content)
				bad[at] ^= 0x10
				s := m.Clone()
				require.NoError(t, s.Put(t.Context(), o.Name, bad))
				r, err := Open(t.Context(), s, key)
				require.NoError(t, err)
				res, err := r.Check(t.Context(), CheckOptions{Data: true})
				require.NoError(t, err)
				require.NotEmpty(t, res.Wrong, "%s: byte %d", o.Name, at)
				for _, err := range res.Wrong {
					require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion), "%v", err)
				}
				h.readsRight(r)
			}
		}
	}
}

// readsRight requires that each point reads as it was, or not at all.
func (h *history) readsRight(r *Repository) {
	points, _, err := r.Points(h.t.Context())
	require.NoError(h.t, err)
	reader := r.NewReader()
	for _, p := range points {
		m, err := reader.Image(h.t.Context(), p.ID)
		if err != nil {
			require.True(h.t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion), "%v", err)
			continue
		}
		got := make([]byte, m.Size())
		n, err := m.ReadAt(got, 0)
		require.True(h.t, err != nil || n == len(got))
		require.True(h.t, bytes.Equal(h.states[p.ID][:n], got[:n]))
	}
}

// TestSwapped: objects of one point do not pass for another's.
func TestSwapped(t *testing.T) {
	for _, key := range []*seal.Key{nil, {7}} {
		m := storage.NewMemory()
		h := newHistory(t, newRepository(t, m, key), 22)
		h.grow(2)
		require.NoError(t, m.Put(t.Context(), pointName(h.order[0]), whole(t, m, pointName(h.order[1]))))
		_, bad, err := h.r.Points(t.Context())
		require.NoError(t, err)
		require.Len(t, bad, 1)
		require.ErrorIs(t, bad[0], ErrDamaged)
	}
}

func TestKeys(t *testing.T) {
	m := storage.NewMemory()
	_, err := Open(t.Context(), m, nil)
	require.ErrorIs(t, err, ErrNoRepository)
	h := newHistory(t, newRepository(t, m, &seal.Key{1}), 1)
	require.True(t, h.r.Encrypted())
	h.grow(1)
	for _, key := range []*seal.Key{nil, {2}} {
		_, err := Open(t.Context(), m, key)
		require.ErrorIs(t, err, ErrKey)
	}
	require.ErrorIs(t, Init(t.Context(), m, nil), ErrExists)
	_, err = Open(t.Context(), m, &seal.Key{1})
	require.NoError(t, err)
	plain := storage.NewMemory()
	require.NoError(t, Init(t.Context(), plain, nil))
	_, err = Open(t.Context(), plain, &seal.Key{1})
	require.ErrorIs(t, err, ErrKey, "nobody is to believe that it is encrypted")
	all, err := m.List(t.Context(), dataPrefix)
	require.NoError(t, err)
	require.False(t, bytes.Contains(whole(t, m, all[0].Name), []byte("zmdelta")))
}

// TestLaterVersion: what a later version wrote is refused as such.
func TestLaterVersion(t *testing.T) {
	for _, text := range []string{
		`{"format":2,"id":"x","something":1}`, `{"format":1,"unknown":1}`, `{"format":0}`, `{}`, ``, `[]`, `{"format":1,"id":"../../x"}`,
	} {
		_, err := decodePoint([]byte(text))
		require.Error(t, err)
		require.Equal(t, strings.HasPrefix(text, `{"format":2`), errors.Is(err, ErrVersion), text)
	}
}

func FuzzPoint(f *testing.F) {
	h := newHistory(f, newRepository(f, storage.NewMemory(), nil), 1)
	h.grow(2)
	for _, id := range h.order {
		p, err := h.r.point(f.Context(), id)
		require.NoError(f, err)
		content, err := p.encode()
		require.NoError(f, err)
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		p, err := decodePoint(content)
		if err != nil {
			return
		}
		again, err := p.encode()
		require.NoError(t, err)
		q, err := decodePoint(again)
		require.NoError(t, err)
		require.Equal(t, p.Snapshot, q.Snapshot)
		require.Positive(t, p.parts())
		for i := range min(p.parts(), 3) {
			name, n := p.part(i)
			require.True(t, strings.HasPrefix(name, dataPrefix) && n > 0 && n <= p.partSize)
		}
		_, n := p.part(p.parts() - 1)
		require.Positive(t, n)
		require.GreaterOrEqual(t, p.Stored(), p.Delta.Bytes)
	})
}
