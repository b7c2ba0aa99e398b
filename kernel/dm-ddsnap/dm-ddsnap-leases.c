// SPDX-License-Identifier: GPL-2.0
#include <linux/slab.h>

#include "dm-ddsnap.h"

#define DDS_LEASE_RUNS (2 * DDSNAP_MAX_RUNS)

int dds_leases_init(struct dds_leases *l)
{
	l->room = DDS_LEASE_RUNS;
	l->runs = kvcalloc(l->room, sizeof(*l->runs), GFP_KERNEL);
	return l->runs ? 0 : -ENOMEM;
}

void dds_leases_exit(struct dds_leases *l)
{
	kvfree(l->runs);
}

void dds_leases_clear(struct dds_leases *l)
{
	l->count = 0;
	l->total = 0;
	l->taken = 0;
}

int dds_leases_add(struct dds_leases *l, const void *body, u32 len, u64 limit)
{
	const struct ddsnap_runs *r = body;
	u64 first, slots;
	u32 n, i;

	if (len < sizeof(*r))
		return -EPROTO;
	n = le32_to_cpu(r->number);
	if (n > DDSNAP_MAX_RUNS || len != sizeof(*r) + n * sizeof(r->runs[0]) || n > l->room - l->count)
		return -EPROTO;
	for (i = 0; i < n; i++) {
		first = le64_to_cpu(r->runs[i].first);
		slots = le64_to_cpu(r->runs[i].slots);
		if (!slots || first >= limit || slots > limit - first)
			return -EPROTO;
		if (l->count && l->runs[l->count - 1].first + l->runs[l->count - 1].slots == first) {
			l->runs[l->count - 1].slots += slots;
		} else {
			l->runs[l->count].first = first;
			l->runs[l->count++].slots = slots;
		}
		l->total += slots;
	}
	return 0;
}

u64 dds_leases_free(const struct dds_leases *l)
{
	return l->total - min(l->total, 2 + l->taken);
}

u64 dds_leases_at(const struct dds_leases *l, u64 n)
{
	u32 i;

	for (i = 0; i < l->count; i++) {
		if (n < l->runs[i].slots)
			return l->runs[i].first + n;
		n -= l->runs[i].slots;
	}
	WARN_ON_ONCE(1);
	return 0;
}

void dds_leases_pass(struct dds_leases *l)
{
	u64 n = 1 + l->taken;
	u32 used = 0;

	l->total -= n;
	l->taken = 0;
	while (used < l->count && n >= l->runs[used].slots)
		n -= l->runs[used++].slots;
	l->count -= used;
	memmove(l->runs, l->runs + used, l->count * sizeof(*l->runs));
	if (n) {
		l->runs[0].first += n;
		l->runs[0].slots -= n;
	}
}
