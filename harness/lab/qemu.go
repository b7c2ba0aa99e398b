// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"strings"
)

// throttles are the limits of each model of a disk, as QEMU takes them.
var throttles = map[string]string{
	"":    "",
	"hdd": ",throttling.iops-total=150,throttling.bps-total=150000000",
	"ssd": ",throttling.iops-total=20000,throttling.bps-total=500000000",
}

// arguments are QEMU's. The guest's output goes to inherited files 3 and 4.
func arguments(cfg *Config) []string {
	args := machine(cfg)
	add := func(a ...string) { args = append(args, a...) }
	add("-kernel", cfg.Kernel.Image, "-initrd", cfg.Kernel.Initrd, "-append", commandLine(cfg),
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")
	if cfg.Command == "" {
		add("-serial", "mon:stdio")
	} else {
		add("-serial", "file:"+cfg.console(), "-monitor", "none")
	}
	// Without ioeventfd, what the guest wrote has left QEMU when its write returns.
	add("-device", "virtio-serial-pci,ioeventfd=off")
	for i, name := range []string{"out", "err"} {
		add("-add-fd", fmt.Sprintf("fd=%d,set=%d", 3+i, 1+i),
			"-chardev", fmt.Sprintf("file,id=%s,path=/dev/fdset/%d,append=on", name, 1+i),
			"-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", name, name))
	}
	for i, image := range []string{cfg.Root, cfg.Kernel.Modules} {
		add("-drive", fmt.Sprintf("file=%s,if=none,id=base%d,format=raw,cache=unsafe,readonly=on,file.locking=off", image, i),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=base%d", i))
	}
	cache := "unsafe"
	if cfg.Again {
		cache = "none"
	}
	for _, d := range cfg.Disks {
		add("-drive", fmt.Sprintf("file=%s,if=none,id=disk-%s,format=raw,cache=%s%s", cfg.diskFile(d.Name), d.Name, cache, throttles[d.Model]),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=disk-%s,serial=%s", d.Name, d.Name))
	}
	add(virtfs("lab", cfg.Dir, false)...)
	for i, s := range cfg.Shares {
		add(virtfs(fmt.Sprintf("share%d", i), s.Dir, s.ReadOnly)...)
	}
	if cfg.Network != nil {
		add("-netdev", "stream,id=net,server=off,addr.type=unix,addr.path="+cfg.Network.path,
			"-device", "virtio-net-pci,netdev=net,romfile=,mac="+hardwareAddress(cfg.Address))
	}
	return args
}

// machine are the arguments for CPUs, memory and clock.
func machine(cfg *Config) []string {
	board, memory := "q35", fmt.Sprint(cfg.Memory)
	var more []string
	if cfg.NVDIMM > 0 {
		board += ",nvdimm=on"
		memory += fmt.Sprintf(",slots=2,maxmem=%dM", int64(cfg.Memory)+cfg.NVDIMM>>20+1024)
		more = []string{"-object", fmt.Sprintf("memory-backend-file,id=nv,share=on,mem-path=%s,size=%d", cfg.diskFile("nvdimm"), cfg.NVDIMM),
			"-device", "nvdimm,memdev=nv"}
	}
	accel, cpus, cpu := cfg.Accel, cfg.CPUs, "max"
	switch {
	case cfg.ICount:
		// An iteration of a repeated string instruction counts as an instruction: kernels
		// that believe in fast ones would copy and clear a byte a time.
		accel, cpus, cpu = "tcg,thread=single", 1, "max,-erms,-fsrm"
		more = append(more, "-icount", "shift=0,sleep=off")
	case accel == "tcg":
		accel = "tcg,thread=multi"
	case accel == "kvm":
		cpu = "host"
	}
	return append([]string{"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-accel", accel, "-M", board, "-cpu", cpu,
		"-smp", fmt.Sprint(cpus), "-m", memory}, more...)
}

// commandLine has no_timer_check because on a busy host the timer's ticks come too late
// for the kernel to believe in them, and it panics.
func commandLine(cfg *Config) string {
	words := append([]string{"console=ttyS0", "quiet", "loglevel=4", "panic=-1", "oops=panic", "net.ifnames=0", "no_timer_check"}, cfg.Append...)
	return strings.Join(words, " ")
}

// virtfs shares a directory. Owners are what they are on the host.
func virtfs(tag, dir string, readOnly bool) []string {
	v := fmt.Sprintf("local,path=%s,mount_tag=%s,security_model=none,id=%s,multidevs=remap", strings.ReplaceAll(dir, ",", ",,"), tag, tag)
	if readOnly {
		v += ",readonly=on"
	}
	return []string{"-virtfs", v}
}

// hardwareAddress derives a MAC address from the last part of an IPv4 address.
func hardwareAddress(address string) string {
	var n int
	fmt.Sscan(address[strings.LastIndex(address, ".")+1:], &n)
	return fmt.Sprintf("52:54:00:7a:00:%02x", n&0xff)
}
