// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// What the measurement of space is made of. It is of the structures alone, and
// takes place in memory.
const (
	spaceChunk      = 4 << 10
	spaceSnapshots  = 16
	spaceExceptions = 1 << 18
	spaceGroup      = 256      // chunks overwritten at once
	spaceRun        = 32       // neighbours, where chunks are overwritten in runs
	spaceCache      = 16 << 20 // less than what the exceptions take
	spaceRoom       = 1 << 14  // chunks beside the exceptions
)

// Units of space samples beside those that goals ask for.
const (
	exceptionsUnit = "exceptions"
	cacheBytesUnit = "cache-B"
)

// space measures the metadata that exceptions take on the device, and the most
// that is ever kept in memory, on volumes of several sizes, with about a number
// of exceptions.
func (s *snapshots) space(ctx context.Context, exceptions int) ([]results.Sample, error) {
	var all []results.Sample
	for _, volume := range s.Volumes {
		for _, pattern := range []struct {
			name string
			run  int
		}{{"random", 1}, {"runs", spaceRun}} {
			sample, err := s.spaceOf(ctx, volume, exceptions, pattern.run)
			if err != nil {
				return nil, fmt.Errorf("space of a volume of %d bytes: %w", volume, err)
			}
			sample.Config = sample.Config.With("pattern", pattern.name)
			all = append(all, sample)
		}
	}
	return all, nil
}

// spaceOf overwrites chunks of a volume under several snapshots, in runs.
func (s *snapshots) spaceOf(ctx context.Context, volume int64, exceptions, run int) (sample results.Sample, err error) {
	room := int64(4*exceptions+spaceRoom) * spaceChunk // runs are copied ahead
	bed := stack.NewMemory(stack.Size{Origin: volume, Stores: room})
	st, err := bed.Build(stack.Config{
		Variant: "inline", ChunkSize: spaceChunk, Origin: volume, StoreSize: room, CacheBytes: spaceCache,
	})
	if err != nil {
		return sample, err
	}
	defer closeAll([]*stack.Stack{st}, &err)
	rng := rand.New(rand.NewPCG(s.seed, uint64(volume)))
	most := int64(0)
	for tag := range block.Tag(spaceSnapshots) {
		if err := st.Snapshot(tag + 1); err != nil {
			return sample, err
		}
		for range exceptions / spaceSnapshots / spaceGroup {
			if ctx.Err() != nil {
				return sample, context.Cause(ctx)
			}
			if err := device.Do(st.Device(), scattered(rng, volume, run)); err != nil {
				return sample, err
			}
			most = max(most, st.Status().CacheBytes)
		}
	}
	if err := st.Checkpoint(); err != nil {
		return sample, err
	}
	status := st.Status()
	var t tally
	t.ops = int64(status.Exceptions)
	t.set(results.BytesPerException, float64(status.MetadataBytes)/float64(status.Exceptions))
	t.set(goals.CacheUse, float64(most)/spaceCache)
	t.set(cacheBytesUnit, float64(most))
	t.set(exceptionsUnit, float64(status.Exceptions))
	c := config("space", "inline", spaceChunk, 0, spaceSnapshots, "").With("volume", strconv.FormatInt(volume, 10))
	return t.sample(s.Name, results.Measured, 0, c), nil
}

// scattered returns a group of writes of a sector, in runs of neighbouring chunks
// at random places.
func scattered(rng *rand.Rand, volume int64, run int) []device.Op {
	ops := make([]device.Op, 0, spaceGroup)
	sector := make([]byte, block.SectorSize)
	for len(ops) < spaceGroup {
		first := rng.Int64N(volume/spaceChunk/int64(run)) * int64(run)
		for i := range int64(run) {
			ops = append(ops, device.Op{Kind: device.Write, Off: (first + i) * spaceChunk, Data: sector})
		}
	}
	return ops
}
