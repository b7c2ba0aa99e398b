// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.uber.org/goleak"
	"zumastor.org/zumastor/results"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry is a file of an archive that readCPIO found.
type entry struct {
	name    string
	mode    uint64
	content string
}

// readCPIO reads an archive as the kernel does: fields at fixed places, name and
// content aligned to 4 bytes.
func readCPIO(t *testing.T, b []byte) []entry {
	t.Helper()
	var all []entry
	align := func(n int) int { return (n + 3) &^ 3 }
	for at := 0; ; {
		require.Equal(t, "070701", string(b[at:at+6]))
		field := func(i int) uint64 {
			n, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			require.NoError(t, err)
			return n
		}
		size, nameSize := int(field(6)), int(field(11))
		name := string(b[at+110 : at+110+nameSize-1])
		require.Zero(t, b[at+110+nameSize-1], "names end in a zero byte")
		data := align(at + 110 + nameSize)
		if name == "TRAILER!!!" {
			require.Len(t, b, data)
			return all
		}
		all = append(all, entry{name, field(1), string(b[data : data+size])})
		at = align(data + size)
	}
}

func TestCPIO(t *testing.T) {
	var b bytes.Buffer
	w := &cpioWriter{w: &b}
	want := []entry{{"bin", cpioDir, ""}, {"bin/a", cpioExec, "x"}, {"bin/ab", cpioFile, "four"}, {"bin/abc", cpioFile, ""}, {"e", cpioFile, strings.Repeat("5", 4097)}}
	for _, e := range want {
		w.add(e.name, int(e.mode), []byte(e.content))
	}
	require.NoError(t, w.close())
	require.Equal(t, want, readCPIO(t, b.Bytes()))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestCPIOKeepsTheFirstError(t *testing.T) {
	w := &cpioWriter{w: brokenWriter{}}
	w.add("a", cpioFile, nil)
	require.EqualError(t, w.close(), "full")
}

func TestKeyDividesInputs(t *testing.T) {
	require.Equal(t, key("a", "b"), key("a", "b"))
	require.Len(t, key(), 12)
	for _, other := range [][]string{{"ab"}, {"b", "a"}, {"a", "b", ""}, {"a1:b"}} {
		require.NotEqual(t, key("a", "b"), key(other...), other)
	}
}

func TestBuildOnceForEachInput(t *testing.T) {
	var log bytes.Buffer
	c := &Cache{Dir: t.TempDir(), Log: &log}
	made := 0
	build := func(input string) string {
		dir, err := c.build("thing", []string{input}, func(dir string) error {
			made++
			return os.WriteFile(filepath.Join(dir, "f"), []byte(input), 0o644)
		})
		require.NoError(t, err)
		return dir
	}
	one := build("one")
	require.Equal(t, one, build("one"))
	require.Equal(t, 1, made)
	require.NotEqual(t, one, build("two"), "an input changed")
	require.Equal(t, 2, made)
	require.Equal(t, 2, strings.Count(log.String(), "building thing-"))
}

func TestBuildThatFailsLeavesNothing(t *testing.T) {
	c := &Cache{Dir: t.TempDir()}
	fail := errors.New("no space")
	_, err := c.build("thing", nil, func(dir string) error {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "half"), nil, 0o644))
		return fail
	})
	require.ErrorIs(t, err, fail)
	dir, err := c.build("thing", nil, func(dir string) error { return nil })
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "half"))
}

func TestBuildersExcludeEachOther(t *testing.T) {
	dir := t.TempDir()
	var made int
	var builders sync.WaitGroup
	for range 8 {
		builders.Go(func() {
			c := &Cache{Dir: dir}
			c.build("thing", nil, func(string) error { made++; return nil })
		})
	}
	builders.Wait()
	require.Equal(t, 1, made)
}

func TestParseURIs(t *testing.T) {
	const text = `'http://deb.debian.org/b/linux-kbuild-6.1_6.1.192-2_amd64.deb' linux-kbuild-6.1_6.1.192-2_amd64.deb 1568188 SHA256:00
NOTE: something else
'http://deb.debian.org/a/mount_2.38_amd64.deb' kmod_1%3a30_amd64.deb 1 SHA256:11
`
	files := parseURIs(text)
	require.Equal(t, []string{"kmod_1%3a30_amd64.deb", "linux-kbuild-6.1_6.1.192-2_amd64.deb"}, files)
	require.Equal(t, "kmod=1:30", nameVersion(files[0]))
	require.Equal(t, "linux-kbuild-6.1=6.1.192-2", nameVersion(files[1]))
}

