// SPDX-License-Identifier: GPL-2.0
/*
 * The origin. Reads, and writes of settled chunks, are remapped in the map function: they
 * take a reference of a per-CPU counter and look at a bit. All other writes are held for
 * the copier, one thread an origin. It takes what waits, reads the old chunks, writes them
 * as one batch into leased slots, and lets the writes go; while one batch is being
 * written, the next is read. It waits for the server only when there are no leases, or
 * when it does not know whether a chunk is settled.
 *
 * A change of generation ends the writes under way through the counter. Only the
 * dispatcher changes the state, so that it changes in the order of the messages.
 */
#include <linux/kthread.h>
#include <linux/list_sort.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-ddsnap.h"

#define LEASE_BYTES	(64u << 20)	/* of slots to ask for at a time */
#define MAX_BITMAP	(1ull << 30)	/* bytes of the settled map, at most */

/* ---- what needs a copy-out ---------------------------------------------------- */

static inline u64 chunk_of(const struct dds_origin *o, sector_t sector)
{
	return sector >> (o->chunk_shift - SECTOR_SHIFT);
}

/* Whether a write to the chunk may go. The generation is fixed: a reference is held. */
static inline bool is_settled(const struct dds_origin *o, u64 chunk)
{
	return test_bit(chunk, o->settled) || !READ_ONCE(o->newest) ||
	       (READ_ONCE(o->largest) && chunk << o->chunk_shift >= READ_ONCE(o->largest));
}

static int settled_alloc(u64 chunks, unsigned long **settled, unsigned long **known)
{
	u64 pages = DIV_ROUND_UP_ULL(chunks, 1u << DDS_PAGE_SHIFT);

	if (chunks / 8 > MAX_BITMAP)
		return -EFBIG;
	*settled = vzalloc(BITS_TO_LONGS(chunks) * sizeof(long));
	*known = vzalloc(BITS_TO_LONGS(pages) * sizeof(long));
	if (*settled && *known)
		return 0;
	vfree(*settled);
	vfree(*known);
	return -ENOMEM;
}

/* Makes room for another number of chunks. What was known to be settled stays so. */
static int settled_resize(struct dds_origin *o, u64 chunks)
{
	unsigned long *settled, *known;
	int err;

	if (chunks == o->chunks)
		return 0;
	err = settled_alloc(chunks, &settled, &known);
	if (err)
		return err;
	if (o->settled)
		bitmap_copy(settled, o->settled, min(chunks, o->chunks));
	vfree(o->settled);
	vfree(o->known);
	o->settled = settled;
	o->known = known;
	o->chunks = chunks;
	return 0;
}

/* ---- the map function --------------------------------------------------------- */

static void origin_hold(struct dds_origin *o, struct dds_io *io)
{
	unsigned long flags;
	bool back;

	io->since = jiffies;
	spin_lock_irqsave(&o->lock, flags);
	back = o->push_back;
	if (!back) {
		list_add_tail(&io->node, &o->held);
		o->stalled = false;
		if (o->broken && o->mode == DDS_LIVE && !o->asking)
			o->begin = true;	/* the server may think otherwise now */
	}
	spin_unlock_irqrestore(&o->lock, flags);
	if (back) {
		dds_bio(io)->bi_status = BLK_STS_DM_REQUEUE;
		bio_endio(dds_bio(io));
		return;
	}
	this_cpu_inc(o->counts->held);
	wake_up(&o->wake);
}

/* Cuts a bio at the end of the chunk that it begins in. */
static void cut_at_chunk(struct bio *bio, sector_t chunk_sectors)
{
	sector_t n = chunk_sectors - (bio->bi_iter.bi_sector & (chunk_sectors - 1));

	if (bio_sectors(bio) > n)
		dm_accept_partial_bio(bio, n);
}

