// SPDX-License-Identifier: GPL-2.0
/*
 * Batches of copy-outs, as FORMAT.md has them: a descriptor, which ends its slot, and
 * chunks, which follow it where their slots are its neighbours; then that is one write.
 * All memory is allocated beforehand.
 */
#include <linux/crc32.h>
#include <linux/crc32c.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/xxhash.h>

#include "dm-ddsnap.h"

#define DESC_PAGE	4096u
#define DESC_FIRST	(DESC_PAGE - (u32)sizeof(struct ddsnap_record))
#define READ_BYTES	(1u << 20)	/* of one read, so that long runs keep several under way */

static inline u32 chunk_size(const struct dds_batch *b)
{
	return 1u << b->chunk_shift;
}

static u8 *batch_chunk(struct dds_batch *b, u32 i)
{
	return b->buffer + ((size_t)(i + 1) << b->chunk_shift);
}

static u32 max_body(u32 chunks)
{
	return sizeof(struct ddsnap_batch) + chunks * (sizeof(struct ddsnap_batch_run) + sizeof(__le32));
}

struct dds_batch *dds_batch_new(u32 chunks, u32 chunk_shift)
{
	struct dds_batch *b = kzalloc(sizeof(*b), GFP_KERNEL);

	if (!b)
		return NULL;
	b->room = chunks;
	b->chunk_shift = chunk_shift;
	INIT_LIST_HEAD(&b->bios);
	init_completion(&b->done);
	b->copies = kvcalloc(chunks, sizeof(*b->copies), GFP_KERNEL);
	b->regions = kvcalloc(chunks + 1, sizeof(*b->regions), GFP_KERNEL);
	b->record = kvmalloc(max(max_body(chunks), DDS_RECORD_MIN), GFP_KERNEL);
	b->buffer = vmalloc((size_t)(chunks + 1) << chunk_shift);
	if (b->copies && b->regions && b->record && b->buffer)
		return b;
	dds_batch_free(b);
	return NULL;
}

void dds_batch_free(struct dds_batch *b)
{
	if (!b)
		return;
	kvfree(b->copies);
	kvfree(b->regions);
	kvfree(b->record);
	vfree(b->buffer);
	kfree(b);
}

void dds_batch_reset(struct dds_batch *b, u64 generation)
{
	b->count = 0;
	b->generation = generation;
	b->cost = max_body(0);
	b->error = 0;
}

static bool goes_on(const struct dds_copy *a, u64 chunk, u64 slot)
{
	return a->chunk + 1 == chunk && a->slot + 1 == slot;
}

bool dds_batch_add(struct dds_batch *b, u64 chunk, u64 slot)
{
	u32 cost = sizeof(__le32);

	if (!b->count || !goes_on(&b->copies[b->count - 1], chunk, slot))
		cost += sizeof(struct ddsnap_batch_run);
	if (b->count == b->room || b->cost + cost > chunk_size(b) - sizeof(struct ddsnap_record))
		return false;
	b->cost += cost;
	b->copies[b->count].chunk = chunk;
	b->copies[b->count++].slot = slot;
	return true;
}

