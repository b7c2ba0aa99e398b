// SPDX-License-Identifier: GPL-2.0
/*
 * The origin. Reads, and writes of settled chunks, are remapped in the map function: they
 * take a reference of a per-CPU counter and look at a bit. All other writes are held for
 * the copier, one work item an origin. It takes what waits, reads the old chunks, writes
 * them as one batch into leased slots, and lets the writes go; while one batch is being
 * written, the next is read. It waits for the server only when it does not know whether a
 * chunk is settled.
 *
 * A change of generation ends the writes under way through the counter. Only the
 * dispatcher changes the state, so that it changes in the order of the messages.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-ddsnap.h"

#define LEASE_BYTES	(64u << 20)	/* of slots to ask for at a time */
#define RETRY_MS	100		/* before a server that is away is asked again */
#define MAX_BITMAP	(1ull << 30)	/* bytes of the settled map, at most */

/* ---- what needs a copy-out ---------------------------------------------------- */

/* Whether a write to the chunk may go. The generation is fixed: a reference is held. */
static inline bool is_settled(const struct dds_origin *o, u64 chunk)
{
	return test_bit(chunk, o->settled) || !READ_ONCE(o->newest) ||
	       (READ_ONCE(o->largest) && chunk << o->vol.chunk_shift >= READ_ONCE(o->largest));
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

int dds_origin_map(struct dds_origin *o, struct bio *bio)
{
	u32 shift = o->vol.chunk_shift - SECTOR_SHIFT;
	bool read = bio_op(bio) == REQ_OP_READ;
	struct dds_io *io = dds_io(bio);
	u64 last;

	io->flags = 0;
	bio_set_dev(bio, o->vol.origin_dev);
	if (!bio_sectors(bio))	/* a flush */
		return DM_MAPIO_REMAPPED;
	if (read)
		this_cpu_inc(o->counts->reads);
	else
		this_cpu_inc(o->counts->writes);
	if (read && !READ_ONCE(o->restoring))
		return DM_MAPIO_REMAPPED;
	io->chunk = bio->bi_iter.bi_sector >> shift;
	if (!read && percpu_ref_tryget_live(&o->vol.ios)) {
		last = (bio_end_sector(bio) - 1) >> shift;
		if (last < o->chunks && !o->restoring && is_settled(o, io->chunk)) {
			io->flags = DDS_IO_COUNTED;
			while (io->chunk < last && is_settled(o, io->chunk + 1))
				io->chunk++;
			dds_cut(bio, (io->chunk + 1) << shift);
			return DM_MAPIO_REMAPPED;
		}
		percpu_ref_put(&o->vol.ios);
	}
	if (bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	dds_cut(bio, (io->chunk + 1) << shift);
	this_cpu_inc(o->counts->held);
	dds_hold(&o->vol, io);
	return DM_MAPIO_SUBMITTED;
}

/* ---- the session -------------------------------------------------------------- */

static void session_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_origin *o = container_of(call, struct dds_origin, session_call);
	const struct ddsnap_session *s = body;
	bool renewed;
	int bad = 0;

	spin_lock_irq(&o->vol.lock);
	if (!err) {
		bad = -EPROTO;
		if (len < sizeof(*s) || memcmp(s->uuid, o->vol.store->uuid, DDS_UUID_SIZE) ||
		    s->chunk_shift != o->vol.chunk_shift || s->placement != 1)
			goto out;
		dds_leases_clear(&o->leases);
		o->vol.area.offset = le64_to_cpu(s->data_offset) >> SECTOR_SHIFT;
		o->vol.area.slots = le64_to_cpu(s->slots);
		if (!dds_area_fits(&o->vol.area) || le64_to_cpu(s->data_offset) & (SECTOR_SIZE - 1))
			goto out;
		bad = dds_leases_add(&o->leases, &s->leases, len - offsetof(struct ddsnap_session, leases), o->vol.area.slots);
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
	spin_unlock_irq(&o->vol.lock);
	renewed = READ_ONCE(o->mode) == DDS_LIVE;
	if (!err && !bad)
		bad = dds_origin_state(o, &s->state, !renewed);
	spin_lock_irq(&o->vol.lock);
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
	spin_unlock_irq(&o->vol.lock);
	if (err == DDSNAP_E_AWAY || (err > 0 && !o->has_session))
		mod_delayed_work(o->vol.store->io_wq, &o->vol.store->connect, HZ / 10);
	dds_kick(&o->vol);
}

void dds_origin_begin(struct dds_origin *o)
{
	spin_lock_irq(&o->vol.lock);
	if ((o->mode == DDS_AWAY || o->broken) && !o->asking)
		o->begin = true;
	spin_unlock_irq(&o->vol.lock);
	dds_kick(&o->vol);
}

/*
 * Attaches, resumes or renews if that is due, and no write is under way that the server
 * asked to end. No batch is under way, and none begins before the answer.
 */
static void origin_begin_session(struct dds_origin *o)
{
	struct ddsnap_progress p = {};
	struct kvec parts[2] = { { &p, sizeof(p) }, { (void *)o->failure, o->failure_len } };
	u16 type;
	u32 count;

	spin_lock_irq(&o->vol.lock);
	if (!o->begin || o->asking || o->vol.parked || (o->vol.closed && !dds_is_quiet(&o->vol))) {
		spin_unlock_irq(&o->vol.lock);
		return;
	}
	type = !o->has_session ? DDSNAP_ATTACH : o->mode == DDS_LIVE ? DDSNAP_RENEW : DDSNAP_RESUME;
	count = type == DDSNAP_ATTACH ? 0 : type == DDSNAP_RESUME ? 1 : 2;
	if (o->broken)
		p.flags = cpu_to_le32(DDSNAP_PROGRESS_FAILED);
	o->asking = true;
	o->begin = false;
	dds_leases_clear(&o->leases);	/* from here on they may be another session's */
	spin_unlock_irq(&o->vol.lock);
	memcpy(p.uuid, o->vol.store->uuid, sizeof(p.uuid));
	p.epoch = cpu_to_le64(o->epoch);
	p.generation = cpu_to_le64(o->generation);
	p.position.place = cpu_to_le64(o->place);
	p.position.seq = cpu_to_le64(o->seq);
	if (dds_ask(o->vol.store, &o->session_call, type, parts, count)) {
		spin_lock_irq(&o->vol.lock);
		o->asking = false;
		spin_unlock_irq(&o->vol.lock);
	}
}

/* The connection has ended. Store->lock is held. */
void dds_origin_lost(struct dds_origin *o)
{
	spin_lock(&o->vol.lock);
	if (o->mode == DDS_LIVE)
		o->mode = DDS_AWAY;
	o->begin = false;
	o->settle.id = 0;
	o->fail_broken = false;
	o->vol.quiesce_id = 0;	/* nobody is to be told; no write begins until a session has */
	spin_unlock(&o->vol.lock);
}

/* ---- state -------------------------------------------------------------------- */

/*
 * Takes a state over. Only one that ends a quiesce, or comes with a session, may have
 * another generation or size: then there are no writes, or none has begun yet.
 */
int dds_origin_state(struct dds_origin *o, const struct ddsnap_state *st, bool ends_quiesce)
{
	u64 generation = le64_to_cpu(st->generation), size = le64_to_cpu(st->size);
	u64 chunks = DIV_ROUND_UP_ULL(size, 1ull << o->vol.chunk_shift);
	u32 flags = le32_to_cpu(st->flags);
	bool quiet = dds_is_quiet(&o->vol);
	int err = 0;

	if (flags & ~(DDSNAP_STATE_REVOKED | DDSNAP_STATE_FAILED) || st->zero || !size || size & (SECTOR_SIZE - 1))
		return -EPROTO;
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
	spin_lock_irq(&o->vol.lock);
	o->generation = generation;
	o->size = size;
	WRITE_ONCE(o->newest, le64_to_cpu(st->newest));
	WRITE_ONCE(o->largest, le64_to_cpu(st->largest));
	WRITE_ONCE(o->restoring, le64_to_cpu(st->restoring));
	if (flags & DDSNAP_STATE_REVOKED)
		dds_leases_clear(&o->leases);
	if (flags & DDSNAP_STATE_FAILED)
		o->mode = DDS_FAILED;
	spin_unlock_irq(&o->vol.lock);
	if (quiet && ends_quiesce)
		dds_open(&o->vol);
	else
		dds_kick(&o->vol);
	return 0;
}

int dds_origin_settle(struct dds_origin *o, u64 id, u64 first, u64 end)
{
	int err = 0;

	spin_lock_irq(&o->vol.lock);
	if (o->settle.id || first > end)
		err = -EPROTO;
	else
		o->settle = (struct dds_settle){ id, first, first, min(end, o->chunks) };
	spin_unlock_irq(&o->vol.lock);
	dds_kick(&o->vol);
	return err;
}

bool dds_origin_fits(struct dds_origin *o, u64 size)
{
	bool fits;

	spin_lock_irq(&o->vol.lock);
	fits = o->vol.origin_dev && bdev_nr_bytes(o->vol.origin_dev) >= size;
	spin_unlock_irq(&o->vol.lock);
	return fits;
}

/* ---- leases ------------------------------------------------------------------- */

static u64 lease_slots(const struct dds_origin *o)
{
	return max_t(u64, 4, min_t(u64, LEASE_BYTES >> o->vol.chunk_shift, o->vol.area.slots / 16));
}

static void lease_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_origin *o = container_of(call, struct dds_origin, lease_call);

	spin_lock_irq(&o->vol.lock);
	o->leasing = false;
	if (!err) {
		bool headless = !o->leases.count;

		if (o->asking || dds_leases_add(&o->leases, body, len, o->vol.area.slots))
			DMERR("malformed leases");
		else if (headless && o->leases.count)
			o->place = o->leases.runs[0].first;	/* the log goes on there: it had no place */
	} else if (err == DDSNAP_E_NO_SPACE) {
		o->no_space = true;
	} else if (err == DDSNAP_E_LEASES) {
		o->lease_later = true;
	}
	spin_unlock_irq(&o->vol.lock);
	percpu_ref_put(&o->vol.ios);
	dds_kick(&o->vol);
}

static void space_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_origin *o = container_of(call, struct dds_origin, space_call);

	spin_lock_irq(&o->vol.lock);
	o->no_space = o->awaiting = false;
	if (err == DDSNAP_E_NO_SPACE)
		o->fail_space = true;
	else if (err == DDSNAP_E_OTHER)
		o->fail_broken = true;	/* the only free slots cannot be written */
	spin_unlock_irq(&o->vol.lock);
	dds_kick(&o->vol);
}