int dds_origin_map(struct dds_origin *o, struct block_device *dev, struct bio *bio)
{
	sector_t chunk_sectors = 1u << (o->chunk_shift - SECTOR_SHIFT);
	struct dds_io *io = dds_io(bio);
	u64 chunk, last;

	io->flags = 0;
	bio_set_dev(bio, dev);
	if (bio_op(bio) == REQ_OP_READ) {
		this_cpu_inc(o->counts->reads);
		return DM_MAPIO_REMAPPED;
	}
	if (!bio_sectors(bio))	/* a flush */
		return DM_MAPIO_REMAPPED;
	this_cpu_inc(o->counts->writes);
	chunk = chunk_of(o, bio->bi_iter.bi_sector);
	if (percpu_ref_tryget_live(&o->writes)) {
		last = chunk_of(o, bio_end_sector(bio) - 1);
		if (last < o->chunks && is_settled(o, chunk)) {
			io->flags = DDS_IO_COUNTED;
			io->chunk = chunk;
			while (io->chunk < last && is_settled(o, io->chunk + 1))
				io->chunk++;
			if (io->chunk < last)
				dm_accept_partial_bio(bio, ((io->chunk + 1) << (o->chunk_shift - SECTOR_SHIFT)) -
							   bio->bi_iter.bi_sector);
			return DM_MAPIO_REMAPPED;
		}
		percpu_ref_put(&o->writes);
	}
	if (bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	cut_at_chunk(bio, chunk_sectors);
	io->chunk = chunk;
	origin_hold(o, io);
	return DM_MAPIO_SUBMITTED;
}

void dds_origin_end_io(struct dds_origin *o, struct bio *bio)
{
	struct dds_io *io = dds_io(bio);

	if (io->flags & DDS_IO_COUNTED) {
		io->flags = 0;
		percpu_ref_put(&o->writes);
	}
}

/* Lets a held write go. The caller has a reference of writes. */
static void origin_release(struct dds_origin *o, struct dds_io *io)
{
	percpu_ref_get(&o->writes);
	io->flags = DDS_IO_COUNTED;
	dm_submit_bio_remap(dds_bio(io), NULL);
}

static void origin_end(struct dds_io *io, blk_status_t status)
{
	dds_bio(io)->bi_status = status;
	bio_endio(dds_bio(io));
}

/* ---- the session -------------------------------------------------------------- */

static void session_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_origin *o = container_of(call, struct dds_origin, session_call);
	const struct ddsnap_session *s = body;
	bool renewed;
	int bad = 0;

	spin_lock_irq(&o->lock);
	if (!err) {
		bad = -EPROTO;
		if (len < sizeof(*s) || memcmp(s->uuid, o->store->uuid, DDS_UUID_SIZE) ||
		    s->chunk_shift != o->chunk_shift || s->placement != 1)
			goto out;
		dds_leases_clear(&o->leases);
		o->area.offset = le64_to_cpu(s->data_offset) >> SECTOR_SHIFT;
		o->area.slots = le64_to_cpu(s->slots);
		o->area.chunk_shift = o->chunk_shift;
		if (!dds_area_fits(&o->area) || le64_to_cpu(s->data_offset) & (SECTOR_SIZE - 1))
			goto out;
		bad = dds_leases_add(&o->leases, &s->leases, len - offsetof(struct ddsnap_session, leases), o->area.slots);
		if (!bad && o->leases.count && o->leases.runs[0].first != le64_to_cpu(s->position.place))
			bad = -EPROTO;
		if (bad)
			goto out;
		o->epoch = le64_to_cpu(s->epoch);
		o->place = le64_to_cpu(s->position.place);
		o->seq = le64_to_cpu(s->position.seq);
		o->no_space = o->fail_space = o->lease_later = false;
	} else if (err > 0) {
		o->last_error = err;
	}
out:
	spin_unlock_irq(&o->lock);
	renewed = READ_ONCE(o->mode) == DDS_LIVE;
	if (!err && !bad)
		bad = dds_origin_state(o, &s->state, !renewed);
	spin_lock_irq(&o->lock);
	o->asking = false;
	if (!err && !bad) {
		o->mode = DDS_LIVE;
		o->has_session = true;
		o->broken = o->begin = false;
		o->last_error = 0;
	} else if (renewed && err > 0 && err != DDSNAP_E_AWAY) {
		o->fail_broken = true;
	} else if (bad || (o->has_session && err > 0 && err != DDSNAP_E_AWAY)) {
		DMERR("the server's session does not fit (error %d): nothing can be copied out", bad ?: err);
		o->mode = DDS_FAILED;
		o->begin = false;
	}
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	if (err == DDSNAP_E_AWAY || (err > 0 && !o->has_session))
		mod_delayed_work(o->store->io_wq, &o->store->connect, HZ / 10);
	wake_up(&o->wake);
}

void dds_origin_begin(struct dds_origin *o)
{
	spin_lock_irq(&o->lock);
	if ((o->mode == DDS_AWAY || o->broken) && !o->asking) {
		o->begin = true;
		o->stalled = false;
	}
	spin_unlock_irq(&o->lock);
	wake_up(&o->wake);
}

