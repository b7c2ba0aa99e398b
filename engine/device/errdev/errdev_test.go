// SPDX-License-Identifier: Apache-2.0

package errdev_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
)

// steps does one operation of each kind, and returns which failed.
func steps(d device.Device) []error {
	p := bytes.Repeat([]byte{1}, 4096)
	_, w := d.WriteAt(p, 0)
	_, r := d.ReadAt(p, 4096)
	return []error{w, r, d.Flush(), d.Discard(8192, 4096), device.WriteZeroes(d, 0, 512)}
}

func TestNthFails(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		name  string
		fault errdev.Fault
		err   error
		want  []int // of two rounds of steps, those that fail
	}{
		{"first", errdev.Fault{}, errdev.ErrInjected, []int{0}},
		{"third", errdev.Fault{Nth: 3}, errdev.ErrInjected, []int{2}},
		{"all from the eighth", errdev.Fault{Nth: 8, Forever: true, Err: other}, other, []int{7, 8, 9}},
		{"second flush", errdev.Fault{Kinds: errdev.Flushes, Nth: 2}, errdev.ErrInjected, []int{7}},
		{"zeroing is writing", errdev.Fault{Kinds: errdev.Writes, Nth: 2}, errdev.ErrInjected, []int{4}},
		{"in a range", errdev.Fault{Off: 4608, Len: 512, Kinds: errdev.Reads | errdev.Discards, Forever: true}, errdev.ErrInjected, []int{1, 6}},
		{"beside a range", errdev.Fault{Off: 16384, Len: 512, Kinds: errdev.All &^ errdev.Flushes}, errdev.ErrInjected, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := errdev.New(memdev.New(1 << 20))
			d.Plan().Inject(c.fault)
			var failed []int
			for i, err := range append(steps(d), steps(d)...) {
				if err != nil {
					require.ErrorIs(t, err, c.err)
					failed = append(failed, i)
				}
			}
			require.Equal(t, c.want, failed)
			n := d.Plan().Counts()
			require.Equal(t, errdev.Counts{Reads: 2, Writes: 4, Flushes: 2, Discards: 2, Failed: int64(len(c.want))}, n)
			require.EqualValues(t, 10, n.Total())
			d.Plan().Clear()
			require.NoError(t, errors.Join(steps(d)...))
		})
	}
}

func TestDevicesOfOnePlanDieTogether(t *testing.T) {
	plan := new(errdev.Plan)
	a, b := plan.Wrap(memdev.New(4096)), plan.Wrap(memdev.New(4096))
	plan.DieAt(3)
	require.NoError(t, a.Flush())
	require.NoError(t, b.Flush())
	require.ErrorIs(t, a.Flush(), errdev.ErrGone)
	require.ErrorIs(t, b.Flush(), errdev.ErrGone)
}

func TestTornWriteLeavesHalf(t *testing.T) {
	under := memdev.New(1 << 20)
	d := errdev.New(under)
	d.Plan().Inject(errdev.Fault{Torn: true})
	_, err := d.WriteAt(bytes.Repeat([]byte{1}, 3*512), 0)
	require.ErrorIs(t, err, errdev.ErrInjected)
	got := make([]byte, 1024)
	_, err = under.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, append(bytes.Repeat([]byte{1}, 512), make([]byte, 512)...), got)
}

func TestDoFailsOneOp(t *testing.T) {
	under := memdev.New(1 << 20)
	d := errdev.New(under)
	var ops []device.Op
	for i := range 5 {
		ops = append(ops, device.Op{Kind: device.Write, Off: int64(i) * 512, Data: bytes.Repeat([]byte{9}, 512)})
	}
	d.Plan().Inject(errdev.Fault{Nth: 3})
	require.ErrorIs(t, d.Do(ops), errdev.ErrInjected)
	got := make([]byte, 5*512)
	_, err := under.ReadAt(got, 0)
	require.NoError(t, err)
	for i := range 5 {
		require.Equal(t, i != 2, got[i*512] == 9, "op %d", i)
	}
}