/* A write waits for a slot. Only for that is the server asked for space: it may drop a snapshot. */
static void origin_await_space(struct dds_origin *o)
{
	__le64 origin = 0;
	struct kvec part = { &origin, sizeof(origin) };
	bool ask;

	spin_lock_irq(&o->vol.lock);
	ask = o->mode == DDS_LIVE && o->no_space && !o->awaiting && !dds_leases_free(&o->leases);
	o->awaiting |= ask;
	spin_unlock_irq(&o->vol.lock);
	if (ask && dds_ask(o->vol.store, &o->space_call, DDSNAP_AWAIT_SPACE, &part, 1)) {
		spin_lock_irq(&o->vol.lock);
		o->awaiting = false;
		spin_unlock_irq(&o->vol.lock);
	}
}

/* Asks for leases if there are few. The caller has a reference of writes. */
static void origin_lease(struct dds_origin *o)
{
	__le64 want = cpu_to_le64(lease_slots(o));
	struct kvec part = { &want, sizeof(want) };
	bool ask;

	spin_lock_irq(&o->vol.lock);
	ask = o->mode == DDS_LIVE && !o->leasing && !o->no_space && !o->lease_later &&
	      dds_leases_free(&o->leases) < lease_slots(o) / 2;
	o->leasing |= ask;
	spin_unlock_irq(&o->vol.lock);
	if (!ask)
		return;
	percpu_ref_get(&o->vol.ios);	/* leases that are under way would outlive their being revoked */
	if (dds_ask(o->vol.store, &o->lease_call, DDSNAP_LEASE, &part, 1)) {
		o->leasing = false;
		percpu_ref_put(&o->vol.ios);
	}
}

