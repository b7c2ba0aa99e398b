// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots. Where chunks are is remembered: those in slots until the server begins to
 * change that, and, if the origin is here too, those that are shared with the origin
 * until the origin's copier has them copied out. Requests for chunks of which that is
 * known are remapped in the map function. All others are served by one work item a
 * snapshot, which asks the server. It also opens the snapshot on each connection.
 *
 * A read of a shared chunk goes to the origin, and counts only if the chunk is known to
 * be shared still when the read has ended: the origin is overwritten only after the
 * copier has said so (dds_snapshots_copied).
 *
 * A chunk that is written to for the first time gets a slot of its own. Such a write ends
 * when it is durable, together with where the chunk is: so a server that ends forgets
 * nothing that was written, and a flush is one of the device.
 */
#include <linux/bvec.h>
#include <linux/highmem.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-ddsnap.h"

#define RETRY_MS	100	/* before a server that is away or busy is asked again */
#define GIVEN_MAX	64u	/* chunks that get slots at a time */
#define LEASE_BYTES	(16u << 20)
#define REPLY_BYTES	(sizeof(struct ddsnap_mappings) + DDS_MAP_AHEAD * sizeof(struct ddsnap_mapping))

/* ---- what is known ------------------------------------------------------------- */

static inline struct dds_known *known_at(struct dds_snapshot *v, u64 chunk)
{
	return &v->known[chunk & ((1u << DDS_KNOWN_BITS) - 1)];
}

