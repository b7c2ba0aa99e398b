// SPDX-License-Identifier: Apache-2.0

// Package probe looks into a running kernel and into a running server with eBPF.
//
// It owns the programs' loaders (the programs are in kernel/bpf), the devices and
// processes they are bound to, the histograms that they keep in the kernel, and
// how those are shown and exported. It measures and never changes what it looks
// at; it knows nothing of stores and volumes.
//
// [Attach] loads what can be loaded here. A probe that the kernel has no room
// for is left out with a sentence that says what it needs; only when none is left
// is that an error, which wraps [ErrUnavailable]. The command zbench probe and the
// runner call it. A [Session] is safe for concurrent use. Closing it, or the end
// of the process, takes the programs out of the kernel.
//
// How to add a probe: docs/method.md.
package probe

//go:generate ../../kernel/bpf/generate block ../../kernel/bpf/block.bpf.c bpfel -type event
//go:generate ../../kernel/bpf/generate stage ../../kernel/bpf/stage.bpf.c amd64,arm64
//go:generate ../../kernel/bpf/generate process ../../kernel/bpf/process.bpf.c bpfel
//go:generate ../../kernel/bpf/generate target ../../kernel/bpf/target.bpf.c amd64,arm64
