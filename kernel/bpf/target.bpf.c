// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The stages of a copy-out in the kernel's targets (kernel/dm-ddsnap): how long each takes.
 * Kprobes on the functions that dm-ddsnap.rst keeps for that; the cookie says which stage.
 * A bio is held and goes in different threads: its address is what it is known by. The
 * others begin and end with a function, in one thread.
 *
 * Needs Linux 5.15 (cookies) with kprobes.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

/* harness/probe/target.go has the same. */
#define HIST_SERIES 4
#include "histogram.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#if defined(__TARGET_ARCH_x86)
#define SECOND(regs) ((regs)->si)
#define REGS struct pt_regs
#elif defined(__TARGET_ARCH_arm64)
#define SECOND(regs) ((regs)->regs[1])
#define REGS struct user_pt_regs
#endif

struct stage {
	__u64 of; /* bio's data, or thread */
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); /* a bio that fails does not go: it makes room */
	__uint(max_entries, 16384);
	__type(key, struct stage);
	__type(value, __u64);
} begun SEC(".maps");

static __always_inline int begins(__u64 of, __u64 number)
{
	struct stage s = { .of = of, .number = number };
	__u64 now = bpf_ktime_get_ns();

	if (bpf_map_update_elem(&begun, &s, &now, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
	return 0;
}

static __always_inline int ends(__u64 of, __u64 number)
{
	struct stage s = { .of = of, .number = number };
	__u64 *began = bpf_map_lookup_elem(&begun, &s);
	__u64 took;

	if (!began) /* it was under way when the probe was attached */
		return 0;
	took = bpf_ktime_get_ns() - *began;
	bpf_map_delete_elem(&begun, &s);
	hist_add(number, took);
	return 0;
}

SEC("kprobe/hold")
int held(REGS *regs)
{
	return begins(SECOND(regs), bpf_get_attach_cookie(regs));
}

SEC("kprobe/release")
int released(REGS *regs)
{
	return ends(SECOND(regs), bpf_get_attach_cookie(regs));
}

SEC("kprobe/begin")
int stage_begins(REGS *regs)
{
	return begins(bpf_get_current_pid_tgid(), bpf_get_attach_cookie(regs));
}

SEC("kretprobe/end")
int stage_ends(REGS *regs)
{
	return ends(bpf_get_current_pid_tgid(), bpf_get_attach_cookie(regs));
}
