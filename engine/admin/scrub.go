// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/store"
)

// Scrub says how to verify checksums in the background. One that is running takes
// over the rate.
type Scrub struct {
	Rate  int64 `json:"rate_bytes_per_second,omitempty"` // at most; zero: no limit
	Again bool  `json:"again,omitempty"`                 // from the begin, even if the last one was stopped midway
}

// ScrubStatus says how far a scrub has come.
type ScrubStatus struct {
	Running  bool       `json:"running"`
	Rate     int64      `json:"rate_bytes_per_second"`
	Verified uint64     `json:"verified_chunks"`
	Total    uint64     `json:"total_chunks"`
	Bytes    int64      `json:"read_bytes"`
	Started  *time.Time `json:"started,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
	Complete bool       `json:"complete"` // the last one came to its end
	Passes   int        `json:"passes"`   // since the store was opened
	BadCount uint64     `json:"bad_chunks"`
	Bad      []BadBlock `json:"bad,omitempty"` // the first of them
	Error    string     `json:"error,omitempty"`
}

// BadBlock is a preserved chunk that cannot be read as it was copied.
type BadBlock struct {
	Chunk      block.Chunk      `json:"chunk"`
	Generation block.Generation `json:"generation"`
	Slot       block.Slot       `json:"slot"`
	Offset     int64            `json:"offset_bytes"` // on the store device
	Snapshots  []block.Tag      `json:"snapshots"`    // that show it: the first of them
	More       int              `json:"more_snapshots,omitempty"`
	Reason     string           `json:"reason"`
}

// scrub does a verb of scrubs and returns how it stands then.
func (l Local) scrub(r Request) (*ScrubStatus, error) {
	switch r.Verb {
	case VerbScrubStart:
		if err := l.startScrub(r.Scrub); err != nil {
			return nil, err
		}
	case VerbScrubStop:
		l.Store.StopScrub()
	}
	st := describeScrub(l.Store.ScrubStatus())
	return &st, nil
}

func (l Local) startScrub(s *Scrub) error {
	if s == nil {
		s = &Scrub{}
	}
	if l.Store.ScrubStatus().Running && !s.Again {
		l.Store.SetScrubRate(s.Rate)
		return nil
	}
	o := store.ScrubOptions{Rate: s.Rate}
	if s.Again {
		l.Store.StopScrub()
		o.From = &store.ScrubPosition{}
	}
	return l.Store.StartScrub(o)
}

func describeScrub(s store.ScrubStatus) ScrubStatus {
	d := ScrubStatus{
		Running: s.Running, Rate: s.Rate, Verified: s.Verified, Total: s.Total, Bytes: s.Bytes, Passes: s.Passes,
		Started: timeOf(s.Started), Ended: timeOf(s.Ended), BadCount: s.BadCount, Error: s.Err,
		Complete: s.Ended != 0 && s.Next == store.ScrubPosition{},
	}
	for _, b := range s.Bad {
		d.Bad = append(d.Bad, BadBlock{
			Chunk: b.Chunk, Generation: b.Generation, Slot: b.Slot, Offset: b.Offset, Snapshots: b.Snapshots, More: b.More, Reason: b.Reason,
		})
	}
	return d
}

// timeOf returns the time of nanoseconds since 1970 UTC, or nil of none.
func timeOf(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}