/* Attaches, resumes or renews. No batch is under way, and none begins before the answer. */
static void origin_begin_session(struct dds_origin *o)
{
	struct ddsnap_progress p = {};
	struct kvec parts[2] = { { &p, sizeof(p) }, { (void *)o->failure, o->failure_len } };
	u16 type;
	u32 count;

	spin_lock_irq(&o->lock);
	type = !o->has_session ? DDSNAP_ATTACH : o->mode == DDS_LIVE ? DDSNAP_RENEW : DDSNAP_RESUME;
	count = type == DDSNAP_ATTACH ? 0 : type == DDSNAP_RESUME ? 1 : 2;
	if (o->broken)
		p.flags = cpu_to_le32(DDSNAP_PROGRESS_FAILED);
	o->asking = true;
	o->begin = false;
	dds_leases_clear(&o->leases);	/* from here on they may be another session's */
	spin_unlock_irq(&o->lock);
	memcpy(p.uuid, o->store->uuid, sizeof(p.uuid));
	p.epoch = cpu_to_le64(o->epoch);
	p.generation = cpu_to_le64(o->generation);
	p.position.place = cpu_to_le64(o->place);
	p.position.seq = cpu_to_le64(o->seq);
	if (dds_ask(o->store, &o->session_call, type, parts, count)) {
		spin_lock_irq(&o->lock);
		o->asking = false;
		o->stalled = true;
		spin_unlock_irq(&o->lock);
	}
}

/* The connection has ended. Store->lock is held. */
void dds_origin_lost(struct dds_origin *o)
{
	spin_lock(&o->lock);
	if (o->mode == DDS_LIVE)
		o->mode = DDS_AWAY;
	o->begin = false;
	o->settle.id = 0;
	o->fail_broken = false;
	o->quiescing = false;	/* nobody is to be told; no write begins until a session has */
	spin_unlock(&o->lock);
}

/* ---- state -------------------------------------------------------------------- */

static void writes_ended(struct percpu_ref *ref)
{
	struct dds_origin *o = container_of(ref, struct dds_origin, writes);

	queue_work(o->store->io_wq, &o->quiet);
}

static void origin_quiet(struct work_struct *work)
{
	struct dds_origin *o = container_of(work, struct dds_origin, quiet);
	u64 id = 0;

	spin_lock_irq(&o->lock);
	if (o->quiescing && percpu_ref_is_zero(&o->writes)) {
		id = o->quiesce_id;
		o->quiescing = false;
	}
	spin_unlock_irq(&o->lock);
	if (id)
		dds_answer(o->store, DDSNAP_QUIESCE, id, 0, NULL);
	wake_up(&o->wake);
}

int dds_origin_quiesce(struct dds_origin *o, u64 id)
{
	bool kill;

	spin_lock_irq(&o->lock);
	kill = !o->quiesced;
	o->quiesced = o->quiescing = true;
	o->quiesce_id = id;
	spin_unlock_irq(&o->lock);
	if (kill)
		percpu_ref_kill(&o->writes);
	queue_work(o->store->io_wq, &o->quiet);
	return 0;
}

/*
 * Takes a state over. Only one that ends a quiesce, or comes with a session, may have
 * another generation or size: then there are no writes, or none has begun yet.
 */
int dds_origin_state(struct dds_origin *o, const struct ddsnap_state *st, bool ends_quiesce)
{
	u64 generation = le64_to_cpu(st->generation), size = le64_to_cpu(st->size);
	u64 chunks = DIV_ROUND_UP_ULL(size, 1ull << o->chunk_shift);
	u32 flags = le32_to_cpu(st->flags);
	bool quiet, live = false;
	int err = 0;

	if (flags & ~(DDSNAP_STATE_REVOKED | DDSNAP_STATE_FAILED) || st->zero || !size || size & (SECTOR_SIZE - 1))
		return -EPROTO;
	spin_lock_irq(&o->lock);
	quiet = o->quiesced && percpu_ref_is_zero(&o->writes);
	spin_unlock_irq(&o->lock);
	if (!quiet && (generation != o->generation || chunks != o->chunks))
		return -EPROTO;
	if (quiet && chunks != o->chunks)
		err = settled_resize(o, chunks);
	if (err)
		return err;
	if (quiet && generation != o->generation) {
		bitmap_zero(o->settled, o->chunks);
		/* Only what this origin copies settles a chunk of a generation that begins now. */
		if (o->has_session && o->mode == DDS_LIVE)
			bitmap_fill(o->known, DIV_ROUND_UP_ULL(o->chunks, 1u << DDS_PAGE_SHIFT));
		else
			bitmap_zero(o->known, DIV_ROUND_UP_ULL(o->chunks, 1u << DDS_PAGE_SHIFT));
	}
	spin_lock_irq(&o->lock);
	o->generation = generation;
	o->size = size;
	WRITE_ONCE(o->newest, le64_to_cpu(st->newest));
	WRITE_ONCE(o->largest, le64_to_cpu(st->largest));
	WRITE_ONCE(o->restoring, le64_to_cpu(st->restoring));
	if (flags & DDSNAP_STATE_REVOKED)
		dds_leases_clear(&o->leases);
	if (flags & DDSNAP_STATE_FAILED)
		o->mode = DDS_FAILED;
	if (quiet && ends_quiesce) {
		o->quiesced = false;
		live = true;
	}
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	if (live)
		percpu_ref_reinit(&o->writes);
	wake_up(&o->wake);
	return 0;
}