/* ---- the copier: what is to be copied ------------------------------------------ */

/* Asks the server which chunks of a page are settled. -EAGAIN: it is away. */
static int origin_learn(struct dds_origin *o, u64 chunk)
{
	u64 page = chunk >> DDS_PAGE_SHIFT, first = page << DDS_PAGE_SHIFT;
	u64 end = min(o->chunks, first + (1u << DDS_PAGE_SHIFT)), i;
	struct ddsnap_range range = { cpu_to_le64(first), cpu_to_le64(end) };
	struct ddsnap_bitmap *map = (void *)o->batches[o->turn]->record;
	u32 len, want = sizeof(*map) + DIV_ROUND_UP(end - first, 64) * sizeof(__le64);
	int err;

	err = dds_ask_wait(o->vol.store, DDSNAP_UNSETTLED, &range, sizeof(range), map, want, &len);
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

	if (o->singles && b->count)
		return false;
	spin_lock_irq(&o->vol.lock);
	if (dds_leases_free(&o->leases)) {
		added = dds_batch_add(b, chunk, dds_leases_at(&o->leases, 1 + o->leases.taken));
		o->leases.taken += added;
	}
	spin_unlock_irq(&o->vol.lock);
	return added;
}

/*
 * Lets a held read go. While the origin is restored it goes to where the server says;
 * that holds until the read has ended, for the end of the restore waits for it.
 */
