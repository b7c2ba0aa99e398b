// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Log-linear histograms, kept in the kernel and read by harness/probe (histogram.go has the
 * same arithmetic). The buckets are those of an HdrHistogram of one significant digit, so that
 * user space hands them on without loss:
 *
 *   v < 32        slot v, exact
 *   v >= 32       with e = floor(log2 v), slot 32 + 16 * (e - 5) + ((v >> (e - 4)) - 16):
 *                 16 slots an octave, each at most 1/16 (6.25 %) of its values wide
 *   v >= 2^41     the last slot; sum and max are still exact
 *
 * Slots and sums are exact: they are added to atomically. Series are elements of an array, by a
 * number that user space knows the meaning of: finding one takes no call, and the kernel's
 * memory is bounded. HIST_SERIES is how many there are. Of all of them there are some copies,
 * which user space adds up, so that processors do not take a cache line from each other at
 * each operation: one copy a processor, up to a number of processors that share one.
 */
#ifndef ZUMASTOR_BPF_HISTOGRAM_H
#define ZUMASTOR_BPF_HISTOGRAM_H

#define HIST_SLOTS 608

struct histogram {
	__u64 sum;
	__u64 max;
	__u64 slots[HIST_SLOTS];
};

/* Copies, a power of two, less one. Set by the loader, as is the map's size. */
const volatile __u32 last_copy = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HIST_SERIES);
	__type(key, __u32);
	__type(value, struct histogram);
} histograms SEC(".maps");

/* What could not be counted, for want of room in a map. */
__u64 lost = 0;

static __always_inline __u32 hist_log2(__u64 v)
{
	__u32 e = 0;

	if (v >> 32) { e += 32; v >>= 32; }
	if (v >> 16) { e += 16; v >>= 16; }
	if (v >> 8) { e += 8; v >>= 8; }
	if (v >> 4) { e += 4; v >>= 4; }
	if (v >> 2) { e += 2; v >>= 2; }
	return e + (v >> 1);
}

static __always_inline __u32 hist_slot(__u64 v)
{
	__u32 e;

	if (v < 32)
		return v;
	if (v >> 41)
		return HIST_SLOTS - 1;
	e = hist_log2(v);
	return 16 * (e - 4) + (v >> (e - 4));
}

static __always_inline void hist_add(__u32 series, __u64 v)
{
	__u32 at = (bpf_get_smp_processor_id() & last_copy) * HIST_SERIES + series;
	struct histogram *h = bpf_map_lookup_elem(&histograms, &at);
	__u64 slot;

	if (!h) /* no such series */
		return;
	slot = hist_slot(v);
	barrier_var(slot); /* what is checked is the register that is used: 6.1 wants that */
	if (slot >= HIST_SLOTS) /* never; the verifier wants it said */
		return;
	__sync_fetch_and_add(&h->slots[slot], 1);
	__sync_fetch_and_add(&h->sum, v);
	if (v > h->max) /* of two at once, the smaller may win: it is for the eye */
		h->max = v;
}

#endif