int dds_origin_settle(struct dds_origin *o, u64 id, u64 first, u64 end)
{
	int err = 0;

	spin_lock_irq(&o->lock);
	if (o->settle.id || first > end)
		err = -EPROTO;
	else
		o->settle = (struct dds_settle){ id, first, first, min(end, o->chunks) };
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	wake_up(&o->wake);
	return err;
}

bool dds_origin_fits(struct dds_origin *o, u64 size)
{
	bool fits;

	spin_lock_irq(&o->lock);
	fits = o->origin_dev && bdev_nr_bytes(o->origin_dev) >= size;
	spin_unlock_irq(&o->lock);
	return fits;
}

/* ---- leases ------------------------------------------------------------------- */

static u64 lease_slots(const struct dds_origin *o)
{
	return max_t(u64, 4, min_t(u64, LEASE_BYTES >> o->chunk_shift, o->area.slots / 16));
}

static void lease_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_origin *o = container_of(call, struct dds_origin, lease_call);
	bool ask = false;

	spin_lock_irq(&o->lock);
	o->leasing = false;
	if (!err) {
		bool headless = !o->leases.count;

		if (o->asking || dds_leases_add(&o->leases, body, len, o->area.slots))
			DMERR("malformed leases");
		else if (headless && o->leases.count)
			o->place = o->leases.runs[0].first;	/* the log goes on there: it had no place */
	} else if (err == DDSNAP_E_NO_SPACE) {
		ask = !o->no_space;
		o->no_space = true;
	} else if (err == DDSNAP_E_LEASES) {
		o->lease_later = true;
	}
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	percpu_ref_put(&o->writes);
	if (ask) {
		__le64 origin = 0;
		struct kvec part = { &origin, sizeof(origin) };

		dds_ask(o->store, &o->space_call, DDSNAP_AWAIT_SPACE, &part, 1);
	}
	wake_up(&o->wake);
}

static void space_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_origin *o = container_of(call, struct dds_origin, space_call);

	spin_lock_irq(&o->lock);
	o->no_space = false;
	if (err == DDSNAP_E_NO_SPACE)
		o->fail_space = true;
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	wake_up(&o->wake);
}

/* Asks for leases if there are few. The caller has a reference of writes. */
static void origin_lease(struct dds_origin *o)
{
	__le64 want = cpu_to_le64(lease_slots(o));
	struct kvec part = { &want, sizeof(want) };
	bool ask;

	spin_lock_irq(&o->lock);
	ask = o->mode == DDS_LIVE && !o->leasing && !o->no_space && !o->lease_later &&
	      dds_leases_free(&o->leases) < lease_slots(o) / 2;
	o->leasing |= ask;
	spin_unlock_irq(&o->lock);
	if (!ask)
		return;
	percpu_ref_get(&o->writes);	/* leases that are under way would outlive their being revoked */
	if (dds_ask(o->store, &o->lease_call, DDSNAP_LEASE, &part, 1)) {
		o->leasing = false;
		percpu_ref_put(&o->writes);
	}
}

/* ---- the copier: what is to be copied ------------------------------------------ */

static int by_chunk(void *priv, const struct list_head *a, const struct list_head *b)
{
	u64 x = list_entry(a, struct dds_io, node)->chunk, y = list_entry(b, struct dds_io, node)->chunk;

	return x > y ? 1 : x < y ? -1 : 0;
}

