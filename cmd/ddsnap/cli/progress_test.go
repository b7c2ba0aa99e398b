// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProgressLines(t *testing.T) {
	var b bytes.Buffer
	a := &app{Streams: Streams{Err: &b}, show: progressJSON}
	show, finish := a.progress("checking")
	for i := range uint64(1001) {
		show(i, 1000)
	}
	finish()
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	require.Len(t, lines, 101, "one for each per cent")
	require.JSONEq(t, `{"doing":"checking","done":10,"total":1000}`, lines[1])
	require.JSONEq(t, `{"doing":"checking","done":1000,"total":1000}`, lines[100])

	b.Reset()
	show, _ = a.progress("checking")
	show(0, 0)
	require.JSONEq(t, `{"doing":"checking","done":0,"total":1}`, b.String(), "no work at all")
}

func TestProgressWhereNobodyLooks(t *testing.T) {
	var b bytes.Buffer
	for _, how := range []showProgress{progressAuto, progressNone} {
		a := &app{Streams: Streams{Err: &b}, show: how}
		show, finish := a.progress("checking")
		require.Nil(t, show)
		finish()
	}
	require.Empty(t, b.String())
}
