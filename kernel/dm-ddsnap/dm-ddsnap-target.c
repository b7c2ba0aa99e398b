// SPDX-License-Identifier: GPL-2.0
/*
 * The device-mapper targets ddsnap-origin and ddsnap-snapshot: table lines, status,
 * messages. See Documentation/dm-ddsnap.rst.
 */
#include <linux/ctype.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "dm-ddsnap.h"

#define BATCH_KIB	8192
#define MIN_CHUNK	8u	/* sectors */
#define MAX_CHUNK	2048u

/* One target of a table. Several of one origin or snapshot exist while a table is replaced. */
struct dds_target {
	struct dds_store *store;
	struct dds_origin *origin;	/* or */
	struct dds_snapshot *snapshot;
	struct dm_dev *origin_dev, *store_dev;
	u32 chunk_sectors;
	u32 batch_kib;
	u32 tag;
	bool write;
	sector_t data_offset;
};

/* ---- table lines ---------------------------------------------------------------- */

static int parse_uuid(const char *s, u8 *uuid)
{
	int i, hi, lo;

	for (i = 0; i < DDS_UUID_SIZE; i++) {
		if (*s == '-')
			s++;
		hi = hex_to_bin(s[0]);
		lo = hi < 0 ? -1 : hex_to_bin(s[1]);
		if (lo < 0)
			return -EINVAL;
		uuid[i] = hi << 4 | lo;
		s += 2;
	}
	return *s ? -EINVAL : 0;
}

static int target_new(struct dm_target *ti, char **argv, struct dds_target **got)
{
	u8 uuid[DDS_UUID_SIZE];
	struct dds_target *t;
	int err;

	err = parse_uuid(argv[0], uuid);
	if (err) {
		ti->error = "Invalid uuid of the store";
		return err;
	}
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t) {
		ti->error = "Cannot allocate the target";
		return -ENOMEM;
	}
	t->store = dds_store_get(uuid);
	if (IS_ERR(t->store)) {
		err = PTR_ERR(t->store);
		kfree(t);
		ti->error = "Cannot allocate the store";
		return err;
	}
	ti->private = t;
	*got = t;
	return 0;
}

static int target_devices(struct dm_target *ti, struct dds_target *t, const char *origin, const char *store, const char *chunk)
{
	int err;

	if (kstrtou32(chunk, 10, &t->chunk_sectors) || !is_power_of_2(t->chunk_sectors) ||
	    t->chunk_sectors < MIN_CHUNK || t->chunk_sectors > MAX_CHUNK) {
		ti->error = "Invalid chunk size";
		return -EINVAL;
	}
	err = dm_get_device(ti, origin, dm_table_get_mode(ti->table), &t->origin_dev);
	if (err) {
		ti->error = "Cannot open the origin's device";
		return err;
	}
	err = dm_get_device(ti, store, BLK_OPEN_READ | BLK_OPEN_WRITE, &t->store_dev);
	if (err)
		ti->error = "Cannot open the store device";
	return err;
}

static void target_free(struct dm_target *ti, struct dds_target *t)
{
	if (t->origin)
		dds_origin_put(t->origin);
	if (t->snapshot)
		dds_snapshot_put(t->snapshot);
	if (t->store_dev)
		dm_put_device(ti, t->store_dev);
	if (t->origin_dev)
		dm_put_device(ti, t->origin_dev);
	dds_store_put(t->store);
	kfree(t);
}

/* What both targets do with what they have in common. */
static struct dds_volume *target_volume(const struct dds_target *t)
{
	return t->origin ? &t->origin->vol : &t->snapshot->vol;
}

static void target_presuspend(struct dm_target *ti)
{
	if (dm_noflush_suspending(ti))
		dds_push_back(target_volume(ti->private), true);
}

static void target_presuspend_undo(struct dm_target *ti)
{
	dds_push_back(target_volume(ti->private), false);
}

static void target_postsuspend(struct dm_target *ti)
{
	dds_park(target_volume(ti->private));
}

