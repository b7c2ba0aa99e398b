// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The stages of the server and of volumes in user space: how long each takes, and of how
 * much. Uprobes on the functions of engine/mark, which do nothing else; the cookie says
 * which stage. Begin and end of a stage are in one goroutine, whatever thread it is on then:
 * Go keeps its address in a register, and hands the first argument over in another (its
 * "internal ABI", the same since Go 1.17; 1.18 on arm64). Never uretprobes: they write to the
 * stack, which Go moves.
 *
 * Needs Linux 5.15 (cookies).
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

/* harness/probe/stage.go has the same. */
#define STAGES 11
#define METRICS 2
#define HIST_SERIES (STAGES * METRICS)
#include "histogram.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#if defined(__TARGET_ARCH_x86)
#define GOROUTINE(regs) ((regs)->r14)
#define ARGUMENT(regs) ((regs)->ax)
#define REGS struct pt_regs
#elif defined(__TARGET_ARCH_arm64)
#define GOROUTINE(regs) ((regs)->regs[28])
#define ARGUMENT(regs) ((regs)->regs[0])
#define REGS struct user_pt_regs
#endif

enum metric {
	METRIC_LATENCY, /* ns */
	METRIC_AMOUNT,  /* of bytes, chunks or pages, as the stage has it */
};

struct stage {
	__u64 goroutine;
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH); /* one whose end is never reached makes room */
	__uint(max_entries, 8192);
	__type(key, struct stage);
	__type(value, __u64);
} begun SEC(".maps");

SEC("uprobe/begin")
int stage_begins(REGS *regs)
{
	struct stage s = { .goroutine = GOROUTINE(regs), .number = bpf_get_attach_cookie(regs) };
	__u64 now = bpf_ktime_get_ns();

	if (bpf_map_update_elem(&begun, &s, &now, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
	else
		hist_add(s.number * METRICS + METRIC_AMOUNT, ARGUMENT(regs));
	return 0;
}

SEC("uprobe/end")
int stage_ends(REGS *regs)
{
	struct stage s = { .goroutine = GOROUTINE(regs), .number = bpf_get_attach_cookie(regs) };
	__u64 *began = bpf_map_lookup_elem(&begun, &s);
	__u64 took;

	if (!began) /* it was under way when the probe was attached */
		return 0;
	took = bpf_ktime_get_ns() - *began;
	bpf_map_delete_elem(&begun, &s);
	hist_add(s.number * METRICS + METRIC_LATENCY, took);
	return 0;
}
