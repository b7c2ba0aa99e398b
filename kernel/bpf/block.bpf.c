// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The block layer: latency, size, distance and queue depth, by device and kind. A disk with
 * a queue of requests is seen from the issue of a request to its driver until its completion;
 * one without (device-mapper, md) from the queueing of a bio until its completion. So each
 * operation counts once a device.
 *
 * Needs Linux 5.15 (request_queue.disk) with BTF. Tracepoints with types need no
 * tracefs, and their fields are loaded without a call.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "histogram.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Kinds and metrics: harness/probe/block.go has the same. */
enum kind {
	KIND_ANY,
	KIND_READ,
	KIND_WRITE,
	KIND_FUA,
	KIND_FLUSH,
	KIND_DISCARD,
	KIND_ZEROES,
	KIND_OTHER,
};

enum metric {
	METRIC_LATENCY,  /* ns */
	METRIC_SIZE,     /* bytes */
	METRIC_DISTANCE, /* sectors from the end of the operation before, of any kind; of KIND_ANY */
	METRIC_DEPTH,    /* operations in flight when one is issued, with it; of KIND_ANY */
};

/* Set by the loader before loading. */
const volatile bool only_chosen = 0; /* of all devices, those in chosen */
const volatile __u32 sample_every = 0;   /* one of so many into the timeline; 0: none */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u8);
} chosen SEC(".maps");

struct operation {
	__u64 began; /* ns, monotonic */
	__u64 sector;
	__u32 dev;
	__u32 bytes;
	__u32 kind;
	__u32 depth;
};

/* Under way, by the address of request or bio. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct operation);
} under_way SEC(".maps");

struct device {
	__u64 end; /* sector after the operation issued last */
	__u64 in_flight;
	__u64 known; /* end is set */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

struct event {
	__u64 began; /* ns, monotonic */
	__u64 took;  /* ns */
	__u64 sector;
	__u32 dev;
	__u32 bytes;
	__u32 kind;
	__u32 depth; /* when it was issued, with it */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} timeline SEC(".maps");

/* Puts the type into BTF, from which Go's is made. */
const struct event *unused_event __attribute__((unused));

static __always_inline bool wanted(__u32 dev)
{
	return !only_chosen || bpf_map_lookup_elem(&chosen, &dev);
}

static __always_inline __u32 number_of(struct gendisk *disk)
{
	return (__u32)disk->major << 20 | disk->first_minor;
}

static __always_inline bool has_flag(__u32 flags, __u32 bit)
{
	return flags >> bit & 1;
}

static __always_inline __u32 kind_of(__u32 flags, __u32 bytes)
{
	switch (flags & REQ_OP_MASK) {
	case REQ_OP_READ:
		return KIND_READ;
	case REQ_OP_WRITE:
		if (!bytes && has_flag(flags, bpf_core_enum_value(enum req_flag_bits, __REQ_PREFLUSH)))
			return KIND_FLUSH;
		return has_flag(flags, bpf_core_enum_value(enum req_flag_bits, __REQ_FUA)) ? KIND_FUA : KIND_WRITE;
	case REQ_OP_FLUSH:
		return KIND_FLUSH;
	case REQ_OP_DISCARD:
	case REQ_OP_SECURE_ERASE:
		return KIND_DISCARD;
	case REQ_OP_WRITE_ZEROES:
		return KIND_ZEROES;
	}
	return KIND_OTHER;
}

static __always_inline struct device *device_of(__u32 dev)
{
	struct device fresh = {}, *d = bpf_map_lookup_elem(&devices, &dev);

	if (d)
		return d;
	bpf_map_update_elem(&devices, &dev, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&devices, &dev);
}

/* Where the head would have to go, were there one. Two issued at once may see each other's. */
static __always_inline void count_distance(struct device *d, const struct operation *op)
{
	__u64 end = d->end;

	if (op->kind != KIND_READ && op->kind != KIND_WRITE && op->kind != KIND_FUA)
		return;
	if (d->known)
		hist_add(op->dev, KIND_ANY, METRIC_DISTANCE, op->sector > end ? op->sector - end : end - op->sector);
	d->end = op->sector + (op->bytes >> 9);
	d->known = 1;
}