/* Asks the server which chunks of a page are settled. -EAGAIN: it is away. */
static int origin_learn(struct dds_origin *o, u64 chunk)
{
	u64 page = chunk >> DDS_PAGE_SHIFT, first = page << DDS_PAGE_SHIFT;
	u64 end = min(o->chunks, first + (1u << DDS_PAGE_SHIFT)), i;
	struct ddsnap_range range = { cpu_to_le64(first), cpu_to_le64(end) };
	struct ddsnap_bitmap *map = (void *)o->batches[o->turn]->record;
	u32 len, want = sizeof(*map) + DIV_ROUND_UP(end - first, 64) * sizeof(__le64);
	int err;

	err = dds_ask_wait(o->store, DDSNAP_UNSETTLED, &range, sizeof(range), map, want, &len);
	if (err)
		return err == -ENOTCONN || err == DDSNAP_E_AWAY ? -EAGAIN : -EIO;
	if (len != want || le32_to_cpu(map->number) != end - first)
		return -EIO;
	for (i = first; i < end; i++)
		if (!(le64_to_cpu(map->words[(i - first) / 64]) >> ((i - first) % 64) & 1))
			set_bit(i, o->settled);
	set_bit(page, o->known);
	return 0;
}

enum dds_need { NEED_NOTHING, NEED_FLYING, NEED_COPY, NEED_SERVER, NEED_ERROR };

static enum dds_need origin_needs(struct dds_origin *o, u64 chunk)
{
	int err;

	if (is_settled(o, chunk))
		return NEED_NOTHING;
	if (o->flying && dds_batch_has(o->flying, chunk))
		return NEED_FLYING;
	if (test_bit(chunk >> DDS_PAGE_SHIFT, o->known))
		return NEED_COPY;
	err = origin_learn(o, chunk);
	if (err)
		return err == -EAGAIN ? NEED_SERVER : NEED_ERROR;
	return is_settled(o, chunk) ? NEED_NOTHING : NEED_COPY;
}

/* Gives the chunk a slot in the batch, if there is one. */
static bool origin_add(struct dds_origin *o, struct dds_batch *b, u64 chunk)
{
	bool added = false;

	if (o->single && b->count)
		return false;
	spin_lock_irq(&o->lock);
	if (dds_leases_free(&o->leases)) {
		added = dds_batch_add(b, chunk, dds_leases_at(&o->leases, 1 + o->leases.taken));
		o->leases.taken += added;
	}
	spin_unlock_irq(&o->lock);
	return added;
}

/* Puts what waits into the batch, ascending, and lets go what need not wait. */
static void origin_gather(struct dds_origin *o, struct dds_batch *b)
{
	struct dds_io *io, *next;
	bool fail_space;

	spin_lock_irq(&o->lock);
	fail_space = o->fail_space && !dds_leases_free(&o->leases);
	o->fail_space = false;
	spin_unlock_irq(&o->lock);
	list_sort(NULL, &o->todo, by_chunk);
	list_for_each_entry_safe(io, next, &o->todo, node) {
		if (io->chunk >= o->chunks) {	/* the origin was made smaller */
			list_del(&io->node);
			origin_end(io, BLK_STS_IOERR);
			continue;
		}
		if (b->count && b->copies[b->count - 1].chunk == io->chunk) {
			list_move_tail(&io->node, &b->bios);
			continue;
		}
		switch (origin_needs(o, io->chunk)) {
		case NEED_NOTHING:
			list_del(&io->node);
			origin_release(o, io);
			break;
		case NEED_FLYING:
			list_move_tail(&io->node, &o->flying->bios);
			break;
		case NEED_COPY:
			if (o->mode == DDS_FAILED) {
				list_del(&io->node);
				origin_end(io, BLK_STS_IOERR);
			} else if (origin_add(o, b, io->chunk)) {
				list_move_tail(&io->node, &b->bios);
			} else if (!b->count && fail_space) {
				list_del(&io->node);
				origin_end(io, BLK_STS_NOSPC);
			}
			break;
		case NEED_SERVER:
			break;
		case NEED_ERROR:
			list_del(&io->node);
			origin_end(io, BLK_STS_IOERR);
			break;
		}
	}
}

/* Goes on with what the server wants to be settled: into an empty batch only. */
static void origin_gather_settle(struct dds_origin *o, struct dds_batch *b)
{
	struct dds_settle *s = &o->settle;
	enum dds_need need;

	if (!s->id || b->count)
		return;
	for (; s->next < s->end; s->next++) {
		need = origin_needs(o, s->next);
		if (need == NEED_SERVER || need == NEED_ERROR || need == NEED_FLYING)
			break;
		if (need == NEED_COPY && !origin_add(o, b, s->next))
			break;
	}
}

/* Answers the request to settle once all is durable. No batch is under way. */
static void origin_settled(struct dds_origin *o)
{
	u64 id = 0;
	u32 code = 0;

	spin_lock_irq(&o->lock);
	if (o->settle.id && (o->settle.next >= o->settle.end || o->mode == DDS_FAILED || o->fail_space)) {
		id = o->settle.id;
		code = o->mode == DDS_FAILED ? DDSNAP_E_STORE_FAILED : o->settle.next < o->settle.end ? DDSNAP_E_NO_SPACE : 0;
		o->settle.id = 0;
	}
	spin_unlock_irq(&o->lock);
	if (id)
		dds_answer(o->store, DDSNAP_SETTLE, id, code, code ? "not all chunks could be copied out" : NULL);
}

