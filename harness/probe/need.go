// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// ErrUnavailable is wrapped when this kernel, or this user, cannot have a probe.
var ErrUnavailable = errors.New("not available here")

// Need is something of the kernel that a probe cannot do without.
type Need struct {
	// What names it, with the first version of Linux that has it.
	What string
	// missing returns why it is not there.
	missing func() error
}

// What probes need.
var (
	needRoot = Need{"root, or CAP_BPF and CAP_PERFMON", func() error {
		return features.HaveProgramType(ebpf.RawTracepoint)
	}}
	needTypes = Need{"the kernel's types, CONFIG_DEBUG_INFO_BTF", func() error {
		_, err := os.Stat("/sys/kernel/btf/vmlinux")
		return err
	}}
	needDisk = Need{"Linux 5.15, for a request's disk and for cookies of probes", func() error {
		v, err := features.LinuxVersionCode()
		if err == nil && v < 5<<16|15<<8 {
			err = fmt.Errorf("this is %d.%d", v>>16, v>>8&0xff)
		}
		return err
	}}
	needRegisters = Need{"a processor whose registers it knows, amd64 or arm64", func() error {
		if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
			return fmt.Errorf("this is %s", runtime.GOARCH)
		}
		return nil
	}}
	needRing = Need{"ring buffers, Linux 5.8", func() error { return features.HaveMapType(ebpf.RingBuf) }}
)

// met returns an error that wraps [ErrUnavailable] and names the first need that
// is not met.
func met(probe string, needs []Need) error {
	for _, n := range needs {
		if err := n.missing(); err != nil {
			return fmt.Errorf("probe %s needs %s: %w: %w", probe, n.What, ErrUnavailable, err)
		}
	}
	return nil
}

// refused marks an error of loading or attaching by which the kernel says that it
// does not have, or does not allow, what was asked for. A program that the verifier finds
// fault with, and says with what, is another matter: that is a defect of ours.
func refused(err error) error {
	var verifier *ebpf.VerifierError
	unavailable := []error{ebpf.ErrNotSupported, unix.EPERM, unix.EACCES, os.ErrNotExist}
	if errors.As(err, &verifier) && len(verifier.Log) > 0 {
		unavailable = unavailable[:1]
	}
	for _, e := range unavailable {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return err
}