static void origin_read(struct dds_origin *o, struct dds_io *io)
{
	struct ddsnap_handle_range q = { cpu_to_le64(o->restoring), { cpu_to_le64(io->chunk), cpu_to_le64(io->chunk + 1) } };
	u8 reply[sizeof(struct ddsnap_mappings) + sizeof(struct ddsnap_mapping)] __aligned(8);
	struct dds_known k;
	int err = 0;
	u32 len;

	if (o->restoring) {
		err = dds_ask_wait(o->vol.store, DDSNAP_MAP_RESTORING, &q, sizeof(q), reply, sizeof(reply), &len);
		if (err == -ENOTCONN || err == DDSNAP_E_AWAY || err == DDSNAP_E_STALE) {
			dds_kick_later(&o->vol, RETRY_MS);
			return;
		}
		if (!err)
			err = dds_find_mapping(&o->vol, reply, len, io->chunk, io->chunk + 1, io->chunk, &k);
		if (!err && k.kind == DDSNAP_LOST)
			err = -EIO;
		if (!err)
			dds_point(&o->vol, io, &k);
	}
	list_del(&io->node);
	if (err)
		dds_end(io, BLK_STS_IOERR);
	else
		dds_release(&o->vol, io);
}

/*
 * Puts what waits into the batch, ascending, and lets go what need not wait. No write
 * may go while the origin is restored.
 */