/* Gives a batch that was not made durable up: what waits for it waits on. */
static void origin_give_up(struct dds_origin *o, struct dds_batch *b)
{
	list_splice_init(&b->bios, &o->todo);
	spin_lock_irq(&o->lock);
	o->leases.taken = 0;
	o->settle.next = o->settle.first;
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	percpu_ref_put(&o->writes);
}

/* Reads the next batch. NULL: there is nothing to copy, or it cannot be now. */
static struct dds_batch *origin_prepare(struct dds_origin *o)
{
	struct dds_batch *b = o->batches[o->turn];
	struct dds_io *io;
	bool stop;

	spin_lock_irq(&o->lock);
	o->stalled = true;	/* unless something comes */
	list_splice_tail_init(&o->held, &o->todo);
	stop = o->begin || o->asking || o->broken || o->park || o->restoring || !o->has_session;
	spin_unlock_irq(&o->lock);
	if (stop || !percpu_ref_tryget_live(&o->writes))
		return NULL;
	dds_batch_reset(b, o->generation);
	origin_lease(o);
	origin_gather(o, b);
	origin_gather_settle(o, b);
	if (!b->count)
		goto none;
	if (dds_batch_read(b, o->io, o->origin_dev, o->size >> SECTOR_SHIFT)) {
		while (o->single && !list_empty(&b->bios)) {	/* what cannot be read cannot be kept */
			io = list_first_entry(&b->bios, struct dds_io, node);
			list_del(&io->node);
			origin_end(io, BLK_STS_IOERR);
		}
		o->single = true;
		origin_give_up(o, b);
		return NULL;
	}
	o->single = false;
	o->turn = 1 - o->turn;
	return b;
none:
	percpu_ref_put(&o->writes);
	return NULL;
}

/* ---- the copier: making it durable --------------------------------------------- */

/* Begins to write a batch that was read. */
static void origin_commit(struct dds_origin *o, struct dds_batch *b)
{
	spin_lock_irq(&o->lock);
	b->seq = o->seq;
	b->head = o->place;
	b->next = dds_leases_at(&o->leases, 1 + o->leases.taken);
	dds_leases_pass(&o->leases);
	o->seq++;
	o->place = b->next;
	o->lease_later = false;
	spin_unlock_irq(&o->lock);
	dds_batch_write(b, o->io, &o->area, o->store->uuid, o->epoch);
	o->flying = b;
}

/* Tells the server of a durable batch, before any write that it was made for goes. */
static void origin_report(struct dds_origin *o, struct dds_batch *b)
{
	struct ddsnap_report r = {
		.position.place = cpu_to_le64(b->next), .position.seq = cpu_to_le64(b->seq + 1),
		.head = cpu_to_le64(b->head), .flags = cpu_to_le32(1),
	};
	struct kvec parts[2] = {
		{ &r, offsetof(struct ddsnap_report, batch) }, { b->record, b->record_len },
	};

	if (READ_ONCE(o->mode) == DDS_LIVE)
		dds_tell(o->store, DDSNAP_REPORT, parts, 2);
}

/* No batch may follow one that failed: the server is to begin another session. */
static void origin_break(struct dds_origin *o, struct dds_batch *b, int err)
{
	static const char reason[] = "writing a batch to the store device failed";
	struct failure {
		__le32 len, zero;
		char text[sizeof(reason) - 1];
	} __packed;
	struct failure *f = (void *)b->record;

	DMERR("%pUb: batch %llu could not be written (error %d)", o->store->uuid, b->seq, err);
	f->len = cpu_to_le32(sizeof(f->text));
	f->zero = 0;
	memcpy(f->text, reason, sizeof(f->text));
	o->failure = f;
	o->failure_len = sizeof(*f) + dds_batch_code_slots(b, (void *)(f + 1));
	spin_lock_irq(&o->lock);
	o->broken = true;
	o->begin = o->mode == DDS_LIVE;
	o->place = b->head;
	o->seq = b->seq;
	spin_unlock_irq(&o->lock);
	origin_give_up(o, b);
}