static inline u32 sectors_shift(const struct dds_snapshot *v)
{
	return v->vol.chunk_shift - SECTOR_SHIFT;
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

/* Takes a state over; where chunks are is another matter then. The lock is held. */
static void snapshot_take_state(struct dds_snapshot *v, const struct ddsnap_snapshot_state *st)
{
	v->generation = le64_to_cpu(st->generation);
	v->size = le64_to_cpu(st->size);
	v->state = le32_to_cpu(st->flags);
	memset(v->known, 0, sizeof(*v->known) << DDS_KNOWN_BITS);
	v->stale = true;
}

void dds_snapshots_copied(struct dds_store *s, const struct dds_batch *b)
{
	struct dds_snapshot *v;
	struct dds_known *k;
	unsigned long flags;
	u64 chunk;
	u32 i;

	spin_lock_irqsave(&s->lock, flags);
	list_for_each_entry(v, &s->snapshots, node) {
		spin_lock(&v->vol.lock);
		for (i = 0; i < b->count; i++) {
			chunk = b->copies[i].chunk;
			k = known_at(v, chunk);
			if (k->chunk1 == chunk + 1 && k->kind == DDSNAP_SHARED)
				k->chunk1 = 0;
			if (chunk - v->asked_first < DDS_MAP_AHEAD)
				v->stale = true;
		}
		spin_unlock(&v->vol.lock);
	}
	spin_unlock_irqrestore(&s->lock, flags);
}

/* ---- the map function ----------------------------------------------------------- */

/* Whether the map function may send the bio where the chunk is. The lock is held. */
static bool snapshot_may(struct dds_snapshot *v, struct bio *bio, const struct dds_known *k)
{
	if (bio_op(bio) == REQ_OP_READ)
		return k->kind != DDSNAP_LOST;
	return k->owned && v->state & DDSNAP_STATE_WRITABLE;
}

int dds_snapshot_map(struct dds_snapshot *v, struct bio *bio)
{
	struct dds_io *io = dds_io(bio);
	struct dds_known k;
	unsigned long flags;
	bool may = false;
	u64 last;

	io->flags = 0;
	io->iter = bio->bi_iter;
	io->chunk = bio->bi_iter.bi_sector >> sectors_shift(v);
	io->chunks = 1;
	if (READ_ONCE(v->state) & DDSNAP_STATE_SQUASHED || (bio_op(bio) != REQ_OP_READ && !v->write))
		return DM_MAPIO_KILL;
	if (!bio_sectors(bio)) {	/* a flush */
		bio_set_dev(bio, v->vol.area.bdev);
		return DM_MAPIO_REMAPPED;
	}
	if (percpu_ref_tryget_live(&v->vol.ios)) {
		last = (bio_end_sector(bio) - 1) >> sectors_shift(v);
		spin_lock_irqsave(&v->vol.lock, flags);
		may = known_get(v, io->chunk, &k) && snapshot_may(v, bio, &k);
		if (may)
			io->chunks = known_run(v, io->chunk, last, &k);
		spin_unlock_irqrestore(&v->vol.lock, flags);
		if (!may)
			percpu_ref_put(&v->vol.ios);
	}
	if (!may && bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	dds_cut(bio, (io->chunk + io->chunks) << sectors_shift(v));
	io->iter = bio->bi_iter;
	if (!may) {
		dds_hold(&v->vol, io);
		return DM_MAPIO_SUBMITTED;
	}
	io->flags = DDS_IO_COUNTED;
	dds_point(&v->vol, io, &k);
	return DM_MAPIO_REMAPPED;
}

/* Whether all chunks that the bio has read from the origin are known to be shared still. */
static bool still_shared(struct dds_snapshot *v, const struct dds_io *io)
{
	struct dds_known k;
	unsigned long flags;
	bool shared = true;
	u32 i;

	spin_lock_irqsave(&v->vol.lock, flags);
	for (i = 0; i < io->chunks && shared; i++)
		shared = known_get(v, io->chunk + i, &k) && k.kind == DDSNAP_SHARED;
	spin_unlock_irqrestore(&v->vol.lock, flags);
	return shared;
}

int dds_snapshot_end_io(struct dds_snapshot *v, struct bio *bio, blk_status_t *error)
{
	struct dds_io *io = dds_io(bio);

	if (!(io->flags & DDS_IO_SHARED) || *error || still_shared(v, io)) {
		dds_leave(&v->vol, io);
		return DM_ENDIO_DONE;
	}
	io->flags = DDS_IO_COUNTED | DDS_IO_VERIFY;
	bio->bi_status = 0;
	dds_hold(&v->vol, io);
	return DM_ENDIO_INCOMPLETE;
}

/* ---- asking the server ----------------------------------------------------------- */

/* Whether the origin's copier is here, and says when shared chunks no longer are. */
static bool origin_is_here(struct dds_snapshot *v)
{
	struct dds_origin *o;
	bool here;

	spin_lock_irq(&v->vol.store->lock);
	o = v->vol.store->origin;
	here = o && READ_ONCE(o->mode) == DDS_LIVE;
	spin_unlock_irq(&v->vol.store->lock);
	return here;
}

/*
 * Asks where the chunk is, and those after it, and remembers what may be. Returns 0,
 * an enum ddsnap_code, -ENOTCONN or -EPROTO. There is one question at a time.
 */
static int snapshot_ask(struct dds_snapshot *v, u64 chunk, struct dds_known *k)
{
	u64 end = min(chunk + DDS_MAP_AHEAD, DIV_ROUND_UP_ULL(v->size, 1ull << v->vol.chunk_shift)), c;
	struct ddsnap_handle_range q = { cpu_to_le64(v->handle), { cpu_to_le64(chunk), cpu_to_le64(end) } };
	bool here = origin_is_here(v);
	struct dds_known one;
	u32 len;
	int err;

	if (chunk >= end)
		return DDSNAP_E_GEOMETRY;
	spin_lock_irq(&v->vol.lock);
	v->asked_first = chunk;
	v->stale = false;
	spin_unlock_irq(&v->vol.lock);
	atomic64_inc(&v->upcalls);
	err = dds_ask_wait(v->vol.store, DDSNAP_MAP, &q, sizeof(q), v->reply, REPLY_BYTES, &len);
	if (!err)
		err = dds_find_mapping(&v->vol, v->reply, len, chunk, end, chunk, k);
	spin_lock_irq(&v->vol.lock);
	for (c = chunk; !err && c < end; c++) {
		dds_find_mapping(&v->vol, v->reply, len, chunk, end, c, &one);
		if (one.owned && v->unsynced)
			continue;
		if (one.kind == DDSNAP_SHARED ? here && !v->stale : v->open && v->state & DDSNAP_STATE_REMEMBER)
			*known_at(v, c) = one;
	}
	spin_unlock_irq(&v->vol.lock);
	return err;
}

/* Where the chunk is: from memory if that knows it. */
static int snapshot_find(struct dds_snapshot *v, u64 chunk, struct dds_known *k)
{
	bool known;

	spin_lock_irq(&v->vol.lock);
	known = known_get(v, chunk, k);
	spin_unlock_irq(&v->vol.lock);
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
			return snapshot_io(v, REQ_OP_READ, v->vol.area.bdev, dds_slot_sector(&v->vol.area, k.slot), 1 << sectors_shift(v));
		memset(v->buffer, 0, 1u << v->vol.chunk_shift);
		err = snapshot_io(v, REQ_OP_READ, v->vol.origin_dev, first, min_t(sector_t, size - first, 1 << sectors_shift(v)));
		if (!err)
			err = snapshot_ask(v, chunk, &k);
		if (err || k.kind == DDSNAP_SHARED)
			return err;
	}
}

/* Has a leased slot be there for one more chunk. */
static int snapshot_lease(struct dds_snapshot *v)
{
	struct ddsnap_handle_want want = { cpu_to_le64(v->handle), cpu_to_le64(max(4u, LEASE_BYTES >> v->vol.chunk_shift)) };
	u32 len;
	int err;

	if (v->leases.total > v->count)
		return 0;
	if (READ_ONCE(v->awaiting))
		return DDSNAP_E_NO_SPACE;
	err = dds_ask_wait(v->vol.store, DDSNAP_LEASE_BRANCH, &want, sizeof(want), v->reply, v->reply_room, &len);
	if (!err)
		err = dds_leases_add(&v->leases, v->reply, len, v->vol.area.slots);
	return err ?: v->leases.total ? 0 : DDSNAP_E_NO_SPACE;
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
			bv.bv_len = min_t(u32, bv.bv_len, v->buffer + (1u << v->vol.chunk_shift) - at);
			if (to_bio)
				memcpy_to_bvec(&bv, at);
			else
				memcpy_from_bvec(at, &bv);
		}
		sector += bv.bv_len >> SECTOR_SHIFT;
	}
}