static void target_resume(struct dm_target *ti)
{
	struct dds_target *t = ti->private;
	struct dds_volume *vol = target_volume(t);

	spin_lock_irq(&vol->lock);
	vol->origin_dev = t->origin_dev->bdev;
	vol->area.bdev = t->store_dev->bdev;
	if (t->snapshot) {
		vol->area.offset = t->data_offset;
		vol->area.slots = (bdev_nr_sectors(vol->area.bdev) - t->data_offset) >> (vol->chunk_shift - SECTOR_SHIFT);
	}
	vol->flushed = t->origin ? vol->origin_dev : t->write ? vol->area.bdev : NULL;
	spin_unlock_irq(&vol->lock);
	dds_resume(vol);
}

static void target_dtr(struct dm_target *ti)
{
	target_free(ti, ti->private);
}

static void target_io(struct dm_target *ti)
{
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
	ti->num_write_zeroes_bios = 1;
	ti->per_io_data_size = sizeof(struct dds_io);
	ti->accounts_remapped_io = true;
	ti->flush_supported = true;
}

/* lose-chunk or fail-write */
static int parse_unreadable(const char *s, bool *fail_write)
{
	*fail_write = s && !strcasecmp(s, "fail-write");
	return *fail_write || (s && !strcasecmp(s, "lose-chunk")) ? 0 : -EINVAL;
}

static int origin_features(struct dm_target *ti, struct dm_arg_set *as, u32 *batch_kib, u32 *hold_timeout, bool *fail_write)
{
	static const struct dm_arg count_arg = { 0, 6, "Invalid number of features" };
	static const struct dm_arg batch_arg = { 64, 65536, "Invalid batch_kib" };
	static const struct dm_arg hold_arg = { 0, 86400, "Invalid hold_timeout" };
	unsigned int n;
	const char *name;
	int err;

	*batch_kib = BATCH_KIB;
	*hold_timeout = 0;
	*fail_write = false;
	if (!as->argc)
		return 0;
	err = dm_read_arg_group(&count_arg, as, &n, &ti->error);
	while (!err && n >= 2) {
		name = dm_shift_arg(as);
		n -= 2;
		if (!strcasecmp(name, "batch_kib")) {
			err = dm_read_arg(&batch_arg, as, batch_kib, &ti->error);
		} else if (!strcasecmp(name, "hold_timeout")) {
			err = dm_read_arg(&hold_arg, as, hold_timeout, &ti->error);
		} else if (!strcasecmp(name, "unreadable")) {
			err = parse_unreadable(dm_shift_arg(as), fail_write);
			if (err)
				ti->error = "Invalid unreadable: neither lose-chunk nor fail-write";
		} else {
			ti->error = "Unknown feature";
			err = -EINVAL;
		}
	}
	if (!err && (n || as->argc)) {
		ti->error = "Features come in pairs of name and value";
		err = -EINVAL;
	}
	return err;
}

/* <uuid> <origin dev> <store dev> <journal dev|-> <chunk sectors> [<#features> <feature>...] */
static int origin_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc - min(argc, 5u), .argv = argv + 5 };
	struct dds_target *t;
	u32 hold_timeout;
	bool fail_write;
	u64 chunks;
	int err;

	if (argc < 5) {
		ti->error = "Requires <uuid> <origin dev> <store dev> <journal dev|-> <chunk sectors>";
		return -EINVAL;
	}
	if (strcmp(argv[3], "-")) {
		ti->error = "A journal device is not supported: only stores of placement inline";
		return -EINVAL;
	}
	err = target_new(ti, argv, &t);
	if (err)
		return err;
	err = target_devices(ti, t, argv[1], argv[2], argv[4]) ?:
	      origin_features(ti, &as, &t->batch_kib, &hold_timeout, &fail_write);
	if (err)
		goto out;
	err = -EINVAL;
	if (ti->len > bdev_nr_sectors(t->origin_dev->bdev)) {
		ti->error = "The origin's device is smaller than the target";
		goto out;
	}
	chunks = DIV_ROUND_UP_ULL(ti->len, t->chunk_sectors);
	err = dds_origin_get(t->store, ilog2(t->chunk_sectors) + SECTOR_SHIFT, t->batch_kib << 10, chunks, &t->origin, &ti->error);
	if (err)
		goto out;
	WRITE_ONCE(t->origin->hold_timeout, hold_timeout);
	WRITE_ONCE(t->origin->fail_write, fail_write);
	target_io(ti);
	return 0;
