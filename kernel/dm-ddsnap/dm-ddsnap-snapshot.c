// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots. Where chunks are is remembered: those in slots until the server begins to
 * change that, and, if the origin is here too, those that are shared with the origin
 * until the origin's copier has them copied out. Requests for chunks of which that is
 * known are remapped in the map function. All others are served by one work item a
 * snapshot, which asks the server.
 *
 * A read of a shared chunk goes to the origin, and counts only if the chunk is known to
 * be shared still when the read has ended: the origin is overwritten only after the
 * copier has said so (dds_snapshots_copied).
 */
#include <linux/bvec.h>
#include <linux/highmem.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#include "dm-ddsnap.h"

#define RETRY_MS	20
#define LEASE_BYTES	(16u << 20)
#define REPLY_BYTES	(sizeof(struct ddsnap_mappings) + DDS_MAP_AHEAD * sizeof(struct ddsnap_mapping))

/* ---- what is known ------------------------------------------------------------- */

static inline struct dds_known *known_at(struct dds_snapshot *v, u64 chunk)
{
	return &v->known[chunk & ((1u << DDS_KNOWN_BITS) - 1)];
}

static inline u32 sectors_shift(const struct dds_snapshot *v)
{
	return v->chunk_shift - SECTOR_SHIFT;
}

/* Looks a chunk up. The lock is held. */
static bool known_get(struct dds_snapshot *v, u64 chunk, struct dds_known *k)
{
	*k = *known_at(v, chunk);
	return k->chunk1 == chunk + 1;
}

/* How many chunks from the first on, up to last, lie as k does. The lock is held. */
static u32 known_run(struct dds_snapshot *v, u64 chunk, u64 last, const struct dds_known *k)
{
	struct dds_known next;
	u32 n = 1;

	while (chunk + n <= last && known_get(v, chunk + n, &next) && next.kind == k->kind && next.owned == k->owned &&
	       (k->kind != DDSNAP_STORED || next.slot == k->slot + n))
		n++;
	return n;
}

static void known_forget(struct dds_snapshot *v)
{
	memset(v->known, 0, sizeof(*v->known) << DDS_KNOWN_BITS);
	if (v->asking)
		bitmap_fill(v->stale, DDS_MAP_AHEAD);
}

void dds_snapshots_copied(struct dds_store *s, const struct dds_batch *b)
{
	struct dds_snapshot *v;
	struct dds_known *k;
	unsigned long flags;
	u64 chunk;
	u32 i;

	spin_lock_irqsave(&s->lock, flags);
	list_for_each_entry(v, &s->readers, reader) {
		spin_lock(&v->lock);
		for (i = 0; i < b->count; i++) {
			chunk = b->copies[i].chunk;
			k = known_at(v, chunk);
			if (k->chunk1 == chunk + 1 && k->kind == DDSNAP_SHARED)
				k->chunk1 = 0;
			if (v->asking && chunk >= v->asked_first && chunk - v->asked_first < DDS_MAP_AHEAD)
				set_bit(chunk - v->asked_first, v->stale);
		}
		spin_unlock(&v->lock);
	}
	spin_unlock_irqrestore(&s->lock, flags);
}

/* ---- the map function ----------------------------------------------------------- */

static void snapshot_queue(struct dds_snapshot *v)
{
	queue_work(v->store->io_wq, &v->work);
}

static void snapshot_hold(struct dds_snapshot *v, struct dds_io *io)
{
	unsigned long flags;
	bool back;

	spin_lock_irqsave(&v->lock, flags);
	back = v->push_back;
	if (!back)
		list_add_tail(&io->node, &v->held);
	spin_unlock_irqrestore(&v->lock, flags);
	if (back) {
		dds_bio(io)->bi_status = BLK_STS_DM_REQUEUE;
		bio_endio(dds_bio(io));
		return;
	}
	snapshot_queue(v);
}

/* Points a bio at where its chunk is. */
static void snapshot_point(struct dds_snapshot *v, struct bio *bio, u64 chunk, const struct dds_known *k)
{
	struct dds_io *io = dds_io(bio);

	if (k->kind == DDSNAP_SHARED) {
		io->flags |= DDS_IO_SHARED;
		bio_set_dev(bio, v->origin_dev);
		return;
	}
	bio->bi_iter.bi_sector = dds_slot_sector(&v->area, k->slot) +
				 (bio->bi_iter.bi_sector - (chunk << sectors_shift(v)));
	bio_set_dev(bio, v->area.bdev);
}

