// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"zumastor.org/zumastor/engine/backup"
)

// latest is the name of the newest backup.
const latest = "latest"

// findPoint returns the backup that text names.
func (a *app) findPoint(ctx context.Context, r *backup.Repository, text string) (*backup.Point, error) {
	points, bad, err := r.Points(ctx)
	if err != nil {
		return nil, err
	}
	for _, err := range bad {
		fmt.Fprintf(a.Err, "ddsnap: %v\n", err)
	}
	return choosePoint(points, text)
}

// choosePoint returns that of the points, which are oldest first, that text names.
func choosePoint(points []backup.Point, text string) (*backup.Point, error) {
	match := func(p *backup.Point) bool { return strings.HasPrefix(p.ID, text) }
	newest := text == latest
	when, timed := strings.CutPrefix(text, "@")
	switch {
	case text == "":
		return nil, usageError{fmt.Errorf("a backup has no empty name")}
	case timed:
		until, err := parseUntil(when)
		if err != nil {
			return nil, usageError{err}
		}
		newest = true
		match = func(p *backup.Point) bool { return p.Created().Before(until) }
	case newest:
		match = func(*backup.Point) bool { return true }
	case !idBegin(text):
		match = func(p *backup.Point) bool {
			return p.Snapshot.Name == text || formatTag(p.Snapshot.Tag) == text
		}
	}
	var found []*backup.Point
	for i := range points {
		if match(&points[i]) {
			found = append(found, &points[i])
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%w as %s: \"ddsnap backup list\" shows those that there are", backup.ErrNoPoint, text)
	case newest && sameVolume(found):
		return found[len(found)-1], nil
	case len(found) == 1:
		return found[0], nil
	}
	return nil, usageError{fmt.Errorf("%s is not clear: there are %s: name one by its ID", text, idsOf(found))}
}

// sameVolume reports whether all points are of one volume.
func sameVolume(points []*backup.Point) bool {
	for _, p := range points {
		if p.Snapshot.Store != points[0].Snapshot.Store {
			return false
		}
	}
	return true
}

// idsOf names some of the points.
func idsOf(points []*backup.Point) string {
	var ids []string
	for _, p := range points[max(0, len(points)-3):] {
		ids = append(ids, p.ID)
	}
	if len(points) > len(ids) {
		ids = append(ids, fmt.Sprintf("%d more", len(points)-len(ids)))
	}
	return strings.Join(ids, ", ")
}

// idBegin reports whether text is the begin of an ID that names a day at least: no tag
// or name is, but for one that somebody chose to look so.
func idBegin(text string) bool {
	return len(text) > len("20060102") && strings.Trim(text[:8], "0123456789") == "" && text[8] == 't'
}

// parseUntil reads a date or time, and returns the first moment that is later.
func parseUntil(text string) (time.Time, error) {
	for _, form := range []struct {
		layout string
		step   func(time.Time) time.Time
	}{
		{time.DateOnly, func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
		{"2006-01-02T15:04", func(t time.Time) time.Time { return t.Add(time.Minute) }},
		{"2006-01-02T15:04:05", func(t time.Time) time.Time { return t.Add(time.Second) }},
		{time.RFC3339, func(t time.Time) time.Time { return t.Add(time.Second) }},
	} {
		if t, err := time.ParseInLocation(form.layout, text, time.Local); err == nil {
			return form.step(t), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want one such as 2026-11-23, 2026-11-23T14:30 or 2026-11-23T14:30:00Z", text)
}
