// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The threads of a process: how long each runs before it gives the processor up or is
 * preempted, and how long it waits for one when it could run. Sums are the process's time
 * on processors, and of waiting for them; counts are its context switches.
 *
 * Needs Linux 5.15 with BTF: tracepoints with types, whose fields are loaded without a call.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

/* harness/probe/process.go has the same. */
#define KINDS 3
#define METRICS 2
#define HIST_SERIES (KINDS * METRICS)
#include "histogram.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum kind {
	KIND_ANY,
	KIND_YIELDED,   /* it had to wait for something, or was done */
	KIND_PREEMPTED, /* another was to run */
};

enum metric {
	METRIC_RAN,    /* ns */
	METRIC_WAITED, /* ns */
};

/* Set by the loader before loading. */
const volatile __s32 process = 0;

struct times {
	__u64 running;  /* since then, or 0 */
	__u64 runnable; /* and waiting, since then, or 0 */
	__s32 thread;   /* whose they are */
};

/*
 * By the low bits of a thread's number: two that have them in common forget each other's
 * times, and count the less.
 */
#define THREADS 16384

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, THREADS);
	__type(key, __u32);
	__type(value, struct times);
} threads SEC(".maps");

static __always_inline struct times *times_of(struct task_struct *task)
{
	__s32 thread = task->pid;
	__u32 at = (__u32)thread % THREADS;
	struct times *t = bpf_map_lookup_elem(&threads, &at);

	if (t && t->thread != thread) {
		if (t->running || t->runnable)
			__sync_fetch_and_add(&lost, 1);
		t->running = 0;
		t->runnable = 0;
		t->thread = thread;
	}
	return t;
}

static __always_inline bool is_ours(struct task_struct *task)
{
	return task->tgid == process;
}

static __always_inline void stops(struct task_struct *task, bool preempted, __u64 now)
{
	struct times *t = times_of(task);

	if (!t)
		return;
	if (t->running)
		hist_add((preempted ? KIND_PREEMPTED : KIND_YIELDED) * METRICS + METRIC_RAN, now - t->running);
	t->running = 0;
	t->runnable = preempted ? now : 0;
}

static __always_inline void starts(struct task_struct *task, __u64 now)
{
	struct times *t = times_of(task);

	if (!t)
		return;
	if (t->runnable)
		hist_add(KIND_ANY * METRICS + METRIC_WAITED, now - t->runnable);
	t->running = now;
	t->runnable = 0;
}

SEC("tp_btf/sched_switch")
int switched(__u64 *ctx)
{
	struct task_struct *before = (struct task_struct *)ctx[1], *next = (struct task_struct *)ctx[2];
	__u64 now;

	if (!is_ours(before) && !is_ours(next))
		return 0;
	now = bpf_ktime_get_ns();
	if (is_ours(before))
		stops(before, ctx[0], now);
	if (is_ours(next))
		starts(next, now);
	return 0;
}

static __always_inline int becomes_runnable(struct task_struct *task)
{
	struct times *t;

	if (!is_ours(task))
		return 0;
	t = times_of(task);
	if (t && !t->running && !t->runnable)
		t->runnable = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_wakeup")
int woken(__u64 *ctx)
{
	return becomes_runnable((struct task_struct *)ctx[0]);
}

SEC("tp_btf/sched_wakeup_new")
int born(__u64 *ctx)
{
	return becomes_runnable((struct task_struct *)ctx[0]);
}