static void space_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_snapshot *v = container_of(call, struct dds_snapshot, space_call);

	spin_lock_irq(&v->vol.lock);
	v->space_error = err;
	v->awaiting = false;
	spin_unlock_irq(&v->vol.lock);
	dds_kick(&v->vol);
}

/* Writes wait for slots: asks the server to make space, or to say that there is none. */
static void snapshot_await_space(struct dds_snapshot *v)
{
	__le64 handle = cpu_to_le64(v->handle);
	struct kvec part = { &handle, sizeof(handle) };

	if (READ_ONCE(v->awaiting))
		return;
	WRITE_ONCE(v->awaiting, true);
	if (dds_ask(v->vol.store, &v->space_call, DDSNAP_AWAIT_SPACE, &part, 1))
		WRITE_ONCE(v->awaiting, false);
}

static bool is_away(int err)
{
	return err == -ENOTCONN || err == DDSNAP_E_AWAY || err == DDSNAP_E_STALE || err == DDSNAP_E_PROTOCOL;
}

static bool is_full(int err)
{
	return err == DDSNAP_E_NO_SPACE || err == DDSNAP_E_LEASES;
}

static void snapshot_end(struct dds_snapshot *v, struct dds_io *io, int err)
{
	if (err)
		v->last_error = err;
	list_del(&io->node);
	io->flags &= DDS_IO_COUNTED;
	dds_end(io, !err ? BLK_STS_OK : err == DDSNAP_E_NO_SPACE ? BLK_STS_NOSPC : BLK_STS_IOERR);
}

/* Leaves a bio for another try, from the beginning. */
static void snapshot_put_back(struct dds_snapshot *v, struct dds_io *io)
{
	dds_leave(&v->vol, io);
	io->flags = 0;
	dds_bio(io)->bi_iter = io->iter;
	list_move_tail(&io->node, &v->todo);
}

/*
 * Makes durable where chunks are that the server may have been told of, without a reply: a
 * write to them is no write to a chunk without a slot any more.
 */
static int snapshot_sync(struct dds_snapshot *v)
{
	__le64 handle = cpu_to_le64(v->handle);
	int err = 0;

	if (v->unsynced)
		err = dds_ask_wait(v->vol.store, DDSNAP_SYNC_BRANCH, &handle, sizeof(handle), NULL, 0, NULL);
	if (!err)
		v->unsynced = false;
	return err;
}

