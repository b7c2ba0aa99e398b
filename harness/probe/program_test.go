// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The programs number their histograms as the labels do.
func TestSeriesNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		load   func() (*ebpf.CollectionSpec, error)
		labels int
	}{
		"block":   {loadBlock, maxDevices * len(blockKinds) * len(blockMetrics)},
		"stage":   {loadStage, len(stageLabels())},
		"process": {loadProcess, len(processLabels())},
		"target":  {loadTarget, len(targetLabels())},
	} {
		spec, err := c.load()
		require.NoError(t, err)
		histograms := spec.Maps[blockMapHistograms]
		require.EqualValues(t, c.labels, histograms.MaxEntries, name)
		require.EqualValues(t, 8*(2+Slots), histograms.ValueSize, name)
	}
}

// What runs on the way of each operation, or at each switch of threads, calls the kernel's
// functions this often at most. Looking into an array is no call.
func TestCallsOfPrograms(t *testing.T) {
	ourselves(t, "block")
	for program, c := range map[string]struct {
		load  func() (*ebpf.CollectionSpec, error)
		calls int // with those for a device seen first, and for the timeline
	}{
		blockProgRequestIssued:    {loadBlock, 4},
		blockProgRequestCompleted: {loadBlock, 4},
		blockProgBioQueued:        {loadBlock, 4},
		blockProgBioCompleted:     {loadBlock, 4},
		processProgSwitched:       {loadProcess, 1},
		processProgWoken:          {loadProcess, 1},
	} {
		spec, err := c.load()
		require.NoError(t, err)
		loaded, err := ebpf.NewCollection(spec)
		require.NoError(t, err, "%+v", err)
		info, err := loaded.Programs[program].Info()
		require.NoError(t, err)
		code, err := info.Instructions()
		require.NoError(t, err)
		calls := 0
		for i := range code {
			if code[i].IsBuiltinCall() {
				calls++
			}
		}
		require.LessOrEqual(t, calls, c.calls, "%s: %v", program, code)
		loaded.Close()
	}
}

// A program that the verifier rejects is not one that this kernel has no room for.
func TestRejectedProgram(t *testing.T) {
	ourselves(t, "block")
	_, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "GPL",
		Instructions: asm.Instructions{asm.LoadMem(asm.R0, asm.R10, -8, asm.DWord), asm.LoadMem(asm.R0, asm.R0, 0, asm.DWord), asm.Return()},
	})
	require.Error(t, err)
	require.NotErrorIs(t, refused(err), ErrUnavailable)
	require.ErrorIs(t, refused(fmt.Errorf("loading: %w", unix.EPERM)), ErrUnavailable)
	require.ErrorIs(t, refused(&ebpf.VerifierError{Cause: unix.EPERM}), ErrUnavailable, "without a word of the verifier")
	require.NotErrorIs(t, refused(&ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"invalid mem access"}}), ErrUnavailable)
}
