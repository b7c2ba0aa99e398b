// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory keeps objects in memory: for tests.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

// NewMemory returns a storage without objects.
func NewMemory() *Memory { return &Memory{objects: make(map[string][]byte)} }

// Put implements Storage.
func (m *Memory) Put(ctx context.Context, name string, content []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[name] = bytes.Clone(content)
	return nil
}

// ReadAt implements Storage.
func (m *Memory) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.objects[name]
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case !ok:
		return 0, absent(name)
	}
	return bytes.NewReader(content).ReadAt(p, off)
}

// List implements Storage.
func (m *Memory) List(ctx context.Context, prefix string) ([]Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Object
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, prefix) {
			list = append(list, Object{name, int64(len(m.objects[name]))})
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return list, nil
}

// Delete implements Storage.
func (m *Memory) Delete(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	delete(m.objects, name)
	return nil
}

// Clone returns a storage with the same objects, as they are now.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{objects: maps.Clone(m.objects)}
}