bool dds_batch_has(const struct dds_batch *b, u64 chunk)
{
	u32 lo = 0, hi = b->count, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (b->copies[mid].chunk < chunk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < b->count && b->copies[lo].chunk == chunk;
}

/* ---- sums --------------------------------------------------------------------- */

#define SUM_LANES	4
#define SUM_FIRST	2u	/* the byte at which the first word begins */
#define SUM_BLOCK	64u	/* bytes at a time */

/* Deals the words of whole blocks out to the CRCs. */
static void sum_update(u32 crc[SUM_LANES], const u8 *p, u32 len)
{
	const u8 *end = p + len;
	u32 i;

#ifdef CONFIG_X86_64
	if (boot_cpu_has(X86_FEATURE_XMM4_2)) {
		u64 a = crc[0], b = crc[1], c = crc[2], d = crc[3];

		for (; p < end; p += SUM_BLOCK)
			asm("crc32q 0x00(%[p]), %[a]\n\t"
			    "crc32q 0x08(%[p]), %[b]\n\t"
			    "crc32q 0x10(%[p]), %[c]\n\t"
			    "crc32q 0x18(%[p]), %[d]\n\t"
			    "crc32q 0x20(%[p]), %[a]\n\t"
			    "crc32q 0x28(%[p]), %[b]\n\t"
			    "crc32q 0x30(%[p]), %[c]\n\t"
			    "crc32q 0x38(%[p]), %[d]"
			    : [a] "+r" (a), [b] "+r" (b), [c] "+r" (c), [d] "+r" (d)
			    : [p] "r" (p), "m" (*(const u8 (*)[SUM_BLOCK])p));
		crc[0] = a;
		crc[1] = b;
		crc[2] = c;
		crc[3] = d;
		return;
	}
#endif
	for (i = 0; p < end; p += sizeof(u64), i++)
		crc[i % SUM_LANES] = __crc32c_le(crc[i % SUM_LANES], p, sizeof(u64));
}

/* The sum of a chunk: XXH64 of four CRCs (FORMAT.md). */
static u32 chunk_sum(const u8 *chunk, u32 size)
{
	u32 crc[SUM_LANES] = { ~0u, ~0u, ~0u, ~0u }, i;
	__le32 sums[SUM_LANES];
	u8 last[SUM_BLOCK];

	memcpy(last, chunk + size - SUM_BLOCK + SUM_FIRST, SUM_BLOCK - SUM_FIRST);
	memcpy(last + SUM_BLOCK - SUM_FIRST, chunk, SUM_FIRST);
	sum_update(crc, chunk + SUM_FIRST, size - SUM_BLOCK);
	sum_update(crc, last, SUM_BLOCK);
	for (i = 0; i < SUM_LANES; i++)
		sums[i] = cpu_to_le32(~crc[i]);
	return xxh64(sums, sizeof(sums), 0);
}

/* ---- I/O ---------------------------------------------------------------------- */

static void batch_io_done(unsigned long error, void *context)
{
	struct dds_batch *b = context;

	if (error)
		WRITE_ONCE(b->error, error);
	if (atomic_dec_and_test(&b->pending))
		complete(&b->done);
}

static void batch_io(struct dds_batch *b, struct dm_io_client *io, blk_opf_t opf,
		     struct dm_io_region *region, void *data)
{
	struct dm_io_request req = {
		.bi_opf = opf, .mem.type = DM_IO_VMA, .mem.ptr.vma = data,
		.notify.fn = batch_io_done, .notify.context = b, .client = io,
	};
	int err;

	atomic_inc(&b->pending);
	err = dm_io(&req, 1, region, NULL, IOPRIO_DEFAULT);
	if (err)
		batch_io_done(1, b);
}

static void batch_begin_io(struct dds_batch *b)
{
	reinit_completion(&b->done);
	b->error = 0;
	atomic_set(&b->pending, 1);
}

static int batch_end_io(struct dds_batch *b)
{
	batch_io_done(0, b);
	wait_for_completion_io(&b->done);
	return b->error ? -EIO : 0;
}

noinline int dds_batch_read(struct dds_batch *b, struct dm_io_client *io, struct block_device *origin, sector_t size)
{
	u32 shift = b->chunk_shift - SECTOR_SHIFT, i, n;
	struct dm_io_region *r;
	struct blk_plug plug;
	sector_t end;
	int err;

	batch_begin_io(b);
	blk_start_plug(&plug);
	for (i = 0; i < b->count; i += n) {
		for (n = 1; i + n < b->count && b->copies[i + n].chunk == b->copies[i].chunk + n &&
		     (n + 1) << b->chunk_shift <= READ_BYTES; n++)
			;
		r = &b->regions[i];
		r->bdev = origin;
		r->sector = b->copies[i].chunk << shift;
		end = min_t(sector_t, size, (b->copies[i].chunk + n) << shift);
		r->count = end - r->sector;
		if (r->count < (sector_t)n << shift)	/* the last chunk is not a whole one */
			memset(batch_chunk(b, i) + (r->count << SECTOR_SHIFT), 0,
			       ((size_t)n << b->chunk_shift) - (r->count << SECTOR_SHIFT));
		batch_io(b, io, REQ_OP_READ, r, batch_chunk(b, i));
	}
	blk_finish_plug(&plug);
	err = batch_end_io(b);
	if (err)
		return err;
	for (i = 0; i < b->count; i++)
		b->copies[i].sum = chunk_sum(batch_chunk(b, i), chunk_size(b));
	return 0;
}

static int batch_read_page(struct dds_batch *b, struct dm_io_client *io, struct block_device *origin,
			   sector_t sector, sector_t end, void *data)
{
	struct dm_io_region r = {
		.bdev = origin, .sector = sector, .count = min_t(sector_t, end - sector, PAGE_SECTORS),
	};

	batch_begin_io(b);
	batch_io(b, io, REQ_OP_READ, &r, data);
	return batch_end_io(b);
}

int dds_batch_read_again(struct dds_batch *b, struct dm_io_client *io, struct block_device *origin, sector_t size)
{
	sector_t first = b->copies[0].chunk << (b->chunk_shift - SECTOR_SHIFT);
	sector_t end = min_t(sector_t, size, first + (chunk_size(b) >> SECTOR_SHIFT)), at;
	sector_t last = size - min_t(sector_t, size, PAGE_SECTORS);
	sector_t elsewhere[] = { 0, round_down(last / 2, PAGE_SECTORS), last };
	int err = 0, i;

	for (at = first; at < end && !err; at += PAGE_SECTORS)
		err = batch_read_page(b, io, origin, at, end, batch_chunk(b, 0) + ((at - first) << SECTOR_SHIFT));
	if (!err)
		b->copies[0].sum = chunk_sum(batch_chunk(b, 0), chunk_size(b));
	for (i = 0; i < ARRAY_SIZE(elsewhere) && err == -EIO; i++)
		if (!batch_read_page(b, io, origin, elsewhere[i], size, batch_chunk(b, 0)))
			err = -ENODATA;
	return err;
}

void dds_batch_lose(struct dds_batch *b)
{
	b->copies[0].slot = DDSNAP_LOST_SLOT;
	b->copies[0].sum = 0;
}

u32 dds_code_batch(struct ddsnap_batch *body, const struct dds_copy *copies, u32 count, u64 generation)
{
	struct ddsnap_batch_run *run = body->run - 1;
	__le32 *sums;
	u32 i;

	for (i = 0; i < count; i++) {
		if (!i || !goes_on(&copies[i - 1], copies[i].chunk, copies[i].slot)) {
			run++;
			run->chunk = cpu_to_le64(copies[i].chunk);
			run->slot = cpu_to_le64(copies[i].slot);
			run->length = 0;
			run->zero = 0;
		}
		le32_add_cpu(&run->length, 1);
	}
	body->generation = cpu_to_le64(generation);
	body->branch = 0;
	body->runs = cpu_to_le32(run + 1 - body->run);
	body->chunks = cpu_to_le32(count);
	sums = (__le32 *)(run + 1);
	for (i = 0; i < count; i++)
		sums[i] = cpu_to_le32(copies[i].sum);
	return (u8 *)(sums + count) - (u8 *)body;
}

u32 dds_batch_code_slots(const struct dds_batch *b, struct ddsnap_runs *to)
{
	u64 end = b->head + 1;
	u32 i, runs = 0;

	to->runs[0].first = cpu_to_le64(b->head);
	to->runs[0].slots = cpu_to_le64(1);
	for (i = 0; i < b->count; i++) {
		if (b->copies[i].slot == DDSNAP_LOST_SLOT)
			break;
		if (b->copies[i].slot != end) {
			if (runs + 1 == DDSNAP_MAX_RUNS)
				break;
			runs++;
			to->runs[runs].first = cpu_to_le64(b->copies[i].slot);
			to->runs[runs].slots = 0;
		}
		le64_add_cpu(&to->runs[runs].slots, 1);
		end = b->copies[i].slot + 1;
	}
	to->number = cpu_to_le32(runs + 1);
	to->zero = 0;
	return sizeof(*to) + (runs + 1) * sizeof(to->runs[0]);
}

/* Puts the descriptor before the first chunk. Returns how many bytes it takes. */
static u32 batch_describe(struct dds_batch *b, const u8 *uuid, u64 epoch)
{
	u32 rest = b->record_len - min(b->record_len, DESC_FIRST);
	u32 len = DESC_PAGE + round_up(rest, DESC_PAGE);
	u8 *desc = b->buffer + chunk_size(b) - len;
	struct ddsnap_record *h = (void *)(desc + len - DESC_PAGE);
	u32 crc;

	memset(desc, 0, len);
	h->magic = cpu_to_le32(DDSNAP_RECORD_MAGIC);
	h->version = cpu_to_le16(1);
	h->kind = DDSNAP_RECORD_BATCH;
	h->length = cpu_to_le32(b->record_len);
	memcpy(h->uuid, uuid, sizeof(h->uuid));
	h->epoch = cpu_to_le64(epoch);
	h->seq = cpu_to_le64(b->seq);
	h->durable = cpu_to_le64(b->seq - 1);
	h->next = cpu_to_le64(b->next);
	crc = crc32c(~0, h, sizeof(*h));
	h->crc = cpu_to_le32(~crc32c(crc, b->record, b->record_len));
	memcpy(h + 1, b->record, b->record_len - rest);
	memcpy(desc, b->record + b->record_len - rest, rest);
	return len;
}

/* How the batch is made durable: by the write itself if it is one. */
static bool batch_fua(const struct dds_batch *b, const struct dds_area *a)
{
	return bdev_fua(a->bdev) && b->copies[0].slot == b->head + 1 &&
	       b->copies[b->count - 1].slot == b->head + b->count;
}

void dds_batch_write(struct dds_batch *b, struct dm_io_client *io, const struct dds_area *a,
		     const u8 *uuid, u64 epoch)
{
	u32 shift = a->chunk_shift - SECTOR_SHIFT, i, n, len;
	struct dm_io_region *r = b->regions;
	blk_opf_t opf = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;	/* writes wait for it: no background work */
	struct blk_plug plug;

	b->record_len = dds_code_batch((void *)b->record, b->copies, b->count, b->generation);
	len = batch_describe(b, uuid, epoch);
	if (batch_fua(b, a))
		opf |= REQ_FUA;
	batch_begin_io(b);
	for (n = 0; n < b->count && b->copies[n].slot == b->head + 1 + n; n++)
		;
	r->bdev = a->bdev;
	r->sector = dds_slot_sector(a, b->head + 1) - (len >> SECTOR_SHIFT);
	r->count = (len >> SECTOR_SHIFT) + ((sector_t)n << shift);
	blk_start_plug(&plug);
	batch_io(b, io, opf, r, b->buffer + chunk_size(b) - len);
	for (i = n; i < b->count && b->copies[i].slot != DDSNAP_LOST_SLOT; i += n) {
		for (n = 1; i + n < b->count && b->copies[i + n].slot == b->copies[i].slot + n; n++)
			;
		r = &b->regions[i + 1];
		r->bdev = a->bdev;
		r->sector = dds_slot_sector(a, b->copies[i].slot);
		r->count = (sector_t)n << shift;
		batch_io(b, io, opf, r, batch_chunk(b, i));
	}
	blk_finish_plug(&plug);
}

noinline int dds_batch_wait(struct dds_batch *b)
{
	return batch_end_io(b);
}

noinline int dds_batch_flush(const struct dds_batch *b, const struct dds_area *a)
{
	return batch_fua(b, a) ? 0 : blkdev_issue_flush(a->bdev);
}