/* Makes durable where the chunks are that were given slots, and ends the writes to them. */
static int snapshot_commit(struct dds_snapshot *v)
{
	struct ddsnap_written *w = v->message;
	struct dds_io *io, *next;
	u32 len, i;
	int err;

	if (!v->count)
		return 0;
	v->unsynced = true;
	w->handle = cpu_to_le64(v->handle);
	len = sizeof(w->handle) + dds_code_batch(&w->batch, v->copies, v->count, v->generation);
	err = dds_ask_wait(v->vol.store, DDSNAP_REPORT_BRANCH, w, len, NULL, 0, NULL) ?: snapshot_sync(v);
	spin_lock_irq(&v->vol.lock);
	for (i = 0; !err && i < v->count; i++)
		*known_at(v, v->copies[i].chunk) = (struct dds_known){
			.chunk1 = v->copies[i].chunk + 1, .slot = v->copies[i].slot, .kind = DDSNAP_STORED, .owned = true,
		};
	spin_unlock_irq(&v->vol.lock);
	atomic64_add(err ? 0 : v->count, &v->given_slots);
	v->leases.taken = v->count - 1;
	dds_leases_pass(&v->leases);
	v->count = 0;
	list_for_each_entry_safe(io, next, &v->given, node) {
		if (is_away(err))
			snapshot_put_back(v, io);
		else
			snapshot_end(v, io, err);
	}
	return is_away(err) ? err : 0;
}

/* Writes a chunk, of which the bio changes at least a part, to a slot of its own. */
static int snapshot_give(struct dds_snapshot *v, struct dds_io *io, struct dds_known k)
{
	struct bio *bio = dds_bio(io);
	int err = 0;
	u64 slot;

	if (v->count == GIVEN_MAX || v->count == v->leases.total)
		err = snapshot_commit(v);
	if (!err)
		err = snapshot_lease(v);
	if (!err && bio->bi_iter.bi_size < 1u << v->vol.chunk_shift)
		err = snapshot_read_chunk(v, io->chunk, k);
	if (err)
		return err;
	snapshot_copy(v, bio, io->chunk, false);
	slot = dds_leases_at(&v->leases, v->count);
	err = snapshot_io(v, REQ_OP_WRITE, v->vol.area.bdev, dds_slot_sector(&v->vol.area, slot), 1 << sectors_shift(v));
	if (err)
		return err;
	v->copies[v->count++] = (struct dds_copy){ .chunk = io->chunk, .slot = slot };
	list_move_tail(&io->node, &v->given);
	return -EINPROGRESS;
}

/* ---- the work ---------------------------------------------------------------------- */

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
 * Serves a bio, which has a reference. -EINPROGRESS: it was sent, or waits for the
 * commit; else it is to end, or an error as of dds_ask_wait().
 */
static int snapshot_serve(struct dds_snapshot *v, struct dds_io *io)
{
	struct bio *bio = dds_bio(io);
	bool write = bio_op(bio) != REQ_OP_READ;
	struct dds_known k;
	int err = 0;

	if (io->flags & DDS_IO_VERIFY)
		return serve_verify(v, bio);
	if (write && !(v->state & DDSNAP_STATE_WRITABLE))
		return -EROFS;
	if (bio_op(bio) == REQ_OP_DISCARD)
		return 0;	/* what was discarded may be read as before */
	if (write && v->count && v->copies[v->count - 1].chunk == io->chunk)
		err = snapshot_commit(v);
	if (write && !err)
		err = snapshot_sync(v);
	if (!err)
		err = snapshot_find(v, io->chunk, &k);
	if (err)
		return err;
	if (write && !k.owned)
		return snapshot_give(v, io, k);
	if (k.kind == DDSNAP_LOST)
		return -EIO;
	list_del(&io->node);
	dds_point(&v->vol, io, &k);
	dds_release(&v->vol, io);
	return -EINPROGRESS;
}

