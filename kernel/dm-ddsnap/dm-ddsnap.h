/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dm-ddsnap: any number of snapshots of a block device, kept by a metadata server in
 * user space.
 *
 * The files, each using only those before it:
 *
 *   dm-ddsnap-channel.c   /dev/ddsnap: two mapped rings of bytes to and from the server
 *   dm-ddsnap-store.c     what is known of a store: its connection, requests, targets
 *   dm-ddsnap-volume.c    what the origin and snapshots share: held requests, quiesce
 *   dm-ddsnap-leases.c    the slots that the server has leased
 *   dm-ddsnap-batch.c     a batch of copy-outs: reads, checksums, one write
 *   dm-ddsnap-origin.c    the origin: what a write needs, and what copies out
 *   dm-ddsnap-snapshot.c  a snapshot: where its chunks are, writes to it
 *   dm-ddsnap-target.c    the two device-mapper targets
 *
 * The rules that the order of steps obeys are those of docs/ARCHITECTURE.md,
 * "Invariants"; the origin here and package volume are the same machine.
 */
#ifndef DM_DDSNAP_H
#define DM_DDSNAP_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/device-mapper.h>
#include <linux/dm-io.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/spinlock.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "ddsnap_dev.h"
#include "ddsnap_wire.h"

#define DM_MSG_PREFIX "ddsnap"

#define DDS_UUID_SIZE 16
#define DDS_PAGE_SHIFT 12	/* chunks of one question what is settled: 1 << 12 */
#define DDS_MAX_MESSAGE (128u << 10)	/* that the server may send */

struct dds_store;
struct dds_origin;
struct dds_snapshot;

/* ---- channel: the rings ------------------------------------------------------ */

struct dds_channel {
	struct kref ref;
	struct dds_store *store;	/* that it is bound to, or NULL */
	bool closed;			/* nothing more goes either way */

	void *memory;			/* as mapped: struct ddsnap_rings, then the bytes */
	struct ddsnap_rings *rings;
	u8 *out, *in;
	u32 out_size, in_size;

	struct mutex send_lock;		/* guards head, and what goes into the ring */
	u32 head;			/* of the ring to the server: ours, not read back */
	u32 tail;			/* of the ring to the kernel: the dispatcher's */

	wait_queue_head_t readers;	/* poll() */
	wait_queue_head_t writers;	/* senders that wait for room */
	struct delayed_work wake;	/* of a server that waits for messages */
	struct work_struct dispatch;
	u8 *message;			/* a copy of the message that is being taken in */
};

/* Sends a message whose body is the parts. May sleep for room. -ENOTCONN: it is closed. */
int dds_channel_send(struct dds_channel *c, u16 type, u16 flags, u64 id,
		     const struct kvec *parts, unsigned int count);
/* Ends the connection. Any context that may sleep. */
void dds_channel_close(struct dds_channel *c);
void dds_channel_get(struct dds_channel *c);
void dds_channel_put(struct dds_channel *c);
int dds_channel_init(void);
void dds_channel_exit(void);

/* ---- store: the connection and what uses it ---------------------------------- */

/*
 * A request to the server. Done is called once, by the dispatcher in the order in which
 * replies come, or when the connection ends: err is 0, an enum ddsnap_code, or
 * -ENOTCONN. It must not sleep for the server.
 */
struct dds_call {
	struct list_head node;
	u64 id;
	void (*done)(struct dds_call *call, int err, const void *body, u32 len);
};

struct dds_store {
	struct list_head node;		/* of all stores; guarded by dds_stores_lock, as users */
	unsigned int users;
	u8 uuid[DDS_UUID_SIZE];

	struct workqueue_struct *dispatch_wq;	/* takes messages in, in order */
	struct workqueue_struct *copy_wq;	/* the origin's copier */
	struct workqueue_struct *io_wq;		/* what sleeps for the server */
	struct delayed_work connect;

	struct mutex ending;		/* held while a connection's end is told to its requests */
	struct mutex targets;		/* guards the number of targets; may be held for long */

