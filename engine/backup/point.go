// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// Errors that callers decide on.
var (
	// ErrDamaged is wrapped by the error of what is not as it was written, or not there.
	ErrDamaged = errors.New("repository is damaged")
	// ErrVersion is wrapped by the error of what a later version wrote.
	ErrVersion = errors.New("repository needs a later version of this program")
	// ErrNoPoint is wrapped when there is no such point.
	ErrNoPoint = errors.New("there is no such backup")
	// ErrExists is wrapped when what is to be made is there already.
	ErrExists = errors.New("is there already")
)

// Format is the version of the format.
const Format = 1

// MaxChain is how many deltas there may be between a point and its full image.
const MaxChain = 200

// PartSize is how many bytes of a delta one object has, but for the last one.
const PartSize = 16 << 20

// Point is a state of a volume in a repository.
type Point struct {
	ID       string
	Base     string // ID of the point that its delta leads from; empty for a full image
	Snapshot delta.End
	Made     time.Time // when it was added
	// Delta counts what is in the delta; its Bytes are those in the repository but for
	// what sealing adds.
	Delta     delta.Summary
	ChunkSize int // of the volume, bytes
	Extent    int // bound of the delta's extents, bytes
	data      string
	partSize  int64
}

// Full reports whether the point is a full image.
func (p *Point) Full() bool { return p.Base == "" }

// Created returns when the state was the volume's.
func (p *Point) Created() time.Time { return time.Unix(0, p.Snapshot.Created) }

// manifest is a point as it is written. Part of the format, must not change.
type manifest struct {
	Format    int              `json:"format"`
	ID        string           `json:"id"`
	Base      string           `json:"base"`
	Snapshot  manifestSnapshot `json:"snapshot"`
	Made      time.Time        `json:"made"`
	ChunkSize int              `json:"chunk_size_bytes"`
	Extent    int              `json:"extent_bytes"`
	Data      string           `json:"data"`
	PartSize  int64            `json:"part_size_bytes"`
	Bytes     int64            `json:"delta_bytes"`
	Records   uint64           `json:"records"`
	Content   int64            `json:"content_bytes"`
	Zeroes    int64            `json:"zero_bytes"`
	Coded     int64            `json:"coded_bytes"`
	Digest    string           `json:"digest"`
}

type manifestSnapshot struct {
	Store      string `json:"store"`
	Generation uint64 `json:"generation"`
	Tag        uint32 `json:"tag"`
	Name       string `json:"name"`
	Created    int64  `json:"created_ns"`
	Size       int64  `json:"size_bytes"`
}

// maxManifest bounds a manifest in bytes.
const maxManifest = 16 << 10

func (p *Point) encode() ([]byte, error) {
	s := p.Snapshot
	return json.MarshalIndent(manifest{
		Format: Format, ID: p.ID, Base: p.Base, Made: p.Made.UTC(), ChunkSize: p.ChunkSize, Extent: p.Extent, Data: p.data, PartSize: p.partSize,
		Snapshot: manifestSnapshot{hex.EncodeToString(s.Store[:]), uint64(s.Generation), uint32(s.Tag), s.Name, s.Created, s.Size},
		Bytes:    p.Delta.Bytes, Records: p.Delta.Records, Content: p.Delta.Content, Zeroes: p.Delta.Zeroes, Coded: p.Delta.Coded,
		Digest: hex.EncodeToString(p.Delta.Digest[:]),
	}, "", "  ")
}

var (
	idForm   = regexp.MustCompile(`^[0-9]{8}t[0-9]{6}z-[0-9a-f]{8}$`)
	dataForm = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// decodePoint reads a manifest. It takes any bytes.
func decodePoint(content []byte) (*Point, error) {
	var m manifest
	if len(content) > maxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes", ErrDamaged, len(content))
	}
	if err := decodeJSON(content, &m, &m.Format); err != nil {
		return nil, err
	}
	p := &Point{
		ID: m.ID, Base: m.Base, Made: m.Made, ChunkSize: m.ChunkSize, Extent: m.Extent, data: m.Data, partSize: m.PartSize,
		Delta: delta.Summary{Bytes: m.Bytes, Records: m.Records, Content: m.Content, Zeroes: m.Zeroes, Coded: m.Coded},
		Snapshot: delta.End{Tag: block.Tag(m.Snapshot.Tag), Name: m.Snapshot.Name, Created: m.Snapshot.Created, Size: m.Snapshot.Size,
			Identity: delta.Identity{Generation: block.Generation(m.Snapshot.Generation)}},
	}
	store, err := hex.DecodeString(m.Snapshot.Store)
	sum, err2 := hex.DecodeString(m.Digest)
	_, err3 := block.NewGeometry(p.Snapshot.Size, p.ChunkSize)
	switch {
	case errors.Join(err, err2, err3) != nil || len(store) != len(p.Snapshot.Store) || len(sum) != len(p.Delta.Digest):
		return nil, fmt.Errorf("%w: manifest of %q: identity, size or digest", ErrDamaged, m.ID)
	case !idForm.MatchString(m.ID) || m.Base != "" && !idForm.MatchString(m.Base) || m.Base == m.ID || !dataForm.MatchString(m.Data):
		return nil, fmt.Errorf("%w: manifest of %q: names", ErrDamaged, m.ID)
	case m.PartSize < 1 || m.PartSize > 1<<30 || m.Bytes < 1 || m.Bytes/m.PartSize > 1e8 || m.Snapshot.Generation == 0 || !utf8.ValidString(m.Snapshot.Name):
		return nil, fmt.Errorf("%w: manifest of %q: numbers", ErrDamaged, m.ID)
	case m.Extent < m.ChunkSize || m.Extent > codec.MaxExtent || m.Extent&(m.Extent-1) != 0:
		return nil, fmt.Errorf("%w: manifest of %q: extents of %d bytes", ErrDamaged, m.ID, m.Extent)
	}
	copy(p.Snapshot.Store[:], store)
	copy(p.Delta.Digest[:], sum)
	return p, nil
}

// decodeJSON reads a document whose format is *format. What a later version added is
// refused as such.
func decodeJSON(content []byte, into any, format *int) error {
	err := json.Unmarshal(content, into)
	switch {
	case err == nil && *format > Format:
		return fmt.Errorf("%w: format %d, this program knows %d", ErrVersion, *format, Format)
	case err == nil && *format < 1:
		return fmt.Errorf("%w: format %d", ErrDamaged, *format)
	}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Names of objects. Part of the format, must not change.
const (
	configName   = "config"
	pointsPrefix = "points/"
	dataPrefix   = "data/"
	locksPrefix  = "locks/"
)

func pointName(id string) string { return pointsPrefix + id }

// parts returns how many objects the delta has.
func (p *Point) parts() int64 { return (p.Delta.Bytes + p.partSize - 1) / p.partSize }

// part returns the name of the i-th object, and how many bytes of the delta it has.
func (p *Point) part(i int64) (string, int64) {
	return partName(p.ID, p.data, i), min(p.partSize, p.Delta.Bytes-i*p.partSize)
}

// setPrefix begins the names of all objects of a delta.
func setPrefix(id, data string) string { return dataPrefix + id + "/" + data + "/" }

func partName(id, data string, i int64) string { return fmt.Sprintf("%s%08d", setPrefix(id, data), i) }