/* Serves a bio of todo. An error leaves it there: the server is away, or the store full. */
static int snapshot_serve_one(struct dds_snapshot *v, struct dds_io *io)
{
	int err;

	if (!(io->flags & DDS_IO_COUNTED)) {
		if (!percpu_ref_tryget_live(&v->vol.ios))
			return -ENOTCONN;	/* it is closed */
		io->flags |= DDS_IO_COUNTED;
	}
	err = snapshot_serve(v, io);
	if (err == -EINPROGRESS)
		return 0;
	if (is_away(err) || is_full(err)) {
		snapshot_put_back(v, io);
		return err;
	}
	snapshot_end(v, io, err);
	return 0;
}

/*
 * Serves all of todo that can be. Writes for which there is no slot wait there, or fail if
 * the server has said that there will be none.
 */
static void snapshot_serve_all(struct dds_snapshot *v)
{
	struct dds_io *io, *next;
	bool full = false;
	int err = 0, none;
	LIST_HEAD(all);

	spin_lock_irq(&v->vol.lock);
	none = is_away(v->space_error) ? 0 : v->space_error;
	v->space_error = 0;
	spin_unlock_irq(&v->vol.lock);
	list_splice_init(&v->todo, &all);
	list_for_each_entry_safe(io, next, &all, node) {
		err = snapshot_serve_one(v, io);
		if (is_away(err))
			break;
		if (is_full(err) && none)
			snapshot_end(v, io, none);
		else
			full |= is_full(err);
	}
	list_splice_tail(&all, &v->todo);
	err = snapshot_commit(v) ?: is_away(err) ? err : 0;
	if (!err && full)
		snapshot_await_space(v);
	if (is_away(err))
		dds_kick_later(&v->vol, RETRY_MS);
}

/* ---- the connection ------------------------------------------------------------------ */

/* Closes what is not, or no longer, to be open. */
static void snapshot_close(struct dds_snapshot *v)
{
	__le64 handle = cpu_to_le64(v->handle);

	dds_ask_wait(v->vol.store, DDSNAP_CLOSE_SNAPSHOT, &handle, sizeof(handle), NULL, 0, NULL);
	v->handle = 0;
}

static void open_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_snapshot *v = container_of(call, struct dds_snapshot, open_call);
	const struct ddsnap_snapshot_session *s = body;
	u64 identity;

	spin_lock_irq(&v->vol.lock);
	if (!err && len < sizeof(*s) + sizeof(identity)) {
		err = DDSNAP_E_PROTOCOL;
	} else if (!err) {
		identity = le64_to_cpup((const __le64 *)s->snapshot);
		v->handle = le64_to_cpu(s->handle);
		if (v->identity && v->identity != identity)
			err = DDSNAP_E_NO_SNAPSHOT;	/* another one with the same tag */
	}
	if (!err) {
		v->identity = identity;
		v->open = true;
		snapshot_take_state(v, &s->state);
	}
	v->last_error = err;
	spin_unlock_irq(&v->vol.lock);
	if (!err && dds_is_quiet(&v->vol))
		dds_open(&v->vol);
	complete(&v->opened);
}

/*
 * Opens the snapshot on the present connection. Nothing is written then to slots that were
 * leased on one before: it is the work that does so.
 */
static bool snapshot_open(struct dds_snapshot *v)
{
	struct ddsnap_open open = { cpu_to_le32(v->tag), cpu_to_le32(v->write ? DDSNAP_OPEN_WRITE : 0) };
	struct kvec part = { &open, sizeof(open) };

	if (READ_ONCE(v->open))
		return true;
	if (!READ_ONCE(v->vol.store->greeted) || (v->vol.closed && !dds_is_quiet(&v->vol)))
		return false;	/* that it is has the work done again */
	if (v->handle)
		snapshot_close(v);
	dds_leases_clear(&v->leases);
	reinit_completion(&v->opened);
	if (!dds_ask(v->vol.store, &v->open_call, DDSNAP_OPEN_SNAPSHOT, &part, 1))
		wait_for_completion(&v->opened);
	if (READ_ONCE(v->open))
		dds_store_connect(v->vol.store);	/* which waits for that */
	else
		dds_kick_later(&v->vol, RETRY_MS);
	return READ_ONCE(v->open);
}

