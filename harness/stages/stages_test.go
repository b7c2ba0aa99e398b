// SPDX-License-Identifier: Apache-2.0

package stages_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/gen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mib    = 1 << 20
	chunk  = 16 << 10
	origin = 8 * mib
)

func build(t testing.TB, bed *stack.Bed, variant string, through func(device.Device) device.Device) *stack.Stack {
	t.Helper()
	st, err := bed.Build(stack.Config{Variant: variant, ChunkSize: chunk, Origin: origin, StoreSize: 64 * mib, Account: true, Through: through})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

// once writes to every chunk of the origin once, in an order that a seed decides.
func once(t testing.TB) workloads.Stream {
	s, err := gen.New(gen.Spec{Pattern: gen.Once, Seed: 3, Range: origin, Block: chunk})
	require.NoError(t, err)
	return s
}

// stagesOf checks that the stages of each class are all of its time, and returns the
// time of all classes and their stages by name.
func stagesOf(t testing.TB, a results.Account) (all int64, found map[string]int64) {
	t.Helper()
	found = map[string]int64{}
	for _, c := range a.Classes {
		sum := int64(0)
		for _, s := range c.Stages {
			require.GreaterOrEqual(t, s.Nanoseconds, int64(0))
			require.Equal(t, c.Groups, s.Times.TotalCount(), "%s, %s", c.Name, s.Name)
			sum += s.Nanoseconds
			found[c.Name+": "+s.Name] += s.Nanoseconds
		}
		require.Equal(t, c.Nanoseconds, sum, c.Name)
		all += sum
	}
	return all, found
}

// modelled writes to all chunks twice on a model, and returns the account and the time
// that went by.
func modelled(t *testing.T, model, variant string) (a results.Account, took time.Duration) {
	bed, err := stack.NewModel(model, stack.Size{Origin: origin, Stores: 64 * mib})
	require.NoError(t, err)
	st := build(t, bed, variant, nil)
	require.NoError(t, st.Snapshot(1))
	st.Look().Begin(8)
	before, began := bed.Traffic(), st.Now()
	for range 2 {
		submit := func(ops []device.Op) error {
			if err := device.Do(st.Device(), ops); err != nil {
				return err
			}
			return st.Maintain()
		}
		_, err := apply.Replay(t.Context(), st.Device(), once(t), apply.Options{Depth: 8, Submit: submit})
		require.NoError(t, err)
	}
	if variant != "raw" && variant != "copybound" {
		require.NoError(t, st.Checkpoint())
	}
	took, after := st.Now()-began, bed.Traffic()
	a = st.Look().End()
	flows := map[string]int64{}
	for _, f := range a.Flows {
		if f.Device != "journal" {
			flows[f.Kind] += f.Bytes
			flows[f.Kind+"s"] += f.Operations
		}
	}
	require.Equal(t, after.BytesRead-before.BytesRead, flows["read"], "bytes that the model counted")
	require.Equal(t, after.BytesWritten-before.BytesWritten, flows["write"])
	require.Equal(t, after.Flushes-before.Flushes, flows["flushs"])
	require.Equal(t, after.Reads-before.Reads+after.Writes-before.Writes, flows["reads"]+flows["writes"])
	return a, took
}

// TestStagesAreAllOfTheTime holds the sum of all stages against the clock of a model,
// to the nanosecond.
func TestStagesAreAllOfTheTime(t *testing.T) {
	for _, model := range []string{"hdd", "nvme"} {
		for _, variant := range []string{"raw", "copybound", "inline", "disk", "nvram", "pmem"} {
			t.Run(model+"/"+variant, func(t *testing.T) {
				a, took := modelled(t, model, variant)
				all, found := stagesOf(t, a)
				require.Equal(t, int64(took), all, "%v", found)
				require.Positive(t, found["settled write: write origin"])
				if variant == "raw" {
					require.Len(t, found, 1)
					return
				}
				for _, stage := range []string{"read old", "write copies", "make durable", "write origin"} {
					require.Positive(t, found["first write: "+stage], "%s of %v", stage, found)
				}
				if variant != "copybound" {
					require.Positive(t, found["between requests: checkpoints"])
				}
			})
		}
	}
}

// TestGroupsOfSeveralBatches has a group copied in two batches, which both are on its path.
func TestGroupsOfSeveralBatches(t *testing.T) {
	const size = 48 * mib // one and a half of the largest batch
	bed, err := stack.NewModel("nvme", stack.Size{Origin: size, Stores: 160 * mib})
	require.NoError(t, err)
	for _, variant := range []string{"copybound", "inline"} {
		st, err := bed.Build(stack.Config{Variant: variant, ChunkSize: mib, Origin: size, StoreSize: 160 * mib, Account: true})
		require.NoError(t, err)
		require.NoError(t, st.Snapshot(1))
		var ops []device.Op
		buf := device.Buffer(48 * 4096)
		for i := range int64(48) {
			ops = append(ops, device.Op{Kind: device.Write, Off: i * mib, Data: buf[i*4096:][:4096]})
		}
		st.Look().Begin(48)
		began := st.Now()
		require.NoError(t, device.Do(st.Device(), ops))
		took := st.Now() - began
		all, found := stagesOf(t, st.Look().End())
		require.Equal(t, int64(took), all)
		require.Less(t, found["first write: queue"], int64(took)/100, "%s: no batch is anybody else's: %v", variant, found)
		require.NoError(t, st.Close())
	}
}

// slow is a device whose every operation takes a while.
type slow struct{ device.Device }

const while = time.Millisecond

func (s slow) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(while)
	return s.Device.ReadAt(p, off)
}