func TestLoadOrder(t *testing.T) {
	const dep = `kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/drivers/virtio/virtio-pci.ko.xz: kernel/lib/crc16.ko.xz
`
	order, err := loadOrder(dep, "kernel/fs/overlayfs/overlay.ko\n", []string{"virtio_pci", "overlay", "ext4"})
	require.NoError(t, err)
	require.Equal(t, []string{"kernel/lib/crc16.ko.xz", "kernel/drivers/virtio/virtio-pci.ko.xz",
		"kernel/fs/jbd2/jbd2.ko.xz", "kernel/fs/mbcache.ko.xz", "kernel/fs/ext4/ext4.ko.xz"}, order)
	_, err = loadOrder(dep, "", []string{"9p"})
	require.EqualError(t, err, "the kernel has no module 9p")
}

func TestScriptRunsArgumentsAsTheyAre(t *testing.T) {
	name := filepath.Join(t.TempDir(), "command")
	args := []string{"printf", "<%s>", "a b", "it's", "$HOME", "`x`", "", "*"}
	require.NoError(t, os.WriteFile(name, []byte(Script(args)), 0o755))
	out, err := exec.Command("sh", name).Output()
	require.NoError(t, err)
	require.Equal(t, "<a b><it's><$HOME><`x`><><*>", string(out))
}

func TestExitCode(t *testing.T) {
	status := func(code string) error { return exec.Command("sh", "-c", "exit "+code).Run() }
	dir := t.TempDir()
	_, err := exitCode(dir, status("3"), "")
	require.ErrorIs(t, err, ErrCrashed, "no code was written")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "exit"), []byte("200\n"), 0o644))
	code, err := exitCode(dir, status("3"), "")
	require.NoError(t, err)
	require.Equal(t, 200, code)
	for _, s := range []string{"0", "1", "5"} {
		_, err = exitCode(dir, status(s), "qemu: no such device")
		require.ErrorIs(t, err, ErrCrashed, s)
		require.ErrorContains(t, err, "no such device")
	}
}

func testConfig(t *testing.T) *Config {
	return &Config{Kernel: &Kernel{Version: "6.12", Image: "/c/vmlinuz", Initrd: "/c/initrd", Modules: "/c/modules"}, Root: "/c/root",
		Dir: t.TempDir(), Accel: "tcg", CPUs: 2, Memory: 1024, Command: "true"}
}

func TestArguments(t *testing.T) {
	cfg := testConfig(t)
	cfg.Disks = []Disk{{Name: "store", Size: 1 << 20, Model: "hdd"}}
	cfg.NVDIMM = 64 << 20
	cfg.Shares = []Share{{Dir: "/a,b", Mount: "/share", ReadOnly: true}}
	line := strings.Join(arguments(cfg), " ")
	for _, want := range []string{
		"-accel tcg,thread=multi", "-smp 2", "-M q35,nvdimm=on", "-m 1024,slots=2,maxmem=2112M",
		"serial=store", "throttling.iops-total=150", "path=/a,,b", "readonly=on", "-kernel /c/vmlinuz -initrd /c/initrd",
		"-serial file:" + cfg.Dir + "/console.log", "size=67108864",
	} {
		require.Contains(t, line, want)
	}
	require.NotContains(t, line, "-netdev")

	cfg.ICount, cfg.Command, cfg.Accel = true, "", ""
	line = strings.Join(arguments(cfg), " ")
	for _, want := range []string{"-accel tcg,thread=single", "-cpu max,-erms,-fsrm", "-smp 1", "-icount shift=0,sleep=off", "-serial mon:stdio"} {
		require.Contains(t, line, want)
	}
}