/* Whether the map function may send the bio where the chunk is. The lock is held. */
static bool snapshot_may(struct dds_snapshot *v, struct bio *bio, const struct dds_known *k)
{
	if (bio_op(bio) == REQ_OP_READ)
		return k->kind != DDSNAP_LOST;
	return k->owned && v->state & DDSNAP_STATE_WRITABLE && !(bio->bi_opf & REQ_FUA);
}

int dds_snapshot_map(struct dds_snapshot *v, struct bio *bio)
{
	struct dds_io *io = dds_io(bio);
	struct dds_known k;
	unsigned long flags;
	sector_t end;
	bool may;
	u64 last;

	io->flags = 0;
	io->iter = bio->bi_iter;
	io->chunk = bio->bi_iter.bi_sector >> sectors_shift(v);
	if (READ_ONCE(v->state) & DDSNAP_STATE_SQUASHED)
		return DM_MAPIO_KILL;
	if (bio_op(bio) != REQ_OP_READ && !v->write)
		return DM_MAPIO_KILL;
	if (!bio_sectors(bio))
		goto hold;
	if (percpu_ref_tryget_live(&v->ios)) {
		last = (bio_end_sector(bio) - 1) >> sectors_shift(v);
		spin_lock_irqsave(&v->lock, flags);
		may = known_get(v, io->chunk, &k) && snapshot_may(v, bio, &k);
		if (may)
			io->chunks = known_run(v, io->chunk, last, &k);
		spin_unlock_irqrestore(&v->lock, flags);
		if (may) {
			io->flags = DDS_IO_COUNTED;
			end = (io->chunk + io->chunks) << sectors_shift(v);
			if (end < bio_end_sector(bio))
				dm_accept_partial_bio(bio, end - bio->bi_iter.bi_sector);
			io->iter = bio->bi_iter;
			snapshot_point(v, bio, io->chunk, &k);
			return DM_MAPIO_REMAPPED;
		}
		percpu_ref_put(&v->ios);
	}
	if (bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	end = (io->chunk + 1) << sectors_shift(v);
	if (end < bio_end_sector(bio))
		dm_accept_partial_bio(bio, end - bio->bi_iter.bi_sector);
	io->iter = bio->bi_iter;
	io->chunks = 1;
hold:
	snapshot_hold(v, io);
	return DM_MAPIO_SUBMITTED;
}

/* Whether all chunks that the bio has read from the origin are known to be shared still. */
static bool still_shared(struct dds_snapshot *v, const struct dds_io *io)
{
	struct dds_known k;
	unsigned long flags;
	bool shared = true;
	u32 i;

	spin_lock_irqsave(&v->lock, flags);
	for (i = 0; i < io->chunks && shared; i++)
		shared = known_get(v, io->chunk + i, &k) && k.kind == DDSNAP_SHARED;
	spin_unlock_irqrestore(&v->lock, flags);
	return shared;
}

int dds_snapshot_end_io(struct dds_snapshot *v, struct bio *bio, blk_status_t *error)
{
	struct dds_io *io = dds_io(bio);
	bool again = false;

	if (io->flags & DDS_IO_SHARED && !*error)
		again = !still_shared(v, io);
	if (!again) {
		if (io->flags & DDS_IO_COUNTED) {
			io->flags = 0;
			percpu_ref_put(&v->ios);
		}
		return DM_ENDIO_DONE;
	}
	/* The reference is kept until the work has taken it over. */
	io->flags |= DDS_IO_VERIFY;
	bio->bi_status = 0;
	snapshot_hold(v, io);
	return DM_ENDIO_INCOMPLETE;
}

/* ---- asking the server ----------------------------------------------------------- */

/* The mapping that covers the chunk, of a reply for chunks from first on. */
static int find_mapping(const void *reply, u32 len, u64 first, u64 end, u64 slots, u64 chunk, struct dds_known *k)
{
	const struct ddsnap_mappings *m = reply;
	u64 at = first, from, n, slot;
	u32 i, number;
	bool found = false;

	if (len < sizeof(*m))
		return -EPROTO;
	number = le32_to_cpu(m->number);
	if (number > DDS_MAP_AHEAD || len != sizeof(*m) + number * sizeof(m->mappings[0]))
		return -EPROTO;
	for (i = 0; i < number; i++) {
		from = le64_to_cpu(m->mappings[i].chunk);
		n = le64_to_cpu(m->mappings[i].chunks);
		slot = le64_to_cpu(m->mappings[i].slot);
		if (from != at || !n || n > end - at || m->mappings[i].kind > DDSNAP_LOST || m->mappings[i].owned > 1)
			return -EPROTO;
		if (m->mappings[i].kind == DDSNAP_STORED && (slot >= slots || n > slots - slot))
			return -EPROTO;
		at += n;
		if (chunk >= from && chunk < at) {
			k->chunk1 = chunk + 1;
			k->kind = m->mappings[i].kind;
			k->owned = m->mappings[i].owned;
			k->slot = slot + (chunk - from);
			found = true;
		}
	}
	return at == end && found ? 0 : -EPROTO;
}

/* Whether the origin's copier is here, and says when shared chunks no longer are. */
static bool origin_is_here(struct dds_snapshot *v)
{
	struct dds_origin *o;
	bool here;

	spin_lock_irq(&v->store->lock);
	o = v->store->origin;
	here = o && READ_ONCE(o->mode) == DDS_LIVE;
	spin_unlock_irq(&v->store->lock);
	return here;
}

/*
 * Asks where the chunk is, and those after it, and remembers what may be. Returns 0,
 * an enum ddsnap_code, -ENOTCONN or -EPROTO. There is one question at a time.
 */
static int snapshot_ask(struct dds_snapshot *v, u64 chunk, struct dds_known *k)
{
	u64 end = min(chunk + DDS_MAP_AHEAD, DIV_ROUND_UP_ULL(v->size, 1ull << v->chunk_shift)), c;
	struct ddsnap_handle_range q = { cpu_to_le64(v->handle), { cpu_to_le64(chunk), cpu_to_le64(end) } };
	bool here = origin_is_here(v);
	struct dds_known one;
	u32 len;
	int err;

	if (chunk >= end)
		return DDSNAP_E_GEOMETRY;
	spin_lock_irq(&v->lock);
	v->asked_first = chunk;
	v->asking = true;
	bitmap_zero(v->stale, DDS_MAP_AHEAD);
	spin_unlock_irq(&v->lock);
	atomic64_inc(&v->upcalls);
	err = dds_ask_wait(v->store, DDSNAP_MAP, &q, sizeof(q), v->reply, REPLY_BYTES, &len);
	if (!err)
		err = find_mapping(v->reply, len, chunk, end, v->area.slots, chunk, k);
	spin_lock_irq(&v->lock);
	for (c = chunk; !err && c < end; c++) {
		find_mapping(v->reply, len, chunk, end, v->area.slots, c, &one);
		if (one.kind == DDSNAP_SHARED ? here && !test_bit(c - chunk, v->stale) :
		    v->open && v->state & DDSNAP_STATE_REMEMBER)
			*known_at(v, c) = one;
	}
	v->asking = false;
	spin_unlock_irq(&v->lock);
	return err;
}

/* Where the chunk is: from memory if that knows it. */
static int snapshot_find(struct dds_snapshot *v, u64 chunk, struct dds_known *k)
{
	bool known;

	spin_lock_irq(&v->lock);
	known = known_get(v, chunk, k);
	spin_unlock_irq(&v->lock);
	return known ? 0 : snapshot_ask(v, chunk, k);
}

/* ---- writing ---------------------------------------------------------------------- */

/* Reads or writes the buffer, a chunk. */
static int snapshot_io(struct dds_snapshot *v, blk_opf_t opf, struct block_device *bdev, sector_t sector, sector_t count)
{
	struct dm_io_region r = { .bdev = bdev, .sector = sector, .count = count };
	struct dm_io_request req = {
		.bi_opf = opf, .mem.type = DM_IO_VMA, .mem.ptr.vma = v->buffer, .client = v->io,
	};

	return dm_io(&req, 1, &r, NULL, IOPRIO_DEFAULT);
}

/* Fills the buffer with a chunk's content. */
static int snapshot_read_chunk(struct dds_snapshot *v, u64 chunk, struct dds_known k)
{
	sector_t first = chunk << sectors_shift(v), size = v->size >> SECTOR_SHIFT;
	int err;

	for (;;) {
		if (k.kind == DDSNAP_LOST)
			return -EIO;
		if (k.kind == DDSNAP_STORED)
			return snapshot_io(v, REQ_OP_READ, v->area.bdev, dds_slot_sector(&v->area, k.slot), 1 << sectors_shift(v));
		memset(v->buffer, 0, 1u << v->chunk_shift);
		err = snapshot_io(v, REQ_OP_READ, v->origin_dev, first, min_t(sector_t, size - first, 1 << sectors_shift(v)));
		if (!err)
			err = snapshot_ask(v, chunk, &k);
		if (err || k.kind == DDSNAP_SHARED)
			return err;
	}
}

/* The first slot that is leased, of new ones if there is none. */
static int snapshot_slot(struct dds_snapshot *v, u64 *slot)
{
	struct ddsnap_handle_want want = { cpu_to_le64(v->handle), cpu_to_le64(max(4u, LEASE_BYTES >> v->chunk_shift)) };
	u32 len;
	int err;

	if (!v->leases.total) {
		err = dds_ask_wait(v->store, DDSNAP_LEASE_BRANCH, &want, sizeof(want), v->reply, v->reply_room, &len);
		if (!err)
			err = dds_leases_add(&v->leases, v->reply, len, v->area.slots);
		if (err)
			return err;
		if (!v->leases.total)
			return DDSNAP_E_NO_SPACE;
	}
	*slot = dds_leases_at(&v->leases, 0);
	return 0;
}

/* Tells the server which chunks are in slots of their own now. */
static int snapshot_tell(struct dds_snapshot *v, u16 type, const struct dds_written *list, u32 count)
{
	struct ddsnap_written *w = (void *)v->message;
	struct ddsnap_batch_run *run = w->batch.run;
	u32 i, length;

	memset(w, 0, sizeof(*w) + count * (sizeof(*run) + sizeof(__le32)));
	w->handle = cpu_to_le64(v->handle);
	w->batch.generation = cpu_to_le64(v->generation);
	w->batch.chunks = cpu_to_le32(count);
	for (i = 0; i < count; i += length, run++) {	/* neighbours are one run */
		length = 1;
		while (i + length < count && list[i + length].chunk == list[i].chunk + length &&
		       list[i + length].slot == list[i].slot + length)
			length++;
		run->chunk = cpu_to_le64(list[i].chunk);
		run->slot = cpu_to_le64(list[i].slot);
		run->length = cpu_to_le32(length);
	}
	w->batch.runs = cpu_to_le32(run - w->batch.run);
	return dds_ask_wait(v->store, type, w, (u8 *)run + count * sizeof(__le32) - v->message, NULL, 0, NULL);
}

/* Makes all durable that was written: where the chunks are, too. */
static int snapshot_sync(struct dds_snapshot *v)
{
	__le64 handle = cpu_to_le64(v->handle);
	int err;

	if (!v->unsynced_count)
		return blkdev_issue_flush(v->area.bdev);
	err = dds_ask_wait(v->store, DDSNAP_SYNC_BRANCH, &handle, sizeof(handle), NULL, 0, NULL);
	if (!err)
		v->unsynced_count = 0;
	return err;
}

/* Copies between the buffer, which holds a chunk, and the part of a bio in it. */
static void snapshot_copy(struct dds_snapshot *v, struct bio *bio, u64 chunk, bool to_bio)
{
	sector_t first = chunk << sectors_shift(v), sector = bio->bi_iter.bi_sector;
	struct bvec_iter iter;
	struct bio_vec bv;
	u8 *at;

	if (bio_op(bio) == REQ_OP_WRITE_ZEROES) {
		memset(v->buffer + ((sector - first) << SECTOR_SHIFT), 0, bio->bi_iter.bi_size);
		return;
	}
	bio_for_each_segment(bv, bio, iter) {
		if (sector >= first && sector < first + (1u << sectors_shift(v))) {
			at = v->buffer + ((sector - first) << SECTOR_SHIFT);
			bv.bv_len = min_t(u32, bv.bv_len, v->buffer + (1u << v->chunk_shift) - at);
			if (to_bio)
				memcpy_to_bvec(&bv, at);
			else
				memcpy_from_bvec(at, &bv);
		}
		sector += bv.bv_len >> SECTOR_SHIFT;
	}
}

/* Does a write by way of the buffer; the chunk gets a slot of its own if it has none. */
static int snapshot_write(struct dds_snapshot *v, struct bio *bio, u64 chunk, struct dds_known k)
{
	struct dds_written w = { .chunk = chunk, .slot = k.slot };
	bool owned = k.owned;
	int err = 0;

	if (!owned && v->unsynced_count == DDS_UNSYNCED)
		err = snapshot_sync(v);
	if (!err && !owned)
		err = snapshot_slot(v, &w.slot);
	if (!err && bio->bi_iter.bi_size < 1u << v->chunk_shift)
		err = snapshot_read_chunk(v, chunk, k);
	if (err)
		return err;
	snapshot_copy(v, bio, chunk, false);
	err = snapshot_io(v, REQ_OP_WRITE, v->area.bdev, dds_slot_sector(&v->area, w.slot), 1 << sectors_shift(v));
	if (err || owned)
		return err;
	err = snapshot_tell(v, DDSNAP_REPORT_BRANCH, &w, 1);
	if (err)
		return err;
	dds_leases_pass(&v->leases);
	w.order = v->unsynced_count;
	v->unsynced[v->unsynced_count++] = w;
	atomic64_inc(&v->given);
	k = (struct dds_known){ .chunk1 = chunk + 1, .slot = w.slot, .kind = DDSNAP_STORED, .owned = true };
	spin_lock_irq(&v->lock);
	*known_at(v, chunk) = k;
	if (v->asking)
		bitmap_fill(v->stale, DDS_MAP_AHEAD);
	spin_unlock_irq(&v->lock);
	return 0;
}

/* ---- the work ---------------------------------------------------------------------- */

/* Sends a bio to where its chunk is. It takes a reference of its own. */
static void snapshot_send(struct dds_snapshot *v, struct bio *bio, const struct dds_known *k)
{
	struct dds_io *io = dds_io(bio);

	percpu_ref_get(&v->ios);
	io->flags = DDS_IO_COUNTED;
	snapshot_point(v, bio, io->chunk, k);
	dm_submit_bio_remap(bio, NULL);
}

/* Fills a read chunk by chunk. */
static int serve_by_copy(struct dds_snapshot *v, struct bio *bio)
{
	struct dds_io *io = dds_io(bio);
	struct dds_known k;
	int err = 0;
	u32 i;

	for (i = 0; i < io->chunks && !err; i++) {
		err = snapshot_find(v, io->chunk + i, &k);
		if (!err)
			err = snapshot_read_chunk(v, io->chunk + i, k);
		if (!err)
			snapshot_copy(v, bio, io->chunk + i, true);
	}
	return err;
}

/* Decides whether what was read from the origin was read in time; else reads it again. */
static int serve_verify(struct dds_snapshot *v, struct bio *bio)
{
	struct dds_io *io = dds_io(bio);
	struct dds_known k;
	int err;

	bio->bi_iter = io->iter;
	if (io->chunks == 1) {
		err = snapshot_ask(v, io->chunk, &k);
		if (err || k.kind == DDSNAP_SHARED)
			return err;
	}
	return serve_by_copy(v, bio);
}

/*
 * Serves a bio. 0: it is to end well, or was sent; else an error as dds_ask_wait()
 * returns. A reference of ios is held.
 */
static int snapshot_serve(struct dds_snapshot *v, struct bio *bio, bool *sent)
{
	struct dds_io *io = dds_io(bio);
	bool write = bio_op(bio) != REQ_OP_READ;
	struct dds_known k;
	int err;

	*sent = false;
	if (io->flags & DDS_IO_VERIFY)
		return serve_verify(v, bio);
	if (write && !(v->state & DDSNAP_STATE_WRITABLE))
		return -EROFS;
	if (!bio_sectors(bio))
		return snapshot_sync(v);
	if (bio_op(bio) == REQ_OP_DISCARD)
		return 0;	/* what was discarded may be read as before */
	err = snapshot_find(v, io->chunk, &k);
	if (err)
		return err;
	if (write && (!k.owned || bio->bi_opf & REQ_FUA)) {
		err = snapshot_write(v, bio, io->chunk, k);
		if (!err && bio->bi_opf & REQ_FUA)
			err = snapshot_sync(v);
		return err;
	}
	if (k.kind == DDSNAP_LOST)
		return -EIO;
	*sent = true;
	snapshot_send(v, bio, &k);
	return 0;
}

/* Waits until the store may have space. 0: try again. */
static int snapshot_await_space(struct dds_snapshot *v)
{
	__le64 handle = cpu_to_le64(v->handle);

	return dds_ask_wait(v->store, DDSNAP_AWAIT_SPACE, &handle, sizeof(handle), NULL, 0, NULL);
}

static bool is_away(int err)
{
	return err == -ENOTCONN || err == DDSNAP_E_AWAY || err == DDSNAP_E_STALE || err == DDSNAP_E_PROTOCOL;
}

static struct dds_io *snapshot_take(struct dds_snapshot *v)
{
	struct dds_io *io = NULL;
	bool back;

	spin_lock_irq(&v->lock);
	back = v->push_back;
	if (!list_empty(&v->held) && (!v->parked || back)) {
		io = list_first_entry(&v->held, struct dds_io, node);
		list_del(&io->node);
	}
	spin_unlock_irq(&v->lock);
	if (io && back && !(io->flags & DDS_IO_COUNTED)) {
		dds_bio(io)->bi_status = BLK_STS_DM_REQUEUE;
		bio_endio(dds_bio(io));
		return snapshot_take(v);
	}
	return io;
}

static void snapshot_put_back(struct dds_snapshot *v, struct dds_io *io)
{
	spin_lock_irq(&v->lock);
	list_add(&io->node, &v->held);
	spin_unlock_irq(&v->lock);
}

/* Serves one bio. False: the others must wait as well. */
static bool snapshot_serve_one(struct dds_snapshot *v, struct dds_io *io)
{
	bool counted = io->flags & DDS_IO_COUNTED, sent = false;
	struct bio *bio = dds_bio(io);
	int err;

	if (!counted && !percpu_ref_tryget_live(&v->ios)) {
		snapshot_put_back(v, io);	/* the end of the quiesce has the work done again */
		return false;
	}
	err = v->open ? snapshot_serve(v, bio, &sent) : -ENOTCONN;
	if (is_away(err)) {
		snapshot_put_back(v, io);
		if (!counted)
			percpu_ref_put(&v->ios);
		mod_delayed_work(v->store->io_wq, &v->retry, msecs_to_jiffies(RETRY_MS));
		return false;
	}
	percpu_ref_put(&v->ios);
	if (err == DDSNAP_E_NO_SPACE || err == DDSNAP_E_LEASES) {
		io->flags = 0;
		err = snapshot_await_space(v);
		if (!err || is_away(err)) {
			snapshot_put_back(v, io);
			return true;
		}
	}
	if (sent)
		return true;
	if (err)
		v->last_error = err;
	io->flags = 0;
	bio->bi_status = !err ? BLK_STS_OK : err == DDSNAP_E_NO_SPACE ? BLK_STS_NOSPC : BLK_STS_IOERR;
	bio_endio(bio);
	return true;
}

static void snapshot_work(struct work_struct *work)
{
	struct dds_snapshot *v = container_of(work, struct dds_snapshot, work);
	unsigned int noio = memalloc_noio_save();
	struct dds_io *io;

	mutex_lock(&v->serving);
	do {
		io = snapshot_take(v);
	} while (io && snapshot_serve_one(v, io));
	mutex_unlock(&v->serving);
	memalloc_noio_restore(noio);
}

static void snapshot_retry(struct work_struct *work)
{
	snapshot_queue(container_of(to_delayed_work(work), struct dds_snapshot, retry));
}

/* ---- the connection ------------------------------------------------------------------ */

static int by_written_chunk(const void *a, const void *b)
{
	const struct dds_written *x = a, *y = b;

	if (x->chunk != y->chunk)
		return x->chunk > y->chunk ? 1 : -1;
	return x->order > y->order ? 1 : -1;
}

/*
 * Leaves of the unsynced chunks the last place of each, by chunk. A chunk has more when
 * the snapshot got a snapshot of its own in between; that made the earlier ones durable.
 */
static void unsynced_last(struct dds_snapshot *v)
{
	u32 i, n = 0;

	sort(v->unsynced, v->unsynced_count, sizeof(v->unsynced[0]), by_written_chunk, NULL);
	for (i = 0; i < v->unsynced_count; i++) {
		if (i + 1 < v->unsynced_count && v->unsynced[i + 1].chunk == v->unsynced[i].chunk)
			continue;
		v->unsynced[n] = v->unsynced[i];
		v->unsynced[n].order = n;
		n++;
	}
	v->unsynced_count = n;
}

int dds_snapshot_open(struct dds_snapshot *v)
{
	struct ddsnap_open open = { cpu_to_le32(v->tag), cpu_to_le32(v->write ? DDSNAP_OPEN_WRITE : 0) };
	const struct ddsnap_snapshot_session *s = v->reply;
	u64 identity;
	u32 len;
	int err;

	mutex_lock(&v->serving);	/* the work uses the same buffers */
	err = dds_ask_wait(v->store, DDSNAP_OPEN_SNAPSHOT, &open, sizeof(open), v->reply, v->reply_room, &len);
	if (err)
		goto out;
	err = DDSNAP_E_PROTOCOL;
	if (len < sizeof(*s) + sizeof(__le64))
		goto out;
	identity = le64_to_cpup((const __le64 *)s->snapshot);
	err = DDSNAP_E_NO_SNAPSHOT;
	if (v->identity && v->identity != identity)
		goto out;	/* another one with the same tag */
	v->identity = identity;
	dds_leases_clear(&v->leases);
	spin_lock_irq(&v->lock);
	v->handle = le64_to_cpu(s->handle);
	v->generation = le64_to_cpu(s->state.generation);
	v->size = le64_to_cpu(s->state.size);
	v->state = le32_to_cpu(s->state.flags);
	known_forget(v);
	spin_unlock_irq(&v->lock);
	err = 0;
	if (v->unsynced_count) {
		unsynced_last(v);
		err = snapshot_tell(v, DDSNAP_RESTORE_BRANCH, v->unsynced, v->unsynced_count);
	}
	if (!err) {
		spin_lock_irq(&v->lock);
		v->open = true;
		spin_unlock_irq(&v->lock);
	}
out:
	mutex_unlock(&v->serving);
	v->last_error = err;
	snapshot_queue(v);
	return err;
}

void dds_snapshot_lost(struct dds_snapshot *v)
{
	bool live;

	spin_lock(&v->lock);
	v->open = false;
	v->quiescing = false;
	live = v->quiesced;
	spin_unlock(&v->lock);
	if (live)	/* nobody will say how the quiesce has ended: the next opening does */
		queue_work(v->store->io_wq, &v->quiet);
}

static void ios_ended(struct percpu_ref *ref)
{
	struct dds_snapshot *v = container_of(ref, struct dds_snapshot, ios);

	queue_work(v->store->io_wq, &v->quiet);
}

static void snapshot_quiet(struct work_struct *work)
{
	struct dds_snapshot *v = container_of(work, struct dds_snapshot, quiet);
	bool revive;
	u64 id = 0;

	spin_lock_irq(&v->lock);
	if (v->quiescing && percpu_ref_is_zero(&v->ios)) {
		id = v->quiesce_id;
		v->quiescing = false;
	}
	revive = !id && v->quiesced && !v->open && percpu_ref_is_zero(&v->ios);
	if (revive)
		v->quiesced = false;
	spin_unlock_irq(&v->lock);
	if (id) {
		if (v->state & DDSNAP_STATE_WRITABLE)	/* what a snapshot of this one shares is durable */
			blkdev_issue_flush(v->area.bdev);
		dds_answer(v->store, DDSNAP_QUIESCE, id, 0, NULL);
	}
	if (revive) {
		percpu_ref_reinit(&v->ios);
		snapshot_queue(v);
	}
}

int dds_snapshot_quiesce(struct dds_snapshot *v, u64 id)
{
	bool kill;

	spin_lock_irq(&v->lock);
	kill = !v->quiesced;
	v->quiesced = v->quiescing = true;
	v->quiesce_id = id;
	spin_unlock_irq(&v->lock);
	if (kill)
		percpu_ref_kill(&v->ios);
	queue_work(v->store->io_wq, &v->quiet);
	return 0;
}

int dds_snapshot_state(struct dds_snapshot *v, const struct ddsnap_snapshot_state *st)
{
	bool live;

	spin_lock_irq(&v->lock);
	live = v->quiesced && percpu_ref_is_zero(&v->ios);
	if (live) {
		v->quiesced = false;
		v->generation = le64_to_cpu(st->generation);
		v->size = le64_to_cpu(st->size);
		v->state = le32_to_cpu(st->flags);
		if (v->state & DDSNAP_STATE_REVOKED)
			dds_leases_clear(&v->leases);
		known_forget(v);
	}
	spin_unlock_irq(&v->lock);
	if (!live)
		return -EPROTO;
	percpu_ref_reinit(&v->ios);
	snapshot_queue(v);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------ */

static void snapshot_free(struct dds_snapshot *v)
{
	if (v->io)
		dm_io_client_destroy(v->io);
	if (v->ios.data)
		percpu_ref_exit(&v->ios);
	dds_leases_exit(&v->leases);
	kvfree(v->known);
	vfree(v->buffer);
	kvfree(v->reply);
	kvfree(v->message);
	kvfree(v->unsynced);
	kfree(v);
}

static int snapshot_alloc(struct dds_snapshot *v)
{
	int err;

	v->reply_room = v->write ? DDS_MAX_MESSAGE : max_t(u32, REPLY_BYTES, 1024);
	v->known = kvcalloc(1u << DDS_KNOWN_BITS, sizeof(*v->known), GFP_KERNEL);
	v->buffer = vmalloc(1u << v->chunk_shift);
	v->reply = kvmalloc(v->reply_room, GFP_KERNEL);
	v->message = kvmalloc(sizeof(struct ddsnap_written) +
			      DDS_UNSYNCED * (sizeof(struct ddsnap_batch_run) + sizeof(__le32)), GFP_KERNEL);
	v->unsynced = kvcalloc(DDS_UNSYNCED, sizeof(*v->unsynced), GFP_KERNEL);
	if (!v->known || !v->buffer || !v->reply || !v->message || !v->unsynced)
		return -ENOMEM;
	err = dds_leases_init(&v->leases) ?: percpu_ref_init(&v->ios, ios_ended, PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
	if (err)
		return err;
	v->io = dm_io_client_create();
	if (IS_ERR(v->io)) {
		err = PTR_ERR(v->io);
		v->io = NULL;
	}
	return err;
}

static struct dds_snapshot *snapshot_new(struct dds_store *s, u32 tag, bool write, u32 chunk_shift)
{
	struct dds_snapshot *v = kzalloc(sizeof(*v), GFP_KERNEL);
	int err;

	if (!v)
		return ERR_PTR(-ENOMEM);
	v->store = s;
	v->tag = tag;
	v->write = write;
	v->chunk_shift = chunk_shift;
	v->parked = true;
	spin_lock_init(&v->lock);
	mutex_init(&v->serving);
	INIT_LIST_HEAD(&v->held);
	INIT_WORK(&v->quiet, snapshot_quiet);
	INIT_WORK(&v->work, snapshot_work);
	INIT_DELAYED_WORK(&v->retry, snapshot_retry);
	err = snapshot_alloc(v);
	if (err) {
		snapshot_free(v);
		return ERR_PTR(err);
	}
	return v;
}

int dds_snapshot_get(struct dds_store *s, u32 tag, bool write, u32 chunk_shift, struct dds_snapshot **got, char **error)
{
	struct dds_snapshot *v, *found = NULL;
	int err = 0;

	mutex_lock(&s->targets);
	list_for_each_entry(v, &s->snapshots, node)
		if (v->tag == tag)
			found = v;
	if (found && (found->write != write || found->chunk_shift != chunk_shift)) {
		err = -EINVAL;
		*error = "The snapshot has a target of another mode or chunk size";
	} else if (!found) {
		found = snapshot_new(s, tag, write, chunk_shift);
		err = PTR_ERR_OR_ZERO(found);
		if (err) {
			*error = "Cannot allocate the snapshot";
		} else {
			list_add_tail(&found->node, &s->snapshots);
			spin_lock_irq(&s->lock);
			list_add_tail(&found->reader, &s->readers);
			spin_unlock_irq(&s->lock);
		}
	}
	if (!err) {
		found->targets++;
		*got = found;
	}
	mutex_unlock(&s->targets);
	return err;
}

void dds_snapshot_put(struct dds_snapshot *v)
{
	struct dds_store *s = v->store;
	__le64 handle = cpu_to_le64(v->handle);

	mutex_lock(&s->targets);
	if (--v->targets) {
		mutex_unlock(&s->targets);
		return;
	}
	list_del(&v->node);
	if (v->open)
		dds_ask_wait(s, DDSNAP_CLOSE_SNAPSHOT, &handle, sizeof(handle), NULL, 0, NULL);
	spin_lock_irq(&s->lock);
	list_del(&v->reader);
	spin_unlock_irq(&s->lock);
	mutex_unlock(&s->targets);
	flush_workqueue(s->dispatch_wq);
	cancel_delayed_work_sync(&v->retry);
	cancel_work_sync(&v->work);
	cancel_work_sync(&v->quiet);
	snapshot_free(v);
}

void dds_snapshot_resume(struct dds_snapshot *v, struct block_device *origin, struct block_device *store, sector_t data_offset)
{
	spin_lock_irq(&v->lock);
	v->origin_dev = origin;
	v->area.bdev = store;
	v->area.chunk_shift = v->chunk_shift;
	v->area.offset = data_offset;
	v->area.slots = (bdev_nr_sectors(store) - data_offset) >> sectors_shift(v);
	v->parked = v->push_back = false;
	spin_unlock_irq(&v->lock);
	snapshot_queue(v);
	dds_store_connect(v->store);
}

void dds_snapshot_park(struct dds_snapshot *v)
{
	spin_lock_irq(&v->lock);
	v->parked = true;
	spin_unlock_irq(&v->lock);
	flush_work(&v->work);
}

void dds_snapshot_push_back(struct dds_snapshot *v, bool on)
{
	spin_lock_irq(&v->lock);
	v->push_back = on;
	spin_unlock_irq(&v->lock);
	if (on)
		snapshot_queue(v);
}