static void snapshot_work(struct work_struct *work)
{
	struct dds_snapshot *v = container_of(work, struct dds_snapshot, vol.work);
	unsigned int noio = memalloc_noio_save();
	bool open = snapshot_open(v);

	if (dds_take(&v->vol, &v->todo) && open)
		snapshot_serve_all(v);
	memalloc_noio_restore(noio);
}

void dds_snapshot_lost(struct dds_snapshot *v)
{
	spin_lock(&v->vol.lock);
	v->open = false;
	v->handle = 0;
	v->vol.quiesce_id = 0;	/* nobody is to be told; no request begins until it is open again */
	spin_unlock(&v->vol.lock);
}

int dds_snapshot_state(struct dds_snapshot *v, const struct ddsnap_snapshot_state *st)
{
	if (!dds_is_quiet(&v->vol))
		return -EPROTO;
	spin_lock_irq(&v->vol.lock);
	snapshot_take_state(v, st);
	if (v->state & DDSNAP_STATE_REVOKED)
		dds_leases_clear(&v->leases);
	spin_unlock_irq(&v->vol.lock);
	dds_open(&v->vol);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------ */

static void snapshot_free(struct dds_snapshot *v)
{
	dds_cancel(v->vol.store, &v->space_call);
	dds_volume_exit(&v->vol);
	if (v->handle)
		snapshot_close(v);
	if (v->io)
		dm_io_client_destroy(v->io);
	dds_leases_exit(&v->leases);
	kvfree(v->known);
	vfree(v->buffer);
	kvfree(v->reply);
	kvfree(v->message);
	kvfree(v->copies);
	kfree(v);
}

static int snapshot_alloc(struct dds_snapshot *v)
{
	int err;

	v->reply_room = v->write ? DDS_MAX_MESSAGE : max_t(u32, REPLY_BYTES, 1024);
	v->known = kvcalloc(1u << DDS_KNOWN_BITS, sizeof(*v->known), GFP_KERNEL);
	v->buffer = vmalloc(1u << v->vol.chunk_shift);
	v->reply = kvmalloc(v->reply_room, GFP_KERNEL);
	v->message = kvmalloc(sizeof(struct ddsnap_written) +
			      GIVEN_MAX * (sizeof(struct ddsnap_batch_run) + sizeof(__le32)), GFP_KERNEL);
	v->copies = kvcalloc(GIVEN_MAX, sizeof(*v->copies), GFP_KERNEL);
	if (!v->known || !v->buffer || !v->reply || !v->message || !v->copies)
		return -ENOMEM;
	err = dds_leases_init(&v->leases);
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
	v->tag = tag;
	v->write = write;
	v->open_call.done = open_done;
	v->space_call.done = space_done;
	INIT_LIST_HEAD(&v->space_call.node);
	init_completion(&v->opened);
	INIT_LIST_HEAD(&v->todo);
	INIT_LIST_HEAD(&v->given);
	err = dds_volume_init(&v->vol, s, s->io_wq, chunk_shift, snapshot_work) ?: snapshot_alloc(v);
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
	if (found && (found->write != write || found->vol.chunk_shift != chunk_shift)) {
		err = -EINVAL;
		*error = "The snapshot has a target of another mode or chunk size";
	} else if (!found) {
		found = snapshot_new(s, tag, write, chunk_shift);
		err = PTR_ERR_OR_ZERO(found);
		if (err) {
			*error = "Cannot allocate the snapshot";
		} else {
			spin_lock_irq(&s->lock);
			list_add_tail(&found->node, &s->snapshots);
			spin_unlock_irq(&s->lock);
		}
	}
	if (!err) {
		found->vol.targets++;
		*got = found;
	}
	mutex_unlock(&s->targets);
	return err;
}

void dds_snapshot_put(struct dds_snapshot *v)
{
	struct dds_store *s = v->vol.store;
	bool last;

	mutex_lock(&s->targets);
	last = !--v->vol.targets;
	if (last) {
		spin_lock_irq(&s->lock);
		list_del(&v->node);
		spin_unlock_irq(&s->lock);
	}
	mutex_unlock(&s->targets);
	if (!last)
		return;
	flush_workqueue(s->dispatch_wq);	/* which may have found it before */
	snapshot_free(v);
}