static void origin_gather(struct dds_origin *o, struct dds_batch *b)
{
	struct dds_io *io, *next;
	bool fail_space;

	spin_lock_irq(&o->vol.lock);
	fail_space = o->fail_space && !dds_leases_free(&o->leases);
	spin_unlock_irq(&o->vol.lock);
	list_for_each_entry_safe(io, next, &o->todo, node) {
		if (io->chunk >= o->chunks) {	/* the origin was made smaller */
			list_del(&io->node);
			dds_end(io, BLK_STS_IOERR);
			continue;
		}
		if (bio_op(dds_bio(io)) == REQ_OP_READ) {
			origin_read(o, io);
			continue;
		}
		if (o->restoring)
			continue;
		if (b->count && b->copies[b->count - 1].chunk == io->chunk) {
			list_move_tail(&io->node, &b->bios);
			continue;
		}
		switch (origin_needs(o, io->chunk)) {
		case NEED_NOTHING:
			list_del(&io->node);
			dds_release(&o->vol, io);
			break;
		case NEED_FLYING:
			list_move_tail(&io->node, &o->flying->bios);
			break;
		case NEED_COPY:
			if (o->mode == DDS_FAILED) {
				list_del(&io->node);
				dds_end(io, BLK_STS_IOERR);
			} else if (origin_add(o, b, io->chunk)) {
				list_move_tail(&io->node, &b->bios);
			} else if (!b->count && fail_space) {
				list_del(&io->node);
				dds_end(io, BLK_STS_NOSPC);
			} else if (!b->count) {
				origin_await_space(o);
			}
			break;
		case NEED_SERVER:
			break;
		case NEED_ERROR:
			list_del(&io->node);
			dds_end(io, BLK_STS_IOERR);
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
		if (need == NEED_COPY && !origin_add(o, b, s->next)) {
			if (!b->count)
				origin_await_space(o);
			break;
		}
	}
}

/* Answers the request to settle once all is durable. No batch is under way. */
static void origin_settled(struct dds_origin *o)
{
	u64 id = 0;
	u32 code = 0;

	spin_lock_irq(&o->vol.lock);
	if (o->settle.next < o->settle.end) {
		if (o->mode == DDS_FAILED)
			code = DDSNAP_E_STORE_FAILED;
		else if (o->settle.unreadable)
			code = DDSNAP_E_OTHER;
		else if (o->fail_space && !dds_leases_free(&o->leases))
			code = DDSNAP_E_NO_SPACE;
	}
	if (code || o->settle.next >= o->settle.end)
		swap(id, o->settle.id);
	o->fail_space = false;
	spin_unlock_irq(&o->vol.lock);
	if (id)
		dds_answer(o->vol.store, DDSNAP_SETTLE, id, code, code ? "not all chunks could be copied out" : NULL);
}

/* Gives a batch that was not made durable up: what waits for it waits on. */
static void origin_give_up(struct dds_origin *o, struct dds_batch *b)
{
	list_splice_init(&b->bios, &o->todo);
	spin_lock_irq(&o->vol.lock);
	o->leases.taken = 0;
	o->settle.next = o->settle.first;
	spin_unlock_irq(&o->vol.lock);
	percpu_ref_put(&o->vol.ios);
	dds_kick(&o->vol);
}

/*
 * Decides about a batch that could not be read. One of several chunks is tried again a
 * chunk at a time, so that a bad sector takes one of them along. That is lost to the
 * snapshots for a write only, and if the origin can be read elsewhere: it may all be
 * there again later. 0: the batch can be written.
 */
static int origin_judge(struct dds_origin *o, struct dds_batch *b)
{
	struct dds_io *io;
	int err;

	if (!o->singles) {
		o->singles = b->count;
		return -EAGAIN;
	}
	err = dds_batch_read_again(b, o->io, o->vol.origin_dev, o->size >> SECTOR_SHIFT);
	if (!err)
		return 0;
	DMERR_LIMIT("%pUb: chunk %llu, which snapshots need, cannot be read", o->vol.store->uuid, b->copies[0].chunk);
	if (err == -ENODATA && !READ_ONCE(o->fail_write) && !list_empty(&b->bios)) {
		dds_batch_lose(b);
		spin_lock_irq(&o->vol.lock);
		o->leases.taken = 0;
		spin_unlock_irq(&o->vol.lock);
		return 0;
	}
	if (list_empty(&b->bios))
		o->settle.unreadable = true;
	while (!list_empty(&b->bios)) {
		io = list_first_entry(&b->bios, struct dds_io, node);
		list_del(&io->node);
		dds_end(io, BLK_STS_IOERR);
	}
	o->singles--;
	return err;
}

/* Reads the next batch. NULL: there is nothing to copy, or it cannot be now. */
static struct dds_batch *origin_prepare(struct dds_origin *o)
{
	struct dds_batch *b = o->batches[o->turn];
	bool stop;

	spin_lock_irq(&o->vol.lock);
	if (o->broken && o->mode == DDS_LIVE && !o->asking && !list_empty(&o->vol.held))
		o->begin = true;	/* the server may think otherwise now */
	stop = o->begin || o->asking || o->broken || !o->has_session;
	spin_unlock_irq(&o->vol.lock);
	if (!dds_take(&o->vol, &o->todo) || stop || !percpu_ref_tryget_live(&o->vol.ios))
		return NULL;
	dds_batch_reset(b, o->generation);
	origin_lease(o);
	origin_gather(o, b);
	origin_gather_settle(o, b);
	if (!b->count)
		goto none;
	if (dds_batch_read(b, o->io, o->vol.origin_dev, o->size >> SECTOR_SHIFT) && origin_judge(o, b)) {
		origin_give_up(o, b);
		return NULL;
	}
	o->singles -= !!o->singles;
	o->turn = 1 - o->turn;
	return b;
none:
	percpu_ref_put(&o->vol.ios);
	return NULL;
}

/* ---- the copier: making it durable --------------------------------------------- */

/* Begins to write a batch that was read. */
static void origin_commit(struct dds_origin *o, struct dds_batch *b)
{
	spin_lock_irq(&o->vol.lock);
	b->seq = o->seq;
	b->head = o->place;
	b->next = dds_leases_at(&o->leases, 1 + o->leases.taken);
	dds_leases_pass(&o->leases);
	o->seq++;
	o->place = b->next;
	o->lease_later = false;
	spin_unlock_irq(&o->vol.lock);
	dds_batch_write(b, o->io, &o->vol.area, o->vol.store->uuid, o->epoch);
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
		dds_tell(o->vol.store, DDSNAP_REPORT, parts, 2);
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

	DMERR("%pUb: batch %llu could not be written (error %d)", o->vol.store->uuid, b->seq, err);
	f->len = cpu_to_le32(sizeof(f->text));
	f->zero = 0;
	memcpy(f->text, reason, sizeof(f->text));
	o->failure = f;
	o->failure_len = sizeof(*f) + dds_batch_code_slots(b, (void *)(f + 1));
	spin_lock_irq(&o->vol.lock);
	o->broken = true;
	o->begin = o->mode == DDS_LIVE;
	o->place = b->head;
	o->seq = b->seq;
	spin_unlock_irq(&o->vol.lock);
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

	err = dds_batch_wait(b) ?: dds_batch_flush(b, &o->vol.area);
	o->flying = NULL;
	if (err) {
		origin_break(o, b, err);
		return;
	}
	origin_report(o, b);
	for (i = 0; i < b->count; i++)
		set_bit(b->copies[i].chunk, o->settled);
	dds_snapshots_copied(o->vol.store, b);
	WRITE_ONCE(o->batch_count, o->batch_count + 1);
	WRITE_ONCE(o->copied, o->copied + b->count);
	blk_start_plug(&plug);	/* they were cut at the chunks, and are neighbours again */
	while (!list_empty(&b->bios)) {
		io = list_first_entry(&b->bios, struct dds_io, node);
		list_del(&io->node);
		dds_release(&o->vol, io);
	}
	blk_finish_plug(&plug);
	percpu_ref_put(&o->vol.ios);
}

/* Ends those held bios that wait for what will not be, or have waited too long. */
static void origin_expire(struct dds_origin *o)
{
	unsigned long timeout = READ_ONCE(o->hold_timeout) * HZ;
	struct dds_io *io, *next;
	bool fail;

	spin_lock_irq(&o->vol.lock);
	fail = o->fail_broken;
	o->fail_broken = false;
	spin_unlock_irq(&o->vol.lock);
	list_for_each_entry_safe(io, next, &o->todo, node) {
		if (fail || (timeout && time_after(jiffies, io->since + timeout))) {
			list_del(&io->node);
			dds_end(io, fail ? BLK_STS_IOERR : BLK_STS_TIMEOUT);
		}
	}
	if (timeout && !list_empty(&o->todo))
		dds_kick_later(&o->vol, MSEC_PER_SEC);
}

/* The copier: copies out what is held, until nothing is or it cannot. */
static void origin_work(struct work_struct *work)
{
	struct dds_origin *o = container_of(work, struct dds_origin, vol.work);
	unsigned int noio = memalloc_noio_save();
	struct dds_batch *b, *flew;

	do {
		flew = o->flying;
		b = origin_prepare(o);
		if (flew)
			origin_finish(o);
		if (b && o->broken)
			origin_give_up(o, b);
		else if (b)
			origin_commit(o, b);
	} while (o->flying || flew);
	origin_settled(o);
	origin_expire(o);
	origin_begin_session(o);
	memalloc_noio_restore(noio);
}

/* ---- life --------------------------------------------------------------------- */

static void origin_free(struct dds_origin *o)
{
	dds_volume_exit(&o->vol);
	dds_batch_free(o->batches[0]);
	dds_batch_free(o->batches[1]);
	if (o->io)
		dm_io_client_destroy(o->io);
	dds_leases_exit(&o->leases);
	free_percpu(o->counts);
	vfree(o->settled);
	vfree(o->known);
	kfree(o);
}

static int origin_alloc(struct dds_origin *o, u64 chunks)
{
	u32 batch = max(1u, o->batch_bytes >> o->vol.chunk_shift), i;
	int err;

	err = settled_resize(o, chunks) ?: dds_leases_init(&o->leases);
	if (err)
		return err;
	for (i = 0; i < 2; i++) {
		o->batches[i] = dds_batch_new(batch, o->vol.chunk_shift);
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
	}
	return err;
}

static struct dds_origin *origin_new(struct dds_store *s, u32 chunk_shift, u32 batch_bytes, u64 chunks)
{
	struct dds_origin *o = kzalloc(sizeof(*o), GFP_KERNEL);
	int err;

	if (!o)
		return ERR_PTR(-ENOMEM);
	o->batch_bytes = batch_bytes;
	INIT_LIST_HEAD(&o->todo);
	o->lease_call.done = lease_done;
	o->space_call.done = space_done;
	o->session_call.done = session_done;
	INIT_LIST_HEAD(&o->lease_call.node);
	INIT_LIST_HEAD(&o->space_call.node);
	INIT_LIST_HEAD(&o->session_call.node);
	err = dds_volume_init(&o->vol, s, s->copy_wq, chunk_shift, origin_work) ?: origin_alloc(o, chunks);
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
	} else if (o->vol.chunk_shift != chunk_shift) {
		err = -EINVAL;
		*error = "The store's origin has another chunk size";
		goto out;
	}
	o->vol.targets++;
	*got = o;
out:
	mutex_unlock(&s->targets);
	return err;
}

void dds_origin_put(struct dds_origin *o)
{
	struct dds_store *s = o->vol.store;
	u32 got;

	mutex_lock(&s->targets);
	if (--o->vol.targets) {
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
	origin_free(o);
}