func TestPrepareWritesWhatTheGuestReads(t *testing.T) {
	cfg := testConfig(t)
	cfg.Host, cfg.Environment = "lab", []string{"A=it's"}
	cfg.Disks, cfg.NVDIMM = []Disk{{Name: "d", Size: 1 << 30}}, 1<<20
	cfg.Shares = []Share{{Dir: "/x", Mount: "/share"}, {Dir: "/y", Mount: "/y", ReadOnly: true}}
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "exit"), []byte("0"), 0o644))
	require.NoError(t, prepare(cfg))
	require.NoFileExists(t, filepath.Join(cfg.Dir, "exit"), "of an earlier machine")
	shares, err := os.ReadFile(filepath.Join(cfg.Dir, "guest/shares"))
	require.NoError(t, err)
	require.Equal(t, "share0 /share rw\nshare1 /y ro\n", string(shares))
	out, err := exec.Command("sh", "-c", ". "+filepath.Join(cfg.Dir, "guest/environment")+`; echo "$A $LAB_HOST $LAB_KERNEL"`).Output()
	require.NoError(t, err)
	require.Equal(t, "it's lab 6.12\n", string(out))
	info, err := os.Stat(filepath.Join(cfg.Dir, "disks/d"))
	require.NoError(t, err)
	require.EqualValues(t, 1<<30, info.Size())
}

func TestStreamsReachTheirWriters(t *testing.T) {
	var out, errs bytes.Buffer
	s, err := openStreams(&out, &errs)
	require.NoError(t, err)
	_, err = s.guest()[0].WriteString("to out")
	require.NoError(t, err)
	_, err = s.guest()[1].WriteString("to err")
	require.NoError(t, err)
	s.started()
	s.wait()
	require.Equal(t, "to out", out.String())
	require.Equal(t, "to err", errs.String())
}

// attach is a machine on a network, as far as the network can tell.
func attach(t *testing.T, n *Network, members int) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", n.path)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.ports) == members
	}, 10*time.Second, time.Millisecond)
	return conn
}

func TestNetworkHandsFramesToAllOthers(t *testing.T) {
	n, err := NewNetwork(t.TempDir())
	require.NoError(t, err)
	a, b, c := attach(t, n, 1), attach(t, n, 2), attach(t, n, 3)
	frame := binary.BigEndian.AppendUint32(nil, 5)
	frame = append(frame, "hello"...)
	_, err = a.Write(frame)
	require.NoError(t, err)
	for _, to := range []net.Conn{b, c} {
		got := make([]byte, len(frame))
		_, err := to.Read(got)
		require.NoError(t, err)
		require.Equal(t, frame, got)
	}
	// A frame that is too long ends its sender, and nobody else.
	_, err = b.Write(binary.BigEndian.AppendUint32(nil, maxFrame+1))
	require.NoError(t, err)
	_, err = b.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = c.Write(frame)
	require.NoError(t, err)
	got := make([]byte, len(frame))
	_, err = a.Read(got)
	require.NoError(t, err)
	require.Equal(t, frame, got, "a did not see its own frame before this one")
	require.NoError(t, n.Close())
	for _, conn := range []net.Conn{a, b, c} {
		conn.Close()
	}
}

func TestFindCheckout(t *testing.T) {
	c, err := FindCheckout(".")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(string(c), "go.mod"))
	_, err = FindCheckout("/")
	require.ErrorContains(t, err, "call it in a checkout")
}

