// SPDX-License-Identifier: GPL-2.0
/*
 * What the origin and the snapshots have in common: requests that are held for a work
 * item, and a counter of those under way. Whatever may let held requests go on has the
 * work done again, so that nobody sleeps for it.
 *
 * The server has requests end by a quiesce: the volume is closed, and once the counter
 * is zero the server is told. It opens again with the state that the server sends then.
 * If the connection ends before, nobody knows what the server did, and the volume stays
 * closed until the next session.
 */
#include <linux/list_sort.h>

#include "dm-ddsnap.h"

void dds_end(struct dds_io *io, blk_status_t status)
{
	dds_bio(io)->bi_status = status;
	bio_endio(dds_bio(io));
}

noinline void dds_hold(struct dds_volume *vol, struct dds_io *io)
{
	unsigned long flags;
	bool back;

	io->since = jiffies;
	spin_lock_irqsave(&vol->lock, flags);
	back = vol->push_back;
	if (!back)
		list_add_tail(&io->node, &vol->held);
	spin_unlock_irqrestore(&vol->lock, flags);
	if (back)
		dds_end(io, BLK_STS_DM_REQUEUE);
	else
		dds_kick(vol);
}

noinline void dds_release(struct dds_volume *vol, struct dds_io *io)
{
	if (!(io->flags & DDS_IO_COUNTED))
		percpu_ref_get(&vol->ios);
	io->flags |= DDS_IO_COUNTED;
	dm_submit_bio_remap(dds_bio(io), NULL);
}

static int by_chunk(void *priv, const struct list_head *a, const struct list_head *b)
{
	u64 x = list_entry(a, struct dds_io, node)->chunk, y = list_entry(b, struct dds_io, node)->chunk;

	return x > y ? 1 : x < y ? -1 : 0;
}

bool dds_take(struct dds_volume *vol, struct list_head *todo)
{
	struct dds_io *io, *next;
	bool back, parked;

	spin_lock_irq(&vol->lock);
	list_splice_tail_init(&vol->held, todo);
	back = vol->push_back;
	parked = vol->parked;
	spin_unlock_irq(&vol->lock);
	if (back) {
		list_for_each_entry_safe(io, next, todo, node) {
			list_del(&io->node);
			dds_end(io, BLK_STS_DM_REQUEUE);
		}
	}
	list_sort(NULL, todo, by_chunk);
	return !parked;
}

/* ---- quiesce ------------------------------------------------------------------ */

static void volume_ended(struct percpu_ref *ref)
{
	struct dds_volume *vol = container_of(ref, struct dds_volume, ios);

	queue_work(vol->store->io_wq, &vol->quiet);
}

/* Tells the server that no request is under way, and what was written is durable. */
static void volume_quiet(struct work_struct *work)
{
	struct dds_volume *vol = container_of(work, struct dds_volume, quiet);
	int err = 0;
	u64 id = 0;

	spin_lock_irq(&vol->lock);
	if (percpu_ref_is_zero(&vol->ios))
		swap(id, vol->quiesce_id);
	spin_unlock_irq(&vol->lock);
	if (id && vol->flushed)
		err = blkdev_issue_flush(vol->flushed);
	if (err) {
		/* First: the server may ask again as soon as it has the answer. Another may have already. */
		if (dds_is_quiet(vol) && !READ_ONCE(vol->quiesce_id))
			dds_open(vol);
		dds_answer(vol->store, DDSNAP_QUIESCE, id, DDSNAP_E_OTHER, "flushing the origin's device failed");
		return;
	}
	if (id)
		dds_answer(vol->store, DDSNAP_QUIESCE, id, 0, NULL);
	dds_kick(vol);
}

void dds_quiesce(struct dds_volume *vol, u64 id)
{
	bool kill;

	spin_lock_irq(&vol->lock);
	kill = !vol->closed;
	vol->closed = true;
	vol->quiesce_id = id;
	spin_unlock_irq(&vol->lock);
	if (kill)
		percpu_ref_kill(&vol->ios);
	queue_work(vol->store->io_wq, &vol->quiet);
}

void dds_open(struct dds_volume *vol)
{
	spin_lock_irq(&vol->lock);
	vol->closed = false;
	spin_unlock_irq(&vol->lock);
	percpu_ref_reinit(&vol->ios);
	dds_kick(vol);
}

/* ---- where chunks are --------------------------------------------------------- */

int dds_find_mapping(const struct dds_volume *vol, const void *reply, u32 len, u64 first, u64 end, u64 chunk, struct dds_known *k)
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
		if (m->mappings[i].kind == DDSNAP_STORED && (slot >= vol->area.slots || n > vol->area.slots - slot))
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

void dds_point(const struct dds_volume *vol, struct dds_io *io, const struct dds_known *k)
{
	struct bio *bio = dds_bio(io);

	if (k->kind == DDSNAP_SHARED) {
		io->flags |= DDS_IO_SHARED;
		bio_set_dev(bio, vol->origin_dev);
		return;
	}
	bio->bi_iter.bi_sector += dds_slot_sector(&vol->area, k->slot) - (io->chunk << (vol->chunk_shift - SECTOR_SHIFT));
	bio_set_dev(bio, vol->area.bdev);
}

/* ---- suspend and resume ------------------------------------------------------- */

void dds_push_back(struct dds_volume *vol, bool on)
{
	spin_lock_irq(&vol->lock);
	vol->push_back = on;
	spin_unlock_irq(&vol->lock);
	dds_kick(vol);
}

void dds_park(struct dds_volume *vol)
{
	spin_lock_irq(&vol->lock);
	vol->parked = true;
	spin_unlock_irq(&vol->lock);
	flush_work(&vol->work);
}

void dds_resume(struct dds_volume *vol)
{
	spin_lock_irq(&vol->lock);
	vol->parked = vol->push_back = false;
	spin_unlock_irq(&vol->lock);
	dds_kick(vol);
	dds_store_connect(vol->store);
}

/* ---- life --------------------------------------------------------------------- */

static void volume_later(struct work_struct *work)
{
	dds_kick(container_of(to_delayed_work(work), struct dds_volume, later));
}

int dds_volume_init(struct dds_volume *vol, struct dds_store *s, struct workqueue_struct *wq, u32 chunk_shift, work_func_t work)
{
	vol->store = s;
	vol->wq = wq;
	vol->chunk_shift = chunk_shift;
	vol->area.chunk_shift = chunk_shift;
	vol->parked = vol->closed = true;
	spin_lock_init(&vol->lock);
	INIT_LIST_HEAD(&vol->held);
	INIT_WORK(&vol->work, work);
	INIT_WORK(&vol->quiet, volume_quiet);
	INIT_DELAYED_WORK(&vol->later, volume_later);
	return percpu_ref_init(&vol->ios, volume_ended, PERCPU_REF_INIT_DEAD | PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
}

void dds_volume_exit(struct dds_volume *vol)
{
	cancel_work_sync(&vol->quiet);
	cancel_delayed_work_sync(&vol->later);
	cancel_work_sync(&vol->work);
	percpu_ref_exit(&vol->ios);
}
