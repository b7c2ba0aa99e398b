// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kvmLimit is how long a guest may take to user space under KVM, where it takes
// one or two seconds.
const kvmLimit = 8 * time.Second

// Accel returns "kvm" if a guest reaches user space with it, else "tcg". A KVM
// that opens and then hangs exists, so that it boots a kernel to know. The answer
// is kept until the host boots again.
func (c *Cache) Accel(ctx context.Context, k *Kernel) (string, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg", nil
	}
	f.Close()
	path, err := lookPath("qemu-system-x86_64")
	if err != nil {
		return "", err
	}
	unlock, err := c.lock("accel")
	if err != nil {
		return "", err
	}
	defer unlock()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	record := filepath.Join(c.Dir, "accel-"+key(string(boot), path))
	if text, err := os.ReadFile(record); err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	c.say("trying KVM for up to %v", kvmLimit)
	accel := "tcg"
	if probe(ctx, path, k, "kvm", kvmLimit) {
		accel = "kvm"
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	c.say("guests run by %s", accel)
	return accel, os.WriteFile(record, []byte(accel+"\n"), 0o644)
}

// probe boots a kernel up to the first step of its early user space.
func probe(ctx context.Context, path string, k *Kernel, accel string, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cfg := &Config{Kernel: k, Accel: accel, CPUs: 2, Memory: 512}
	args := append(machine(cfg), "-kernel", k.Image, "-initrd", k.Initrd, "-append", "quiet panic=-1 lab.probe",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-serial", "none", "-monitor", "none")
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var status *exec.ExitError
	return errors.As(err, &status) && status.ExitCode() == 3
}