func (s slow) WriteAt(p []byte, off int64) (int, error) {
	time.Sleep(while)
	return s.Device.WriteAt(p, off)
}

func (s slow) Flush() error {
	time.Sleep(while)
	return s.Device.Flush()
}

// TestStagesAgreeWithTheDriver has requests issued by eight goroutines and holds the sum
// of their stages against what the driver has timed itself.
func TestStagesAgreeWithTheDriver(t *testing.T) {
	const most, tries = 0.05, 5 // a busy machine may stop a goroutine between two readings of the clock
	apart := func(t *testing.T) float64 {
		bed := stack.NewMemory(stack.Size{Origin: origin, Stores: 64 * mib})
		st := build(t, bed, "inline", func(d device.Device) device.Device { return slow{d} })
		require.NoError(t, st.Snapshot(1))
		st.Look().Begin(8)
		was := st.Status()
		s, err := gen.New(gen.Spec{Pattern: gen.Once, Seed: 3, Range: 128 * chunk, Block: chunk})
		require.NoError(t, err)
		r, err := apply.Run(t.Context(), st.Device(), s, apply.Options{Depth: 8})
		require.NoError(t, err)
		a := st.Look().End()
		is := st.Status()
		all, found := stagesOf(t, a)
		looked := int64(0)
		for _, c := range a.Classes { // some writes are settled: their chunks were copied ahead
			looked += c.Requests
		}
		// There is time to look at all of them, but two buffers may have one place.
		require.Greater(t, looked, int64(64))
		require.LessOrEqual(t, looked, int64(128))
		for _, stage := range []string{"queue", "read old", "write copies", "make durable", "write origin"} {
			require.Positive(t, found["first write: "+stage], "%v", found)
		}
		for _, f := range a.Flows {
			switch f.Device + " " + f.Kind {
			case "origin read":
				require.Equal(t, int64(is.Copies-was.Copies)*chunk, f.Bytes)
			case "origin write":
				require.Equal(t, int64(128*chunk), f.Bytes)
			case "store write":
				require.Equal(t, int64(is.Copies-was.Copies)*chunk+int64(is.Batches-was.Batches)*block.PageSize, f.Bytes)
			}
		}
		latency := r.ByKind[workloads.Write].Latency
		return float64(all)/float64(looked)/latency.Mean() - 1
	}
	var all []float64
	for range tries {
		if all = append(all, apart(t)); math.Abs(all[len(all)-1]) < most {
			return
		}
	}
	t.Errorf("stages and wall time differ by more than %v each time: %v", most, all)
}