	spinlock_t lock;		/* guards what follows */
	struct dds_origin *origin;	/* this and the next change with targets held, too */
	struct list_head snapshots;
	struct dds_channel *channel;
	struct list_head calls;		/* requests without a reply yet */
	u64 last_id;
	bool greeted;			/* the server has said welcome on this channel */
	bool ready;			/* "ready" was sent on it */
};

struct dds_store *dds_store_get(const u8 *uuid);
void dds_store_put(struct dds_store *s);
/* What DDSNAP_IOC_QUERY returns. */
void dds_store_query(struct ddsnap_query *q);
int dds_store_bind(struct dds_store *s, struct dds_channel *c);
void dds_store_unbind(struct dds_store *s, struct dds_channel *c);
/* Takes in a message; an error ends the connection. */
int dds_store_take(struct dds_store *s, const struct ddsnap_header *h, const void *body, u32 len);
/* Has the connection be completed: greeting, snapshots, session. */
void dds_store_connect(struct dds_store *s);

/* Sends a request. 0: done was or will be called. -ENOTCONN: it never will be. */
int dds_ask(struct dds_store *s, struct dds_call *call, u16 type, const struct kvec *parts, unsigned int count);
/* Sends a request and sleeps for its reply. Returns as done's err; *got is the reply's length. */
int dds_ask_wait(struct dds_store *s, u16 type, const void *body, u32 len, void *reply, u32 room, u32 *got);
/* Forgets a request, whose done is not called after it. Not for the dispatcher. */
void dds_cancel(struct dds_store *s, struct dds_call *call);
/* Sends a message that has no reply. */
int dds_tell(struct dds_store *s, u16 type, const struct kvec *parts, unsigned int count);
/* Answers a request of the server: code 0 or an enum ddsnap_code. */
int dds_answer(struct dds_store *s, u16 type, u64 id, u32 code, const char *text);

/* ---- volume: what the origin and snapshots share -------------------------------- */

/* What a store's data area is. */
struct dds_area {
	struct block_device *bdev;
	sector_t offset;		/* of slot 0 */
	u32 chunk_shift;		/* in bytes, base-two logarithm */
	u64 slots;
};

static inline sector_t dds_slot_sector(const struct dds_area *a, u64 slot)
{
	return a->offset + (slot << (a->chunk_shift - SECTOR_SHIFT));
}

/* Whether the device has all slots. */
static inline bool dds_area_fits(const struct dds_area *a)
{
	sector_t size = a->bdev ? bdev_nr_sectors(a->bdev) : 0;

	return a->offset <= size && a->slots <= (size - a->offset) >> (a->chunk_shift - SECTOR_SHIFT);
}

/* Per bio of either target. */
struct dds_io {
	struct list_head node;
	u64 chunk;			/* that it begins in */
	unsigned long since;		/* jiffies when it was held */
	struct bvec_iter iter;		/* as it came, for another try */
	u32 chunks;			/* how many, if it was sent to where they are */
	u8 flags;
};

#define DDS_IO_COUNTED	1	/* it has a reference of ios */
#define DDS_IO_SHARED	2	/* it reads shared chunks from the origin */
#define DDS_IO_VERIFY	4	/* it has been read, and is to be asked about again */

static inline struct bio *dds_bio(struct dds_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

static inline struct dds_io *dds_io(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct dds_io));
}

struct dds_volume {
	struct dds_store *store;
	unsigned int targets;		/* device-mapper targets that exist; guarded by store->targets */
	u32 chunk_shift;

	/* Of the target that is resumed; they change while it is parked. */
	struct block_device *origin_dev;
	struct dds_area area;
	struct block_device *flushed;	/* before a quiesce is answered; or NULL */

	struct percpu_ref ios;		/* requests under way; dead while closed */
	struct workqueue_struct *wq;
	struct work_struct work;	/* serves what is held */
	struct delayed_work later;	/* has it do so */
	struct work_struct quiet;	/* answers a quiesce */

	spinlock_t lock;		/* guards what follows, with interrupts off */
	struct list_head held;		/* bios for the work: struct dds_io */
	bool parked;			/* the target is suspended */
	bool push_back;			/* held bios go back to device-mapper */
	bool closed;			/* no request begins */
	u64 quiesce_id;			/* of the request to answer when none is under way; or 0 */
};

