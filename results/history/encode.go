// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"zumastor.org/zumastor/results"
)

// file format: the fields before the metrics, in this order.
type header struct {
	Format    int          `json:"format"`
	Kind      results.Kind `json:"kind"`
	Suite     string       `json:"suite"`
	Machine   [][2]string  `json:"machine,omitempty"`
	Revision  string       `json:"revision"`
	Committed time.Time    `json:"committed"`
	Recorded  time.Time    `json:"recorded"`
	Marks     []string     `json:"marks,omitempty"`
}

// document is all of it, for reading.
type document struct {
	header
	Metrics map[string]map[string]Value `json:"metrics"`
}

// MarshalJSON writes a number for a value that is exact, four for an estimate.
func (v Value) MarshalJSON() ([]byte, error) {
	if v == Exact(v.Center) {
		return json.Marshal(v.Center)
	}
	return json.Marshal([]float64{v.Center, v.Lo, v.Hi, float64(v.N)})
}

// UnmarshalJSON reads what [Value.MarshalJSON] wrote.
func (v *Value) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] != '[' {
		var f float64
		err := json.Unmarshal(data, &f)
		*v = Exact(f)
		return err
	}
	var four []float64
	if err := json.Unmarshal(data, &four); err != nil {
		return err
	}
	if len(four) != 4 || four[3] != float64(int(four[3])) {
		return fmt.Errorf("%s is not a median, the ends of its interval and a number of samples", data)
	}
	*v = Value{Center: four[0], Lo: four[1], Hi: four[2], N: int(four[3])}
	return nil
}

// Encode returns the file of a record. An error wraps [ErrRecord].
func Encode(r Record) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var machine [][2]string
	for _, p := range r.Machine {
		machine = append(machine, [2]string{p.Key, p.Value})
	}
	head, err := text(header{format, r.Kind, r.Suite, machine, r.Revision, r.Committed.UTC(), r.Recorded.UTC(), r.Marks})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(bytes.TrimSuffix(head, []byte("}")))
	b.WriteString(",\n\"metrics\": {")
	for i, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		key, err := text(name)
		if err != nil {
			return nil, err
		}
		values, err := text(r.Metrics[name])
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", name, err)
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n%s: %s", key, values)
	}
	b.WriteString("\n}\n}\n")
	return b.Bytes(), nil
}

// text is v as JSON in which < and > are themselves.
func text(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// Decode reads the file of a record. An error wraps [ErrRecord].
func Decode(data []byte) (Record, error) {
	var version struct{ Format int }
	if err := json.Unmarshal(data, &version); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if version.Format != format {
		return Record{}, fmt.Errorf("%w: it has format %d, and this program reads format %d", ErrRecord, version.Format, format)
	}
	var d document
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(&d); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r := Record{
		Kind: d.Kind, Suite: d.Suite, Revision: d.Revision,
		Committed: d.Committed, Recorded: d.Recorded, Marks: d.Marks, Metrics: d.Metrics,
	}
	for _, p := range d.Machine {
		r.Machine = append(r.Machine, results.Pair{Key: p[0], Value: p[1]})
	}
	return r, r.Validate()
}
