// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The block layer: latency, size, distance and queue depth, by device and kind. A disk with
 * a queue of requests is seen from the issue of a request to its driver until its completion;
 * one without (device-mapper, md) from the queueing of a bio until its completion. So each
 * operation counts once a device. It runs twice an operation: so all is in arrays but the
 * numbers of devices, and operations under way are in a table of its own making.
 *
 * Needs Linux 5.15 (request_queue.disk) with BTF. Tracepoints with types need no
 * tracefs, and their fields are loaded without a call.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* harness/probe/block.go has the same. */
#define DEVICES 32
#define KINDS 8
#define METRICS 4
#define HIST_SERIES (DEVICES * KINDS * METRICS)
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
const volatile bool only_chosen = 0;   /* of all devices, those in numbers */
const volatile __u32 sample_every = 0; /* one of so many into the timeline; 0: none */

/* Devices that are looked at, numbered by the loader if it chose them, and as they come. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} numbers SEC(".maps");

__u32 numbered = 0;

struct device {
	__u64 end; /* sector after the operation issued last */
	__u64 in_flight;
	__u64 known; /* end is set */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

struct operation {
	__u64 began; /* ns, monotonic */
	__u64 sector;
	__u32 dev;
	__u32 number; /* of the device */
	__u32 bytes;
	__u32 kind;
	__u32 depth;
};

/*
 * Under way, by the address of request or bio: at one of the TRIES places from its hash on.
 * A place is taken by a compare and exchange of its owner, 0 for none.
 */
#define PLACES_SHIFT 14
#define PLACES (1 << PLACES_SHIFT)
#define TRIES 8
#define BUSY 1 /* owns a place while the operation in it is read */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct operation);
} under_way SEC(".maps");

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

static __always_inline __u32 dev_of(struct gendisk *disk)
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

/* Numbers the device. False: it is not wanted, or there is no number left. */
static __always_inline bool number(__u32 dev, __u32 *n)
{
	__u32 *known = bpf_map_lookup_elem(&numbers, &dev);

	if (!known && only_chosen)
		return 0;
	if (!known && numbered < DEVICES) {
		*n = __sync_fetch_and_add(&numbered, 1);
		if (*n < DEVICES)
			bpf_map_update_elem(&numbers, &dev, n, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&numbers, &dev);
	}
	if (!known) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	*n = *known;
	return 1;
}

static __always_inline void count(const struct operation *op, __u32 kind, __u32 metric, __u64 v)
{
	hist_add((op->number * KINDS + kind) * METRICS + metric, v);
}

/* Where the head would have to go, were there one. Two issued at once may see each other's. */
static __always_inline void count_distance(struct device *d, const struct operation *op)
{
	__u64 end = d->end;

	if (op->kind != KIND_READ && op->kind != KIND_WRITE && op->kind != KIND_FUA)
		return;
	if (d->known)
		count(op, KIND_ANY, METRIC_DISTANCE, op->sector > end ? op->sector - end : end - op->sector);
	d->end = op->sector + (op->bytes >> 9);
	d->known = 1;
}

/* By Fibonacci's hash of the address's low half: the verifier has no sums of whole ones. */
static __always_inline __u32 first_place(__u64 id)
{
	__u32 low = id;

	asm volatile("" : "+w"(low)); /* it is moved as 32 bits, not shifted */
	return low * 0x9e3779b1u >> (32 - PLACES_SHIFT);
}

/* Exchanges the owner, from one to another, at one of the places of id. PLACES: at none. */
static __always_inline __u32 exchange(__u64 id, __u64 from, __u64 to)
{
	__u32 first = first_place(id), at, i;
	__u64 *owner;

#pragma unroll
	for (i = 0; i < TRIES; i++) {
		at = (first + i) % PLACES;
		owner = bpf_map_lookup_elem(&owners, &at);
		if (owner && *owner == from && __sync_val_compare_and_swap(owner, from, to) == from)
			return at;
	}
	return PLACES;
}

static __always_inline void begin(__u64 id, struct operation *op)
{
	struct device *d = bpf_map_lookup_elem(&devices, &op->number);
	struct operation *place;
	bool again;
	__u32 at;

	if (!d)
		return;
	at = exchange(id, id, id);
	again = at < PLACES; /* it is timed from here */
	if (!again)
		at = exchange(id, 0, id);
	place = bpf_map_lookup_elem(&under_way, &at);
	if (!place) {
		__sync_fetch_and_add(&lost, 1);
		return;
	}
	op->depth = d->in_flight + !again;
	op->began = bpf_ktime_get_ns();
	*place = *op;
	if (again)
		return;
	__sync_fetch_and_add(&d->in_flight, 1);
	count(op, KIND_ANY, METRIC_DEPTH, op->depth);
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
	__u32 at = exchange(id, id, BUSY);
	struct operation *place = bpf_map_lookup_elem(&under_way, &at), op;
	__u64 *owner = bpf_map_lookup_elem(&owners, &at);
	struct device *d;
	__u64 took;

	if (!place || !owner) /* issued before the probe was there, or not wanted */
		return;
	op = *place;
	*owner = 0;
	took = bpf_ktime_get_ns() - op.began;
	count(&op, op.kind, METRIC_LATENCY, took);
	if (op.bytes) /* a flush has none */
		count(&op, op.kind, METRIC_SIZE, op.bytes);
	d = bpf_map_lookup_elem(&devices, &op.number);
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
	op.dev = dev_of(disk);
	if (!number(op.dev, &op.number))
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
	op.dev = dev_of(disk);
	if (!number(op.dev, &op.number))
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
	struct request_queue *q = (struct request_queue *)ctx[0];

	if (!q->mq_ops)
		end(ctx[1]);
	return 0;
}
