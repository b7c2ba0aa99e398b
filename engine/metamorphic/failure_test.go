// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
)

// faulty is a journal medium whose operations fail by plan: a write of a medium
// counts as a write, a Persist as a flush.
type faulty struct {
	journal.Medium
	device device.Device // takes the plan's verdict, holds no data
}

func (f faulty) ReadAt(p []byte, off int64) (int, error) {
	if _, err := f.device.ReadAt(nil, 0); err != nil {
		return 0, err
	}
	return f.Medium.ReadAt(p, off)
}

func (f faulty) WriteAt(p []byte, off int64) (int, error) {
	if _, err := f.device.WriteAt(nil, 0); err != nil {
		return 0, err
	}
	return f.Medium.WriteAt(p, off)
}

func (f faulty) Persist(off, n int64) error {
	if err := f.device.Flush(); err != nil {
		return err
	}
	return f.Medium.Persist(off, n)
}

// nothing is a device on which everything succeeds.
type nothing struct{}

func (nothing) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (nothing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nothing) Flush() error                           { return nil }
func (nothing) Discard(_, _ int64) error               { return nil }
func (nothing) Size() int64                            { return 1 << 30 }

// planned returns wrappers that put the plan on one part of a rig.
func planned(part string, plan *errdev.Plan) rig.Wrappers {
	return rig.Wrappers{
		Device: func(name string, d device.Device) device.Device {
			if name != part || name == rig.Journal {
				return d
			}
			return plan.Wrap(d)
		},
		Medium: func(m journal.Medium) journal.Medium {
			if part != rig.Journal {
				return m
			}
			return faulty{m, plan.Wrap(nothing{})}
		},
	}
}

// parts returns the parts of a rig's machine.
func parts(o rig.Options) []string {
	names := []string{rig.Origin, rig.Store}
	if o.Separate {
		names = append(names, rig.Meta)
	}
	if o.Placement == layout.PlacementNVRAM || o.Placement == layout.PlacementPMem {
		names = append(names, rig.Journal)
	}
	return names
}

var whichIO = flag.String("nth", "", "which I/Os TestNthIOFails lets fail: all, or this one and each 11th, or with -short 23rd, after it; by default from a random one on")

// TestNthIOFails lets every single I/O of a script fail, on each device, once and
// from then on for ever. Whatever fails, no read returns wrong bytes, and when the
// devices are healthy again all that was promised is there. It tries another share of
// them each time, and says which.
func TestNthIOFails(t *testing.T) {
	step := int64(11)
	if testing.Short() {
		step = 23
	}
	from := 1 + rand.Int64N(step)
	if *whichIO == "all" || os.Getenv("ZUMASTOR_SOAK") != "" {
		from, step = 1, 1
	} else if *whichIO != "" {
		var err error
		from, err = strconv.ParseInt(*whichIO, 10, 64)
		require.NoError(t, err)
	}
	for _, o := range setups() {
		o.CacheBytes = 1 // so that metadata is read, and reading fails
		for _, part := range parts(o) {
			t.Run(name(o)+"/"+part, func(t *testing.T) {
				var plan errdev.Plan
				require.NoError(t, failing(o, part, &plan, errdev.Fault{Nth: 1 << 40}))
				total := plan.Counts().Total()
				require.Greater(t, total, int64(10))
				for n := from; n <= total; n += step {
					for _, f := range []errdev.Fault{{Nth: n, Torn: n%2 == 0}, {Nth: n, Forever: true}} {
						err := failing(o, part, new(errdev.Plan), f)
						require.NoError(t, err, "fault %+v of %d operations, as with -nth %d", f, total, from)
					}
				}
			})
		}
	}
}

// failing runs the script under a fault.
func failing(o rig.Options, part string, plan *errdev.Plan, f errdev.Fault) error {
	r, err := NewRunner(o, planned(part, plan))
	if err != nil {
		return err
	}
	defer func() { r.Rig.Abandon() }()
	r.Tolerant = true
	plan.Inject(f)
	for i, op := range script(o) {
		if op.Kind == Reopen {
			continue
		}
		if err := r.Do(op); err != nil {
			return fmt.Errorf("operation %d, %v: %w", i, op, err)
		}
		if plan.Counts().Failed == 0 {
			continue
		}
		if err := stillServes(r, part); err != nil {
			return fmt.Errorf("after operation %d, %v: %w", i, op, err)
		}
	}
	if err := r.Compare(); err != nil {
		return err
	}
	if r.Failed > 0 && plan.Counts().Failed == 0 {
		return fmt.Errorf("%d operations failed without cause", r.Failed)
	}
	plan.Clear()
	r.Tolerant = false
	return r.Crash(r.Rig.Flushed())
}

// stillServes checks that the origin can be read, and a settled chunk written,
// whatever part of the store has failed.
func stillServes(r *Runner, part string) error {
	if part == rig.Origin {
		return nil
	}
	failed := r.Failed
	if err := r.Do(Op{Kind: Read, Len: r.Rig.OriginSize}); err != nil {
		return err
	}
	if err := r.Do(Op{Kind: Flush}); err != nil {
		return err
	}
	if r.Failed > failed {
		return fmt.Errorf("the origin cannot be read or flushed")
	}
	return nil
}

// TestSettledWritesOutliveTheStore lets the store die, for each placement, and
// writes on. When the store is back, all goes on.
func TestSettledWritesOutliveTheStore(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			var plan errdev.Plan
			r, err := NewRunner(o, rig.Wrappers{Device: func(name string, d device.Device) device.Device {
				if name == rig.Origin {
					return d
				}
				return plan.Wrap(d)
			}})
			require.NoError(t, err)
			defer func() { r.Rig.Abandon() }()
			require.NoError(t, r.All([]Op{{Kind: Snapshot, Tag: 1}, {Kind: Write, Off: 0, Len: 20 * 512, Seed: 1}}))
			plan.DieAt(1)

			require.NoError(t, r.All([]Op{{Kind: Write, Off: 512, Len: 9 * 512, Seed: 2}, {Kind: Flush}, {Kind: Read, Len: o.OriginSize}}))
			_, err = r.Rig.Volume.WriteAt(make([]byte, 512), 60<<10)
			require.ErrorIs(t, err, errdev.ErrGone, "a first write needs the store")
			require.NoError(t, r.Do(Op{Kind: Read, Len: o.OriginSize}), "and changes nothing when it fails")
			_, err = r.Rig.Server.CreateSnapshot(2)
			require.ErrorIs(t, err, store.ErrTrouble)
			require.NotEmpty(t, r.Rig.Server.Status().Trouble)
			_, err = r.Rig.ReadSnapshot(1, 0, block.SectorSize)
			require.ErrorIs(t, err, errdev.ErrGone)

			plan.Clear()
			require.NoError(t, r.Compare())
			require.NoError(t, r.Do(Op{Kind: Write, Off: 60 << 10, Len: 512, Seed: 3}), "the devices are tried again")
			require.Empty(t, r.Rig.Server.Status().Trouble)
			require.NoError(t, r.All([]Op{{Kind: Snapshot, Tag: 2}, {Kind: Write, Off: 0, Len: 20 * 512, Seed: 4}}))
			require.NoError(t, r.Compare())
			require.NoError(t, r.Crash(r.Rig.Flushed()))
		})
	}
}
