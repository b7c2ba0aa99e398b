// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/lab"
)

func TestLabCommandLinesThatAreWrong(t *testing.T) {
	for line, says := range map[string]string{
		"lab run":                               "zbench lab run takes a command",
		"lab run --cpus 0 -- true":              "at least 1 CPU",
		"lab run --disk a -- true":              `"a" is not NAME=SIZE`,
		"lab run --disk A=1g -- true":           "small letters",
		"lab run --disk a=1g,tape -- true":      `model "tape" is neither hdd nor ssd`,
		"lab run --disk a=big -- true":          "is not a number of bytes",
		"lab run --nvdimm big -- true":          "--nvdimm",
		"lab run --share /nowhere -- true":      "/nowhere is not a directory",
		"lab run --share .:here -- true":        "absolute MOUNT",
		"lab run --share .:/here:rw -- true":    "absolute MOUNT",
		"lab run --env A -- true":               "is not NAME=value",
		"lab run --accel hvf -- true":           `"hvf" is neither kvm nor tcg`,
		"lab shell now":                         "takes no arguments",
		"lab run --share a:/b:ro:more -- never": "absolute MOUNT",
	} {
		var out, errs bytes.Buffer
		code := Main(context.Background(), strings.Fields(line), strings.NewReader(""), &out, &errs)
		require.Equal(t, ExitUsage, code, line)
		require.Contains(t, errs.String(), says, line)
	}
}

func TestLabFlags(t *testing.T) {
	dir := t.TempDir()
	f := labFlags{nvdimm: "256m", disks: []string{"store=2g,hdd", "origin=1G"}, shares: []string{dir, dir + ":/in:ro"}}
	var cfg lab.Config
	require.NoError(t, f.parse(&cfg))
	require.EqualValues(t, 256<<20, cfg.NVDIMM)
	require.Equal(t, []lab.Disk{{Name: "store", Size: 2 << 30, Model: "hdd"}, {Name: "origin", Size: 1 << 30}}, cfg.Disks)
	require.Equal(t, []lab.Share{{Dir: dir, Mount: "/share"}, {Dir: dir, Mount: "/in", ReadOnly: true}}, cfg.Shares)
}

func TestPrefixerWritesWholeLines(t *testing.T) {
	var out bytes.Buffer
	p := &prefixer{to: &out, name: "host1", mu: &sync.Mutex{}}
	for _, part := range []string{"on", "e\ntw", "o\n", "rest"} {
		n, err := p.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	require.Equal(t, "host1: one\nhost1: two\n", out.String())
}