/* Has the work done (again). Any context. */
static inline void dds_kick(struct dds_volume *vol)
{
	queue_work(vol->wq, &vol->work);
}

static inline void dds_kick_later(struct dds_volume *vol, unsigned int ms)
{
	queue_delayed_work(vol->wq, &vol->later, msecs_to_jiffies(ms));
}

/* Whether it is closed and no request is under way: then its state may change. */
static inline bool dds_is_quiet(struct dds_volume *vol)
{
	return READ_ONCE(vol->closed) && percpu_ref_is_zero(&vol->ios);
}

/* Gives the bio's reference back, if it has one. */
static inline void dds_leave(struct dds_volume *vol, struct dds_io *io)
{
	if (io->flags & DDS_IO_COUNTED) {
		io->flags &= ~DDS_IO_COUNTED;
		percpu_ref_put(&vol->ios);
	}
}

/* Cuts a bio at a sector. */
static inline void dds_cut(struct bio *bio, sector_t end)
{
	if (end < bio_end_sector(bio))
		dm_accept_partial_bio(bio, end - bio->bi_iter.bi_sector);
}

/* Where a chunk is. */
struct dds_known {
	u64 chunk1;	/* chunk + 1; 0: nothing */
	u64 slot;
	u8 kind;	/* DDSNAP_STORED ... */
	bool owned;
};

int dds_volume_init(struct dds_volume *vol, struct dds_store *s, struct workqueue_struct *wq, u32 chunk_shift, work_func_t work);
/* Nobody has its work done any more. */
void dds_volume_exit(struct dds_volume *vol);
void dds_end(struct dds_io *io, blk_status_t status);
/* Holds a bio for the work. Any context. */
void dds_hold(struct dds_volume *vol, struct dds_io *io);
/* Lets a held bio go to where it points. It is counted until it has ended. */
void dds_release(struct dds_volume *vol, struct dds_io *io);
/* Moves held bios to the work's, and sorts these. False: the target is suspended. */
bool dds_take(struct dds_volume *vol, struct list_head *todo);
/* Where the chunk is, of a reply with mappings of the chunks [first, end). -EPROTO: it is malformed. */
int dds_find_mapping(const struct dds_volume *vol, const void *reply, u32 len, u64 first, u64 end, u64 chunk, struct dds_known *k);
/* Points a bio at where its chunk is. */
void dds_point(const struct dds_volume *vol, struct dds_io *io, const struct dds_known *k);
/* The server wants requests to end. The dispatcher calls it. */
void dds_quiesce(struct dds_volume *vol, u64 id);
/* Lets requests begin again. It is quiet. */
void dds_open(struct dds_volume *vol);
void dds_push_back(struct dds_volume *vol, bool on);
void dds_park(struct dds_volume *vol);
void dds_resume(struct dds_volume *vol);

/* ---- leases ------------------------------------------------------------------- */

/*
 * Slots that the origin may write to, in the order in which it will. The first is the
 * next descriptor's; a batch must leave one for the descriptor after it.
 */
struct dds_leases {
	struct ddsnap_lease {
		u64 first, slots;
	} *runs;
	u32 count, room;
	u64 total;
	u64 taken;	/* slots after the first that the batch being built has */
};

int dds_leases_init(struct dds_leases *l);
void dds_leases_exit(struct dds_leases *l);
void dds_leases_clear(struct dds_leases *l);
/* Adds coded runs, all of slots below the limit. -EPROTO: they are malformed. */
int dds_leases_add(struct dds_leases *l, const void *body, u32 len, u64 limit);
u64 dds_leases_free(const struct dds_leases *l);
/* The slot that is n places after the first. */
u64 dds_leases_at(const struct dds_leases *l, u64 n);
/* Forgets the slots of the batch and of its descriptor: they are used. */
void dds_leases_pass(struct dds_leases *l);

/* ---- batch -------------------------------------------------------------------- */

struct dds_copy {
	u64 chunk, slot;
	u32 sum;			/* of the slot */
};