/* Waits for the batch under way, and lets go what waits for it. */
static void origin_finish(struct dds_origin *o)
{
	struct dds_batch *b = o->flying;
	struct blk_plug plug;
	struct dds_io *io;
	int err;
	u32 i;

	err = dds_batch_wait(b, &o->area);
	o->flying = NULL;
	if (err) {
		origin_break(o, b, err);
		return;
	}
	origin_report(o, b);
	for (i = 0; i < b->count; i++)
		set_bit(b->copies[i].chunk, o->settled);
	dds_snapshots_copied(o->store, b);
	WRITE_ONCE(o->batch_count, o->batch_count + 1);
	WRITE_ONCE(o->copied, o->copied + b->count);
	blk_start_plug(&plug);	/* they were cut at the chunks, and are neighbours again */
	while (!list_empty(&b->bios)) {
		io = list_first_entry(&b->bios, struct dds_io, node);
		list_del(&io->node);
		origin_release(o, io);
	}
	blk_finish_plug(&plug);
	percpu_ref_put(&o->writes);
	spin_lock_irq(&o->lock);
	o->stalled = false;
	spin_unlock_irq(&o->lock);
}

/* Ends the held bios for which that is due: all of them, or those that waited too long. */
static void origin_expire(struct dds_origin *o)
{
	unsigned long timeout = READ_ONCE(o->hold_timeout) * HZ;
	struct dds_io *io, *next;
	bool back, fail;

	spin_lock_irq(&o->lock);
	list_splice_tail_init(&o->held, &o->todo);
	back = o->push_back;
	fail = o->fail_broken;
	o->fail_broken = false;
	spin_unlock_irq(&o->lock);
	list_for_each_entry_safe(io, next, &o->todo, node) {
		if (!back && !fail && !(timeout && time_after(jiffies, io->since + timeout)))
			continue;
		list_del(&io->node);
		origin_end(io, back ? BLK_STS_DM_REQUEUE : fail ? BLK_STS_IOERR : BLK_STS_TIMEOUT);
	}
}

/* Whether a session can be begun: no write is under way that the server asked to end. */
static bool may_begin(struct dds_origin *o)
{
	return o->begin && !o->asking && (!o->quiesced || percpu_ref_is_zero(&o->writes));
}

static bool copier_wakes(struct dds_origin *o)
{
	bool wakes;

	spin_lock_irq(&o->lock);
	if (o->parked)
		wakes = !o->park || kthread_should_stop();
	else
		wakes = o->flying || o->park || may_begin(o) || kthread_should_stop() ||
			((!o->stalled || o->push_back) && (!list_empty(&o->held) || !list_empty(&o->todo))) ||
			(!o->stalled && o->settle.id);
	spin_unlock_irq(&o->lock);
	return wakes;
}

static void copier_turn(struct dds_origin *o)
{
	struct dds_batch *b;
	bool begin, park;

	b = origin_prepare(o);
	if (o->flying)
		origin_finish(o);
	if (b && o->broken) {
		origin_give_up(o, b);
	} else if (b) {
		origin_commit(o, b);
		return;
	}
	origin_settled(o);
	origin_expire(o);
	spin_lock_irq(&o->lock);
	begin = may_begin(o);
	park = o->park;
	spin_unlock_irq(&o->lock);
	if (begin)
		origin_begin_session(o);
	if (park && !o->parked) {
		spin_lock_irq(&o->lock);
		o->parked = true;
		spin_unlock_irq(&o->lock);
		wake_up_all(&o->wake);
	}
}

static int copier(void *data)
{
	struct dds_origin *o = data;
	unsigned int noio = memalloc_noio_save();
	bool parked;

	while (!kthread_should_stop()) {
		wait_event_idle_timeout(o->wake, copier_wakes(o), HZ);
		spin_lock_irq(&o->lock);
		if (o->parked && !o->park)
			o->parked = false;
		parked = o->parked;
		spin_unlock_irq(&o->lock);
		if (!parked)
			copier_turn(o);
	}
	memalloc_noio_restore(noio);
	return 0;
}

/* ---- life --------------------------------------------------------------------- */

static void origin_free(struct dds_origin *o)
{
	if (o->copier)
		kthread_stop(o->copier);
	dds_batch_free(o->batches[0]);
	dds_batch_free(o->batches[1]);
	if (o->io)
		dm_io_client_destroy(o->io);
	dds_leases_exit(&o->leases);
	if (o->writes.data)
		percpu_ref_exit(&o->writes);
	free_percpu(o->counts);
	vfree(o->settled);
	vfree(o->known);
	kfree(o);
}