// TestSnapshotRequests tells reads of changed chunks from those of unchanged ones.
func TestSnapshotRequests(t *testing.T) {
	bed, err := stack.NewModel("nvme", stack.Size{Origin: origin, Stores: 64 * mib})
	require.NoError(t, err)
	st := build(t, bed, "inline", nil)
	require.NoError(t, st.Snapshot(1))
	buf := device.Buffer(chunk)
	_, err = st.Device().WriteAt(buf, 0)
	require.NoError(t, err)
	snap, err := st.Open(1, true)
	require.NoError(t, err)
	defer func() { require.NoError(t, snap.Close()) }()
	st.Look().Begin(1)
	for i := range 8 {
		_, err = st.Seen(snap).ReadAt(buf[:4096], int64(i)*chunk)
		require.NoError(t, err)
	}
	_, err = st.Seen(snap).WriteAt(buf, 4*chunk)
	require.NoError(t, err)
	a := st.Look().End()
	_, found := stagesOf(t, a)
	got := map[string]int64{}
	for _, c := range a.Classes {
		got[c.Name] = c.Requests
	}
	require.Equal(t, map[string]int64{"snapshot read, changed": 1, "snapshot read, unchanged": 7, "snapshot write": 1}, got)
	require.Positive(t, found["snapshot read, changed: read store"])
	require.Positive(t, found["snapshot read, unchanged: read origin"])
	require.Positive(t, found["snapshot write: write store"])
}

// TestDistances counts how far the operations of a device are from each other.
func TestDistances(t *testing.T) {
	bed := stack.NewMemory(stack.Size{Origin: origin, Stores: 64 * mib})
	st := build(t, bed, "raw", nil)
	st.Look().Begin(1)
	buf := device.Buffer(4096)
	for _, off := range []int64{0, 4096, 8192, 12288 + 512, 0} {
		_, err := st.Device().WriteAt(buf, off)
		require.NoError(t, err)
	}
	a := st.Look().End()
	require.Equal(t, []int64{2, 1, 0, 0, 0, 0, 1}, a.Distances, "twice next to it, once a sector, once 33 sectors back")
}

// TestSettledWritesDoNotAllocate holds that a settled write allocates nothing, looked at or not.
func TestSettledWritesDoNotAllocate(t *testing.T) {
	st := build(t, stack.NewMemory(stack.Size{Origin: origin, Stores: 64 * mib}), "inline", nil)
	require.NoError(t, st.Snapshot(1))
	buf, dev := device.Buffer(4096), st.Device()
	write := func() { _, _ = dev.WriteAt(buf, 0) }
	write()
	require.Zero(t, testing.AllocsPerRun(1000, write), "off")
	st.Look().Begin(1)
	require.Zero(t, testing.AllocsPerRun(1000, write), "on")
}

// BenchmarkSettledWrite shows what looking costs: the difference is to be below 1 % of
// what a write to a device takes, which memory is not.
func BenchmarkSettledWrite(b *testing.B) {
	for _, look := range []string{"none", "off", "on"} {
		b.Run(fmt.Sprintf("look=%s", look), func(b *testing.B) {
			bed := stack.NewMemory(stack.Size{Origin: origin, Stores: 64 * mib})
			st, err := bed.Build(stack.Config{Variant: "inline", ChunkSize: chunk, Origin: origin, StoreSize: 64 * mib, Account: look != "none"})
			require.NoError(b, err)
			defer func() { require.NoError(b, st.Close()) }()
			require.NoError(b, st.Snapshot(1))
			if look == "on" {
				st.Look().Begin(1)
			}
			buf, dev := device.Buffer(4096), st.Device()
			for b.Loop() {
				if _, err := dev.WriteAt(buf, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