struct dds_batch {
	struct dds_copy *copies;	/* ascending by chunk */
	u32 count, room;
	u32 chunk_shift;
	u64 generation;
	u64 head, next;			/* slots of its descriptor and of the next one's */
	u64 seq;
	u8 *buffer;			/* a chunk for the descriptor's pages, then the chunks */
	u8 *record;			/* the coded body */
	u32 record_len;
	u32 cost;			/* what the body takes at most, in bytes */
	struct list_head bios;		/* that wait for it: struct dds_io */

	struct dm_io_region *regions;
	atomic_t pending;
	unsigned long error;		/* not zero: an I/O failed */
	struct completion done;
};

#define DDS_RECORD_MIN 1024u	/* bytes of the buffer for a record: a bitmap of the server fits */

struct dds_batch *dds_batch_new(u32 chunks, u32 chunk_shift);
void dds_batch_free(struct dds_batch *b);
void dds_batch_reset(struct dds_batch *b, u64 generation);
/* Adds a copy, if the body has room for it. */
bool dds_batch_add(struct dds_batch *b, u64 chunk, u64 slot);
bool dds_batch_has(const struct dds_batch *b, u64 chunk);
/* Reads the chunks from the origin, of so many sectors, and sums them up. */
int dds_batch_read(struct dds_batch *b, struct dm_io_client *io, struct block_device *origin, sector_t size);
/* Does so again with one chunk, in pieces. -ENODATA: it cannot be read, but the origin can be elsewhere. */
int dds_batch_read_again(struct dds_batch *b, struct dm_io_client *io, struct block_device *origin, sector_t size);
/* Has the batch of one chunk say that its content is lost. */
void dds_batch_lose(struct dds_batch *b);
/* Begins to write descriptor and chunks. */
void dds_batch_write(struct dds_batch *b, struct dm_io_client *io, const struct dds_area *a,
		     const u8 *uuid, u64 epoch);
/* Codes the body of a batch's record. Returns its length. */
u32 dds_code_batch(struct ddsnap_batch *body, const struct dds_copy *copies, u32 count, u64 generation);
/* Codes the slots that it was to be written to as runs, for a failure. Returns their bytes. */
u32 dds_batch_code_slots(const struct dds_batch *b, struct ddsnap_runs *to);
/* Sleeps until all is written. */
int dds_batch_wait(struct dds_batch *b);
/* Sleeps until what is written is durable. */
int dds_batch_flush(const struct dds_batch *b, const struct dds_area *a);

/* ---- origin ------------------------------------------------------------------- */

enum dds_mode {
	DDS_AWAY,	/* no server; what needs one is held */
	DDS_LIVE,
	DDS_FAILED,	/* the server refuses it: nothing can be copied out any more */
};

struct dds_settle {
	u64 id;				/* of the request; 0: there is none */
	u64 first, next, end;
	bool unreadable;		/* a chunk of it is */
};

struct dds_origin {
	/*
	 * A reference of ios is held by each write from the decision that it needs no
	 * copy-out until it has ended, and by each batch: a generation begins when there
	 * is none.
	 */
	struct dds_volume vol;
	u32 batch_bytes;
	unsigned int hold_timeout;	/* s; 0: none */
	bool fail_write;		/* to a chunk that cannot be read, and which snapshots need */

	/* What a write looks at. Changed only while it is quiet. */
	unsigned long *settled;		/* a bit a chunk */
	unsigned long *known;		/* a bit for 1 << DDS_PAGE_SHIFT chunks: clear bits of settled need a copy */
	u64 chunks;
	u64 generation;
	u64 size;			/* bytes */
	u64 newest;			/* may also become 0 or less at any time, as */
	u64 largest;			/* this may */
	u64 restoring;