out:
	target_free(ti, t);
	return err;
}

/* <uuid> <tag> ro|rw <origin dev> <store dev> <chunk sectors> <data offset> */
static int snapshot_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dds_target *t;
	u64 offset;
	int err;

	if (argc != 7) {
		ti->error = "Requires <uuid> <tag> ro|rw <origin dev> <store dev> <chunk sectors> <data offset>";
		return -EINVAL;
	}
	err = target_new(ti, argv, &t);
	if (err)
		return err;
	err = -EINVAL;
	ti->error = "Invalid tag, mode or data offset";
	t->write = !strcmp(argv[2], "rw");
	if (kstrtou32(argv[1], 10, &t->tag) || (!t->write && strcmp(argv[2], "ro")) || kstrtou64(argv[6], 10, &offset))
		goto out;
	err = target_devices(ti, t, argv[3], argv[4], argv[5]);
	if (err)
		goto out;
	t->data_offset = offset;
	if (offset >= bdev_nr_sectors(t->store_dev->bdev)) {
		ti->error = "The data offset is beyond the store device";
		err = -EINVAL;
		goto out;
	}
	err = dds_snapshot_get(t->store, t->tag, t->write, ilog2(t->chunk_sectors) + SECTOR_SHIFT, &t->snapshot, &ti->error);
	if (err)
		goto out;
	target_io(ti);
	return 0;
out:
	target_free(ti, t);
	return err;
}

/* ---- the origin ------------------------------------------------------------------- */

static int origin_map(struct dm_target *ti, struct bio *bio)
{
	struct dds_target *t = ti->private;

	return dds_origin_map(t->origin, bio);
}

static int origin_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct dds_target *t = ti->private;

	dds_leave(&t->origin->vol, dds_io(bio));
	return DM_ENDIO_DONE;
}

static int origin_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct dds_target *t = ti->private;

	return fn(ti, t->origin_dev, 0, ti->len, data);
}

static const char *mode_name(enum dds_mode mode)
{
	return mode == DDS_LIVE ? "live" : mode == DDS_FAILED ? "failed" : "away";
}

static void origin_info(struct dds_origin *o, char *result, unsigned int maxlen)
{
	u64 reads = 0, writes = 0, held = 0;
	unsigned int sz = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct dds_counts *c = per_cpu_ptr(o->counts, cpu);

		reads += READ_ONCE(c->reads);
		writes += READ_ONCE(c->writes);
		held += READ_ONCE(c->held);
	}
	spin_lock_irq(&o->vol.lock);
	DMEMIT("%s %u %llu %llu %llu/%llu %llu %llu %llu %llu %llu %d %lu", mode_name(o->mode),
	       1u << (o->vol.chunk_shift - SECTOR_SHIFT), o->generation, o->newest,
	       dds_leases_free(&o->leases), o->leases.total, reads, writes, held, o->batch_count, o->copied,
	       !list_empty(&o->vol.held) || !list_empty(&o->todo), o->last_error);
	spin_unlock_irq(&o->vol.lock);
}

