// SPDX-License-Identifier: Apache-2.0

package results

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Environment is where samples were taken. What could not be found out is empty.
// It names no host, user or path, so that it can be published.
type Environment struct {
	Kernel       string `json:"kernel"`
	Distribution string `json:"distribution,omitempty"`
	Architecture string `json:"architecture"`
	CPU          string `json:"cpu"`
	CPUs         int    `json:"cpus"`
	CPUQuota     string `json:"cpu_quota,omitempty"`
	Governor     string `json:"governor,omitempty"`
	// HugePages is the setting of transparent huge pages.
	HugePages string `json:"huge_pages,omitempty"`
	// MemoryLimit and IOLimit are the control group's.
	MemoryLimit    string `json:"memory_limit,omitempty"`
	IOLimit        string `json:"io_limit,omitempty"`
	MemoryBytes    int64  `json:"memory_bytes"`
	Virtualisation string `json:"virtualisation,omitempty"`
	Go             string `json:"go"`
	// Commit is the revision, with "-dirty" when files in git had changed.
	Commit string `json:"commit,omitempty"`
	// RevisionSource says what Commit is known by, [FromBuild] or [FromWorktree]; "" in runs
	// from before it was recorded.
	RevisionSource string `json:"revision_source,omitempty"`
	// Modules are the versions of the Go modules that the program is built of.
	Modules map[string]string `json:"modules,omitempty"`
	// Storage is that of the directory or device under test.
	Storage Storage `json:"storage"`
	// LoadStart and LoadEnd are the load averages of 1, 5 and 15 minutes.
	LoadStart string `json:"load_start"`
	LoadEnd   string `json:"load_end,omitempty"`
	// StealPercent is the share of the processors' time that the host of a virtual
	// machine gave to others during the run; Noise what was found before it.
	StealPercent float64 `json:"steal_percent"`
	Noise        *Noise  `json:"noise,omitempty"`
	// Tools are the versions of programs that experiments may use.
	Tools map[string]string `json:"tools,omitempty"`
}

// CollectEnvironment finds out where it runs; dir is the directory in which the
// experiments keep their files. It takes at most some seconds (it asks programs
// for their versions) and never fails: what it cannot learn stays empty.
func CollectEnvironment(dir string) Environment {
	commit, source := Revision()
	return Environment{
		Kernel:         readLine("/proc/sys/kernel/ostype") + " " + readLine("/proc/sys/kernel/osrelease"),
		Distribution:   field("/etc/os-release", "PRETTY_NAME", "="),
		Architecture:   runtime.GOARCH,
		CPU:            field("/proc/cpuinfo", "model name", ":"),
		CPUs:           runtime.NumCPU(),
		CPUQuota:       cpuQuota(),
		HugePages:      chosen(readLine("/sys/kernel/mm/transparent_hugepage/enabled")),
		MemoryLimit:    limit("memory", "memory.max", "memory.limit_in_bytes"),
		IOLimit:        limit("blkio", "io.max", "blkio.throttle.write_bps_device"),
		Governor:       readLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
		MemoryBytes:    memory(),
		Virtualisation: virtualisation(),
		Go:             runtime.Version(),
		Commit:         commit,
		RevisionSource: source,
		Modules:        modules(),
		Storage:        storageOf(dir),
		LoadStart:      Load(),
		Tools:          tools(),
	}
}

// Load returns the load averages of the last 1, 5 and 15 minutes.
func Load() string {
	f := strings.Fields(readLine("/proc/loadavg"))
	return strings.Join(f[:min(3, len(f))], " ")
}

func memory() int64 {
	kib, _ := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal", ":"), " kB"), 10, 64)
	return kib << 10
}

func virtualisation() string {
	if v := output("systemd-detect-virt"); v != "" {
		return v
	}
	if strings.Contains(" "+field("/proc/cpuinfo", "flags", ":")+" ", " hypervisor ") {
		return strings.TrimSpace("hypervisor " + readLine("/sys/class/dmi/id/product_name"))
	}
	return ""
}

func tools() map[string]string {
	m := map[string]string{}
	for _, name := range []string{"fio", "qemu-nbd", "qemu-img", "nbdinfo", "nbdcopy"} {
		if v := output(name, "--version"); v != "" {
			m[name] = v
		}
	}
	return m
}

// output returns the first line that a program prints, or "" when there is no
// such program, it fails or takes more than two seconds.
func output(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

func readAll(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

func readLine(path string) string {
	line, _, _ := strings.Cut(readAll(path), "\n")
	return strings.TrimSpace(line)
}

// field returns the value of the first line "key<sep>value" of a file.
func field(path, key, sep string) string {
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == key {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// Storage is a file system and the block device under it.
type Storage struct {
	FileSystem   string `json:"file_system"`
	MountOptions string `json:"mount_options,omitempty"`
	// Direct says whether files there can be opened with O_DIRECT.
	Direct bool `json:"direct"`
	// Device is the kernel's name of the block device; "" for file systems
	// without one, such as tmpfs and overlay.
	Device     string `json:"device,omitempty"`
	Model      string `json:"model,omitempty"`
	Scheduler  string `json:"scheduler,omitempty"`
	Rotational string `json:"rotational,omitempty"`
	WriteCache string `json:"write_cache,omitempty"`
}

func storageOf(dir string) Storage {
	s := Storage{Direct: canDirect(dir)}
	m, ok := mountOf(dir)
	if !ok {
		return s
	}
	s.FileSystem, s.MountOptions = m.kind, m.options
	device, err := filepath.EvalSymlinks("/sys/dev/block/" + m.device)
	if err != nil {
		return s
	}
	s.Device = filepath.Base(device)
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		device = filepath.Dir(device)
	}
	s.Model = readLine(filepath.Join(device, "device", "model"))
	s.Scheduler = readLine(filepath.Join(device, "queue", "scheduler"))
	s.Rotational = readLine(filepath.Join(device, "queue", "rotational"))
	s.WriteCache = readLine(filepath.Join(device, "queue", "write_cache"))
	return s
}