	/* Guarded by vol.lock. */
	struct dds_leases leases;	/* taken out by the copier, added by the dispatcher */
	enum dds_mode mode;
	bool has_session;		/* it has ever had one */
	bool begin;			/* the copier is to attach, resume or renew */
	bool broken;			/* a batch could not be made durable: none may follow it in this session */
	bool fail_broken;		/* the server will have writes fail for it */
	bool no_space;			/* the server has none, as far as is known */
	bool awaiting;			/* it was asked to make some, or to say when it has */
	bool fail_space;		/* what waits for space is to fail */
	bool leasing;			/* a request for leases is under way */
	bool lease_later;		/* the server wants to see the leases used first */
	struct dds_settle settle;
	u64 epoch, seq;			/* of the next batch */
	u64 place;			/* its descriptor's slot */

	/* The copier's own. */
	struct dm_io_client *io;
	struct list_head todo;
	struct dds_batch *batches[2], *flying;
	unsigned int turn;
	u32 singles;			/* batches to come of one chunk: one of that many could not be read */
	struct dds_call lease_call, space_call, session_call;
	bool asking;			/* session_call is under way */
	const void *failure;		/* what renew says, of a broken session */
	u32 failure_len;

	struct dds_counts __percpu *counts;
	u64 batch_count, copied;
	unsigned long last_error;	/* enum ddsnap_code of the last refusal */
};

struct dds_counts {
	u64 reads, writes, held;
};

int dds_origin_get(struct dds_store *s, u32 chunk_shift, u32 batch_bytes, u64 chunks, struct dds_origin **got, char **error);
void dds_origin_put(struct dds_origin *o);
int dds_origin_map(struct dds_origin *o, struct bio *bio);
/* Of the connection; the dispatcher calls them. */
int dds_origin_state(struct dds_origin *o, const struct ddsnap_state *st, bool ends_quiesce);
int dds_origin_settle(struct dds_origin *o, u64 id, u64 first, u64 end);
/* Whether the origin's device has so many bytes. */
bool dds_origin_fits(struct dds_origin *o, u64 size);
void dds_origin_begin(struct dds_origin *o);
void dds_origin_lost(struct dds_origin *o);

/* ---- snapshot ----------------------------------------------------------------- */

#define DDS_KNOWN_BITS 13	/* chunks that a snapshot remembers: 192 KiB */
#define DDS_MAP_AHEAD 64	/* chunks of one question where they are */

struct dds_snapshot {
	struct dds_volume vol;
	struct list_head node;		/* of store->snapshots */
	u32 tag;
	bool write;

	/* Guarded by vol.lock. */
	bool open;
	u64 handle;			/* not 0 and not open: one that is to be closed */
	u64 identity;			/* its generation as a snapshot; 0: not known yet */
	u64 generation, size;
	u32 state;			/* DDSNAP_STATE_ */
	struct dds_known *known;
	u64 asked_first;		/* chunk of the last question */
	bool stale;			/* of the chunks asked about some were copied out since */

	/* The work's own, but for what ends its requests. */
	struct dds_call open_call, space_call;
	struct completion opened;
	bool awaiting;			/* space_call is under way */
	int space_error;		/* what became of it */
	struct list_head todo;
	struct list_head given;		/* writes to chunks that got slots, which nobody knows of yet: */
	struct dds_copy *copies;
	u32 count;
	bool unsynced;			/* chunks may have got slots that are not durably known */
	struct dds_leases leases;	/* the dispatcher's while it is quiet */
	u8 *buffer;			/* a chunk */
	void *message, *reply;
	u32 reply_room;
	struct dm_io_client *io;
	int last_error;
	atomic64_t upcalls, given_slots;
};

int dds_snapshot_get(struct dds_store *s, u32 tag, bool write, u32 chunk_shift, struct dds_snapshot **got, char **error);
void dds_snapshot_put(struct dds_snapshot *v);
int dds_snapshot_map(struct dds_snapshot *v, struct bio *bio);
int dds_snapshot_end_io(struct dds_snapshot *v, struct bio *bio, blk_status_t *error);
/* Of the connection; the dispatcher calls it. */
int dds_snapshot_state(struct dds_snapshot *v, const struct ddsnap_snapshot_state *st);
/* The connection has ended. Store->lock is held. */
void dds_snapshot_lost(struct dds_snapshot *v);
/* The origin's copier: these chunks may be overwritten in the origin from now on. */
void dds_snapshots_copied(struct dds_store *s, const struct dds_batch *b);

#endif