func TestCopyNewer(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write := func(dir, name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write(from, "dm/a.c", "one")
	write(from, "dm/b.o", "built for another kernel")
	write(from, "dm/a.mod.c", "built")
	require.NoError(t, copyNewer(from, to))
	require.NoFileExists(t, filepath.Join(to, "dm/b.o"))
	require.NoFileExists(t, filepath.Join(to, "dm/a.mod.c"))
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	require.NoError(t, os.Chtimes(filepath.Join(to, "dm/a.c"), old, old))
	write(to, "dm/a.o", "built here")
	require.NoError(t, copyNewer(from, to))
	info, err := os.Stat(filepath.Join(to, "dm/a.c"))
	require.NoError(t, err)
	require.Equal(t, old, info.ModTime(), "what did not change keeps its date")
	require.FileExists(t, filepath.Join(to, "dm/a.o"))
	write(from, "dm/a.c", "two")
	require.NoError(t, copyNewer(from, to))
	text, err := os.ReadFile(filepath.Join(to, "dm/a.c"))
	require.NoError(t, err)
	require.Equal(t, "two", string(text))
}

func TestCauseIsTheLastReport(t *testing.T) {
	const report = "BUG: unable to handle page fault\n#PF\nCall Trace:\n f\nKernel panic - not syncing: Fatal exception\nend"
	require.Equal(t, report, cause("boot\nBUG: an older one\nx\n"+report+"\n"))
	require.Equal(t, "Kernel panic - not syncing: sysrq\nf", cause("boot\nKernel panic - not syncing: sysrq\nf\n"))
	require.Equal(t, "a\nb", cause("a\nb\n"))
}

func TestReadTests(t *testing.T) {
	name := filepath.Join(t.TempDir(), "results.tsv")
	require.NoError(t, os.WriteFile(name, []byte("001\tpass\t1.5\text4\t\n002\tskip\t0.1\tnbd\tno module\n"), 0o644))
	tests, err := ReadTests(name, "6.12.1")
	require.NoError(t, err)
	require.Equal(t, []Test{
		{Kernel: "6.12.1", Name: "001", Outcome: "pass", Seconds: 1.5, Description: "ext4"},
		{Kernel: "6.12.1", Name: "002", Outcome: "skip", Seconds: .1, Description: "nbd", Reason: "no module"},
	}, tests)
	for _, bad := range []string{"001\tpass\n", "001\tpass\tsoon\ta\tb\n"} {
		require.NoError(t, os.WriteFile(name, []byte(bad), 0o644))
		_, err = ReadTests(name, "")
		require.Error(t, err, bad)
	}
}

// TestKernelTestsAreWhole holds each script of kernel/tests to its shape.
func TestKernelTestsAreWhole(t *testing.T) {
	dir := "../../kernel/tests"
	names, err := ListTests(dir)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(text), "\nDESCRIPTION=", name)
		require.Contains(t, string(text), "\ntest() {", name)
		require.Contains(t, string(text), "SPDX-License-Identifier: GPL-2.0", name)
		out, err := os.ReadFile(filepath.Join(dir, name+".out"))
		require.NoError(t, err)
		require.Regexp(t, "^Running "+name+"\n(?s:.*)Test complete\n$", string(out), name)
		require.NoError(t, exec.Command("bash", "-n", filepath.Join(dir, name)).Run(), name)
	}
}

func TestLostLines(t *testing.T) {
	const want = "# comment\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n"
	require.Empty(t, lostLines(want, "#\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n"))
	require.Equal(t, []string{"CONFIG_B=m", "# CONFIG_D is not set"}, lostLines(want, "#\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_D=y\n"))
}

func TestParseBench(t *testing.T) {
	const settings = "op=read variant=linear device=brd engine=libaio qd=1"
	text := settings + "\t0\tIOPS\t100\n" + settings + "\t1\tIOPS\t110\n" + settings + "\t2\tIOPS\t105\nop=rewrite-held variant=ddsnap\t0\theld\t0\n"
	samples, err := ParseBench(text)
	require.NoError(t, err)
	require.Len(t, samples, 4)
	require.Equal(t, "LAB/op=read/variant=linear/device=brd/engine=libaio/qd=1", samples[0].Name())
	require.Equal(t, 2, samples[2].Round)
	require.InDelta(t, 1e7, samples[0].Values[results.NsPerOp], 1e-6)
	require.Equal(t, map[string]float64{"held": 0}, samples[3].Values)
	set, err := results.NewSet(results.Measured, samples...)
	require.NoError(t, err)
	figures := Figures(set)
	require.Len(t, figures, 2)
	require.InDelta(t, 105, figures[0].Median, 1e-9)
	require.InDelta(t, 10.0/105, figures[0].Spread, 1e-9)
	require.Zero(t, figures[1].Spread)
	var b strings.Builder
	require.NoError(t, WriteFigures(&b, figures))
	require.Contains(t, b.String(), "105 IOPS  9.5%")
	for _, bad := range []string{"op=a\t0\n", "op=a\tx\tIOPS\t1\n", "op=a\t0\tIOPS\t\n", "op=a\t0\tIOPS\t0\n", "op=a\t-1\tIOPS\t1\n", "op\t0\tIOPS\t1\n"} {
		_, err := ParseBench(bad)
		require.Error(t, err, bad)
	}
}

func TestCodeLines(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "\n \t\n": 0, "int a;\n": 1, "// said\nint a; // more\n": 1,
		"/* said */\nint a; /* more */\n": 1, "/*\n * said\n\n */\nint a;\n}\n": 2, "/* a\n */ int b;\n": 1,
	} {
		require.Equal(t, want, codeLines(text), text)
	}
}