static __always_inline void begin(__u64 id, struct operation *op)
{
	struct device *d = device_of(op->dev);
	long err;

	if (!d) {
		__sync_fetch_and_add(&lost, 1);
		return;
	}
	op->began = bpf_ktime_get_ns();
	op->depth = d->in_flight + 1;
	err = bpf_map_update_elem(&under_way, &id, op, BPF_NOEXIST);
	if (err == -EEXIST) { /* issued again: it is timed from here */
		bpf_map_update_elem(&under_way, &id, op, BPF_ANY);
		return;
	}
	if (err) {
		__sync_fetch_and_add(&lost, 1);
		return;
	}
	__sync_fetch_and_add(&d->in_flight, 1);
	hist_add(op->dev, KIND_ANY, METRIC_DEPTH, op->depth);
	count_distance(d, op);
}

static __always_inline void sample(const struct operation *op, __u64 took)
{
	struct event *e;

	if (!sample_every || bpf_get_prandom_u32() % sample_every)
		return;
	e = bpf_ringbuf_reserve(&timeline, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&lost, 1);
		return;
	}
	e->began = op->began;
	e->took = took;
	e->sector = op->sector;
	e->dev = op->dev;
	e->bytes = op->bytes;
	e->kind = op->kind;
	e->depth = op->depth;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline void end(__u64 id)
{
	struct operation *found = bpf_map_lookup_elem(&under_way, &id), op;
	struct device *d;
	__u64 took;

	if (!found) /* issued before the probe was there, or not wanted */
		return;
	op = *found;
	if (bpf_map_delete_elem(&under_way, &id))
		return; /* another processor ended it */
	took = bpf_ktime_get_ns() - op.began;
	hist_add(op.dev, op.kind, METRIC_LATENCY, took);
	if (op.bytes) /* a flush has none */
		hist_add(op.dev, op.kind, METRIC_SIZE, op.bytes);
	d = bpf_map_lookup_elem(&devices, &op.dev);
	if (d)
		__sync_fetch_and_add(&d->in_flight, -1);
	sample(&op, took);
}

SEC("tp_btf/block_rq_issue")
int request_issued(__u64 *ctx)
{
	struct request *rq = (struct request *)ctx[0];
	struct gendisk *disk = rq->q->disk;
	struct operation op = {};

	if (!disk) /* a command to the driver itself */
		return 0;
	op.dev = number_of(disk);
	if (!wanted(op.dev))
		return 0;
	op.sector = rq->__sector;
	op.bytes = rq->__data_len;
	op.kind = kind_of(rq->cmd_flags, op.bytes);
	begin((__u64)rq, &op);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int request_completed(__u64 *ctx)
{
	struct request *rq = (struct request *)ctx[0];
	__u32 done = ctx[2];

	if (done < rq->__data_len) /* a part; the rest follows */
		return 0;
	end((__u64)rq);
	return 0;
}

SEC("tp_btf/block_bio_queue")
int bio_queued(__u64 *ctx)
{
	struct bio *bio = (struct bio *)ctx[0];
	struct gendisk *disk = bio->bi_bdev->bd_disk;
	struct operation op = {};

	if (!disk || disk->queue->mq_ops) /* its requests are seen */
		return 0;
	op.dev = number_of(disk);
	if (!wanted(op.dev))
		return 0;
	op.sector = bio->bi_iter.bi_sector;
	op.bytes = bio->bi_iter.bi_size;
	op.kind = kind_of(bio->bi_opf, op.bytes);
	begin((__u64)bio, &op);
	return 0;
}

SEC("tp_btf/block_bio_complete")
int bio_completed(__u64 *ctx)
{
	end(ctx[1]);
	return 0;
}
