// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/mark"
)

// ourselves attaches to this process, or skips the test if there is no such probe.
func ourselves(t *testing.T, probe string) *Session {
	s := attach(t, Options{Process: os.Getpid()})
	for _, p := range s.all {
		if p.name == probe {
			return s
		}
	}
	t.Skip(s.Notices)
	return nil
}

// TestStagesOfGoroutines has many goroutines go through stages, one within another, and
// change threads meanwhile. Each begin must meet its own end.
func TestStagesOfGoroutines(t *testing.T) {
	s := ourselves(t, "stage")
	const goroutines, each = 16, 25
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				mark.CopyBegin(uint64(g))
				mark.BatchBegin(uint64(i))
				runtime.Gosched()
				mark.BatchEnd()
				if i == 0 {
					time.Sleep(time.Millisecond)
				}
				mark.CopyEnd()
			}
		})
	}
	wg.Wait()
	r, err := s.Read()
	require.NoError(t, err)
	require.Zero(t, r.Lost)
	for _, kind := range []string{"copy", "batch"} {
		require.EqualValues(t, goroutines*each, r.Find("stage", "", kind, "latency").Count, kind)
		require.EqualValues(t, goroutines*each, r.Find("stage", "", kind, "chunks").Count, kind)
	}
	require.EqualValues(t, each*goroutines*(goroutines-1)/2, r.Find("stage", "", "copy", "chunks").Sum)
	require.EqualValues(t, goroutines*each*(each-1)/2, r.Find("stage", "", "batch", "chunks").Sum)
	outer, inner := r.Find("stage", "", "copy", "latency"), r.Find("stage", "", "batch", "latency")
	require.GreaterOrEqual(t, outer.Sum, inner.Sum+goroutines*uint64(time.Millisecond), "what is within takes less")
}

// TestEveryMarkIsKnown goes through every stage once: all marks are there, in this
// order, with an end.
func TestEveryMarkIsKnown(t *testing.T) {
	s := ourselves(t, "stage")
	for i, of := range []struct {
		begin func(uint64)
		end   func()
	}{
		{mark.WriteBegin, mark.WriteEnd}, {mark.ReadBegin, mark.ReadEnd}, {mark.CopyBegin, mark.CopyEnd}, {mark.LeaseBegin, mark.LeaseEnd},
		{mark.BatchBegin, mark.BatchEnd}, {mark.CommitBegin, mark.CommitEnd}, {mark.ReportBegin, mark.ReportEnd},
		{mark.CheckpointBegin, mark.CheckpointEnd}, {mark.MapBegin, mark.MapEnd}, {mark.EncodeBegin, mark.EncodeEnd}, {mark.DecodeBegin, mark.DecodeEnd},
	} {
		of.end() // without a begin: not counted
		of.begin(uint64(1000 + i))
		of.end()
	}
	r, err := s.Read()
	require.NoError(t, err)
	for i, stage := range stages {
		require.EqualValues(t, 1, r.Find("stage", "", stage.kind, "latency").Count, stage.kind)
		require.EqualValues(t, 1000+i, r.Find("stage", "", stage.kind, stage.amount).Sum, stage.kind)
	}
}

// TestMarksOneByOne attaches as kernels before 6.6 need it.
func TestMarksOneByOne(t *testing.T) {
	ourselves(t, "stage")
	spec, err := loadStage()
	require.NoError(t, err)
	places, err := findMarks("/proc/self/exe", markNames())
	require.NoError(t, err)
	p, err := open("stage", spec, nil, func(p *programs) error {
		p.labels = always(stageLabels()...)
		program, err := link.OpenExecutable("/proc/self/exe")
		require.NoError(t, err)
		require.NoError(t, p.attachEach(program, stageProgStageEnds, os.Getpid(), placesOf(places, "End")[:1]))
		return p.attachEach(program, stageProgStageBegins, os.Getpid(), placesOf(places, "Begin")[:1])
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.close()) }()
	mark.WriteBegin(4096)
	mark.WriteEnd()
	all, err := p.read()
	require.NoError(t, err)
	r := Reading{Series: all}
	require.EqualValues(t, 1, r.Find("stage", "", "write", "latency").Count)
	require.EqualValues(t, 4096, r.Find("stage", "", "write", "size").Sum)
}

// TestMarksTakeOneTrap: what a probe on a mark replaces is carried out by the kernel itself.
func TestMarksTakeOneTrap(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64's kernel carries instructions of a frame out")
	}
	places, err := findMarks("/proc/self/exe", markNames())
	require.NoError(t, err)
	self, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer self.Close()
	for name, at := range places {
		code := make([]byte, 1)
		_, err := self.ReadAt(code, int64(at))
		require.NoError(t, err)
		require.Equal(t, []byte{0x55}, code, "%s begins with PUSHQ BP", name)
	}
}

// TestMarksOfOthers is about programs without marks, which must not be touched.
func TestMarksOfOthers(t *testing.T) {
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	_, err = findMarks(shell, markNames())
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "no Go program")
	_, err = findMarks("/proc/self/exe", []string{"runtime.gopanic"})
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "is not that of a mark")
	_, err = findMarks("/proc/self/exe", []string{"runtime.nothing"})
	require.ErrorContains(t, err, "no function runtime.nothing")
}

func TestProcessYields(t *testing.T) {
	s := ourselves(t, "process")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const sleeps = 20
	before, err := s.Read()
	require.NoError(t, err)
	began := time.Now()
	for range sleeps {
		time.Sleep(time.Millisecond)
	}
	r, err := s.Read()
	require.NoError(t, err)
	within := uint64(time.Since(began)) * uint64(runtime.NumCPU())
	r = r.Since(before)
	ran := r.Find("process", "", "yielded", "ran")
	require.GreaterOrEqual(t, ran.Count, uint64(sleeps), "a sleep gives the processor up")
	require.Less(t, ran.Sum, within)
	waited := r.Find("process", "", "any", "waited")
	require.NotZero(t, waited.Count)
}

func TestAttachToNoProcess(t *testing.T) {
	_, err := Attach(Options{Process: 1 << 30})
	require.EqualError(t, err, "no process 1073741824")
}