static int origin_alloc(struct dds_origin *o, u64 chunks)
{
	u32 batch = max(1u, o->batch_bytes >> o->chunk_shift), i;
	int err;

	err = percpu_ref_init(&o->writes, writes_ended, PERCPU_REF_INIT_DEAD | PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
	if (err)
		return err;
	err = settled_resize(o, chunks) ?: dds_leases_init(&o->leases);
	if (err)
		return err;
	for (i = 0; i < 2; i++) {
		o->batches[i] = dds_batch_new(batch, o->chunk_shift);
		if (!o->batches[i])
			return -ENOMEM;
	}
	o->counts = alloc_percpu(struct dds_counts);
	if (!o->counts)
		return -ENOMEM;
	o->io = dm_io_client_create();
	if (IS_ERR(o->io)) {
		err = PTR_ERR(o->io);
		o->io = NULL;
		return err;
	}
	o->copier = kthread_run(copier, o, "ddsnap-copy");
	if (IS_ERR(o->copier)) {
		err = PTR_ERR(o->copier);
		o->copier = NULL;
	}
	return err;
}

static struct dds_origin *origin_new(struct dds_store *s, u32 chunk_shift, u32 batch_bytes, u64 chunks)
{
	struct dds_origin *o = kzalloc(sizeof(*o), GFP_KERNEL);
	int err;

	if (!o)
		return ERR_PTR(-ENOMEM);
	o->store = s;
	o->chunk_shift = chunk_shift;
	o->batch_bytes = batch_bytes;
	o->quiesced = true;	/* until it has a session */
	o->park = o->parked = true;
	spin_lock_init(&o->lock);
	init_waitqueue_head(&o->wake);
	INIT_LIST_HEAD(&o->held);
	INIT_LIST_HEAD(&o->todo);
	INIT_WORK(&o->quiet, origin_quiet);
	o->lease_call.done = lease_done;
	o->space_call.done = space_done;
	o->session_call.done = session_done;
	INIT_LIST_HEAD(&o->lease_call.node);
	INIT_LIST_HEAD(&o->space_call.node);
	INIT_LIST_HEAD(&o->session_call.node);
	err = origin_alloc(o, chunks);
	if (err) {
		origin_free(o);
		return ERR_PTR(err);
	}
	return o;
}

int dds_origin_get(struct dds_store *s, u32 chunk_shift, u32 batch_bytes, u64 chunks, struct dds_origin **got, char **error)
{
	struct dds_origin *o;
	int err = 0;

	mutex_lock(&s->targets);
	o = s->origin;
	if (!o) {
		o = origin_new(s, chunk_shift, batch_bytes, chunks);
		if (IS_ERR(o)) {
			err = PTR_ERR(o);
			*error = "Cannot allocate the origin";
			goto out;
		}
		spin_lock_irq(&s->lock);
		s->origin = o;
		spin_unlock_irq(&s->lock);
	} else if (o->chunk_shift != chunk_shift) {
		err = -EINVAL;
		*error = "The store's origin has another chunk size";
		goto out;
	}
	o->targets++;
	*got = o;
out:
	mutex_unlock(&s->targets);
	return err;
}

void dds_origin_put(struct dds_origin *o)
{
	struct dds_store *s = o->store;
	u32 got;

	mutex_lock(&s->targets);
	if (--o->targets) {
		mutex_unlock(&s->targets);
		return;
	}
	if (READ_ONCE(o->mode) == DDS_LIVE)
		dds_ask_wait(s, DDSNAP_DETACH, NULL, 0, NULL, 0, &got);
	spin_lock_irq(&s->lock);
	s->origin = NULL;
	spin_unlock_irq(&s->lock);
	mutex_unlock(&s->targets);
	dds_cancel(s, &o->session_call);
	dds_cancel(s, &o->lease_call);
	dds_cancel(s, &o->space_call);
	flush_work(&o->quiet);
	origin_free(o);
}

void dds_origin_resume(struct dds_origin *o, struct block_device *origin, struct block_device *store)
{
	spin_lock_irq(&o->lock);
	o->origin_dev = origin;
	o->area.bdev = store;
	o->park = false;
	o->push_back = false;
	o->stalled = false;
	spin_unlock_irq(&o->lock);
	wake_up_all(&o->wake);
	dds_store_connect(o->store);
}

void dds_origin_park(struct dds_origin *o)
{
	spin_lock_irq(&o->lock);
	o->park = true;
	spin_unlock_irq(&o->lock);
	wake_up_all(&o->wake);
	wait_event(o->wake, READ_ONCE(o->parked));
}

void dds_origin_push_back(struct dds_origin *o, bool on)
{
	spin_lock_irq(&o->lock);
	o->push_back = on;
	spin_unlock_irq(&o->lock);
	wake_up_all(&o->wake);
}