static void origin_status(struct dm_target *ti, status_type_t type, unsigned int flags, char *result, unsigned int maxlen)
{
	struct dds_target *t = ti->private;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		origin_info(t->origin, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%pUb %s %s - %u 6 batch_kib %u hold_timeout %u unreadable %s", t->store->uuid, t->origin_dev->name,
		       t->store_dev->name, t->chunk_sectors, t->batch_kib, READ_ONCE(t->origin->hold_timeout),
		       READ_ONCE(t->origin->fail_write) ? "fail-write" : "lose-chunk");
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

/* hold_timeout <seconds>, or unreadable lose-chunk|fail-write */
static int origin_message(struct dm_target *ti, unsigned int argc, char **argv, char *result, unsigned int maxlen)
{
	struct dds_target *t = ti->private;
	bool fail_write;
	u32 seconds;

	if (argc == 2 && !strcasecmp(argv[0], "hold_timeout") && !kstrtou32(argv[1], 10, &seconds) && seconds <= 86400) {
		WRITE_ONCE(t->origin->hold_timeout, seconds);
	} else if (argc == 2 && !strcasecmp(argv[0], "unreadable") && !parse_unreadable(argv[1], &fail_write)) {
		WRITE_ONCE(t->origin->fail_write, fail_write);
	} else {
		DMERR("unrecognised message");
		return -EINVAL;
	}
	dds_kick(&t->origin->vol);
	return 0;
}

static struct target_type origin_target = {
	.name			= "ddsnap-origin",
	.version		= { 1, 0, 0 },
	.features		= DM_TARGET_NOWAIT | DM_TARGET_PASSES_INTEGRITY,
	.module			= THIS_MODULE,
	.ctr			= origin_ctr,
	.dtr			= target_dtr,
	.map			= origin_map,
	.end_io			= origin_end_io,
	.presuspend		= target_presuspend,
	.presuspend_undo	= target_presuspend_undo,
	.postsuspend		= target_postsuspend,
	.resume			= target_resume,
	.status			= origin_status,
	.message		= origin_message,
	.iterate_devices	= origin_iterate_devices,
};

/* ---- snapshots ---------------------------------------------------------------------- */

static int snapshot_map(struct dm_target *ti, struct bio *bio)
{
	struct dds_target *t = ti->private;

	return dds_snapshot_map(t->snapshot, bio);
}

static int snapshot_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct dds_target *t = ti->private;

	return dds_snapshot_end_io(t->snapshot, bio, error);
}

static void snapshot_status(struct dm_target *ti, status_type_t type, unsigned int flags, char *result, unsigned int maxlen)
{
	struct dds_target *t = ti->private;
	struct dds_snapshot *v = t->snapshot;
	unsigned int sz = 0;
	u32 state = READ_ONCE(v->state);

	switch (type) {
	case STATUSTYPE_INFO:
		DMEMIT("%s %u %u %llu %llu %llu %d", state & DDSNAP_STATE_SQUASHED ? "squashed" : READ_ONCE(v->open) ? "live" : "away",
		       v->tag, t->chunk_sectors, v->generation, (u64)atomic64_read(&v->upcalls),
		       (u64)atomic64_read(&v->given_slots), v->last_error);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%pUb %u %s %s %s %u %llu", t->store->uuid, t->tag, t->write ? "rw" : "ro", t->origin_dev->name,
		       t->store_dev->name, t->chunk_sectors, (u64)t->data_offset);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

static int snapshot_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct dds_target *t = ti->private;

	return fn(ti, t->origin_dev, 0, min_t(sector_t, ti->len, bdev_nr_sectors(t->origin_dev->bdev)), data) ?:
	       fn(ti, t->store_dev, 0, bdev_nr_sectors(t->store_dev->bdev), data);
}

static struct target_type snapshot_target = {
	.name			= "ddsnap-snapshot",
	.version		= { 1, 0, 0 },
	.features		= DM_TARGET_NOWAIT,
	.module			= THIS_MODULE,
	.ctr			= snapshot_ctr,
	.dtr			= target_dtr,
	.map			= snapshot_map,
	.end_io			= snapshot_end_io,
	.presuspend		= target_presuspend,
	.presuspend_undo	= target_presuspend_undo,
	.postsuspend		= target_postsuspend,
	.resume			= target_resume,
	.status			= snapshot_status,
	.iterate_devices	= snapshot_iterate_devices,
};

/* ---- the module ----------------------------------------------------------------------- */

static int __init dm_ddsnap_init(void)
{
	int err;

	err = dds_channel_init();
	if (err)
		return err;
	err = dm_register_target(&origin_target);
	if (err)
		goto out_with_channel;
	err = dm_register_target(&snapshot_target);
	if (err)
		goto out_with_origin;
	return 0;

out_with_origin:
	dm_unregister_target(&origin_target);
out_with_channel:
	dds_channel_exit();
	return err;
}

static void __exit dm_ddsnap_exit(void)
{
	dm_unregister_target(&snapshot_target);
	dm_unregister_target(&origin_target);
	dds_channel_exit();
}

module_init(dm_ddsnap_init);
module_exit(dm_ddsnap_exit);

MODULE_DESCRIPTION(DM_NAME " snapshots kept by a metadata server in user space");
MODULE_AUTHOR("The Zumastor authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0.0");
