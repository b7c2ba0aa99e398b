// SPDX-License-Identifier: GPL-2.0
/*
 * Stores: each has at most one connection to a server, and the targets that use it.
 *
 * A connection is completed in steps by one work item: greeting, the snapshots, each of
 * which its own work opens, "ready", and then the origin's copier attaches or resumes.
 * Replies are taken in by the dispatcher, in the order in which they come.
 */
#include <linux/slab.h>

#include "dm-ddsnap.h"

static DEFINE_MUTEX(dds_stores_lock);
static LIST_HEAD(dds_stores);

/* ---- requests ----------------------------------------------------------------- */

/* The present channel with a reference, or NULL. */
static struct dds_channel *store_channel(struct dds_store *s)
{
	struct dds_channel *c;
	unsigned long flags;

	spin_lock_irqsave(&s->lock, flags);
	c = s->channel;
	if (c)
		dds_channel_get(c);
	spin_unlock_irqrestore(&s->lock, flags);
	return c;
}

int dds_ask(struct dds_store *s, struct dds_call *call, u16 type, const struct kvec *parts, unsigned int count)
{
	struct dds_call *other;
	struct dds_channel *c;
	int err;

	spin_lock_irq(&s->lock);
	c = s->channel;
	if (!c) {
		spin_unlock_irq(&s->lock);
		return -ENOTCONN;
	}
	dds_channel_get(c);
	call->id = ++s->last_id;
	list_add_tail(&call->node, &s->calls);
	spin_unlock_irq(&s->lock);

	err = dds_channel_send(c, type, 0, call->id, parts, count);
	if (err) {
		err = 0;	/* unless it is still ours: who unbinds calls done */
		spin_lock_irq(&s->lock);
		list_for_each_entry(other, &s->calls, node)
			if (other == call)
				err = -ENOTCONN;
		if (err)
			list_del_init(&call->node);
		spin_unlock_irq(&s->lock);
	}
	dds_channel_put(c);
	return err;
}

void dds_cancel(struct dds_store *s, struct dds_call *call)
{
	spin_lock_irq(&s->lock);
	list_del_init(&call->node);
	spin_unlock_irq(&s->lock);
	flush_workqueue(s->dispatch_wq);	/* who has taken it off the list */
	mutex_lock(&s->ending);
	mutex_unlock(&s->ending);
}

struct dds_wait {
	struct dds_call call;
	struct completion done;
	int err;
	void *reply;
	u32 room, len;
};

static void wait_done(struct dds_call *call, int err, const void *body, u32 len)
{
	struct dds_wait *w = container_of(call, struct dds_wait, call);

	w->err = err;
	if (!err && len <= w->room) {
		memcpy(w->reply, body, len);
		w->len = len;
	} else if (!err) {
		w->err = DDSNAP_E_PROTOCOL;
	}
	complete(&w->done);
}

int dds_ask_wait(struct dds_store *s, u16 type, const void *body, u32 len, void *reply, u32 room, u32 *got)
{
	struct dds_wait w = { .call.done = wait_done, .reply = reply, .room = room };
	struct kvec part = { .iov_base = (void *)body, .iov_len = len };
	int err;

	init_completion(&w.done);
	err = dds_ask(s, &w.call, type, &part, 1);
	if (err)
		return err;
	wait_for_completion(&w.done);
	if (got)
		*got = w.len;
	return w.err;
}

int dds_tell(struct dds_store *s, u16 type, const struct kvec *parts, unsigned int count)
{
	struct dds_channel *c = store_channel(s);
	int err;

	if (!c)
		return -ENOTCONN;
	err = dds_channel_send(c, type, 0, 0, parts, count);
	dds_channel_put(c);
	return err;
}

int dds_answer(struct dds_store *s, u16 type, u64 id, u32 code, const char *text)
{
	struct ddsnap_fault f = { .code = cpu_to_le32(code) };
	struct kvec parts[2] = { { &f, sizeof(f) }, { (void *)text, text ? strlen(text) : 0 } };
	struct dds_channel *c = store_channel(s);
	int err;

	if (!c)
		return -ENOTCONN;
	if (code)
		err = dds_channel_send(c, type, DDSNAP_FLAG_REPLY | DDSNAP_FLAG_ERROR, id, parts, 2);
	else
		err = dds_channel_send(c, type, DDSNAP_FLAG_REPLY, id, NULL, 0);
	dds_channel_put(c);
	return err;
}

/* ---- messages ----------------------------------------------------------------- */

static int take_reply(struct dds_store *s, const struct ddsnap_header *h, const void *body, u32 len)
{
	const struct ddsnap_fault *f = body;
	u64 id = le64_to_cpu(h->id);
	struct dds_call *call, *found = NULL;
	bool known;
	int err = 0;

	if (le16_to_cpu(h->flags) & DDSNAP_FLAG_ERROR) {
		if (len < sizeof(*f) || !f->code)
			return -EPROTO;
		err = clamp_t(u32, le32_to_cpu(f->code), DDSNAP_E_OTHER, 1u << 16);
		DMDEBUG("server: type %u: code %d: %.*s", le16_to_cpu(h->type), err, (int)(len - sizeof(*f)), f->text);
	}
	spin_lock_irq(&s->lock);
	list_for_each_entry(call, &s->calls, node) {
		if (call->id == id) {
			found = call;
			list_del_init(&call->node);
			break;
		}
	}
	known = id && id <= s->last_id;
	spin_unlock_irq(&s->lock);
	if (!found)
		return known ? 0 : -EPROTO;	/* it was canceled */
	found->done(found, err, body, len);
	return 0;
}

static struct dds_snapshot *snapshot_of(struct dds_store *s, u64 handle)
{
	struct dds_snapshot *v, *found = NULL;

	spin_lock_irq(&s->lock);
	list_for_each_entry(v, &s->snapshots, node)
		if (v->open && v->handle == handle)
			found = v;
	spin_unlock_irq(&s->lock);
	return found;
}

/* The origin, for the dispatcher: it goes away only after that has been flushed. */
static struct dds_origin *store_origin(struct dds_store *s)
{
	return READ_ONCE(s->origin);
}

static void take_quiesce(struct dds_store *s, u64 id, u64 handle)
{
	struct dds_origin *o = store_origin(s);
	struct dds_snapshot *v = handle ? snapshot_of(s, handle) : NULL;

	if (v)
		dds_quiesce(&v->vol, id);
	else if (!handle && o)
		dds_quiesce(&o->vol, id);
	else
		dds_answer(s, DDSNAP_QUIESCE, id, 0, NULL);
}

static int take_state(struct dds_store *s, const struct ddsnap_handle_state *st, u32 len)
{
	struct dds_origin *o = store_origin(s);
	struct dds_snapshot *v;

	if (!st->handle) {
		if (len != sizeof(st->handle) + sizeof(st->origin))
			return -EPROTO;
		return o ? dds_origin_state(o, &st->origin, true) : 0;
	}
	if (len != sizeof(st->handle) + sizeof(st->snapshot))
		return -EPROTO;
	v = snapshot_of(s, le64_to_cpu(st->handle));
	return v ? dds_snapshot_state(v, &st->snapshot) : 0;
}

int dds_store_take(struct dds_store *s, const struct ddsnap_header *h, const void *body, u32 len)
{
	u16 flags = le16_to_cpu(h->flags), type = le16_to_cpu(h->type);
	struct dds_origin *o = store_origin(s);
	const struct ddsnap_range *range = body;
	u64 id = le64_to_cpu(h->id);

	if (flags & ~(DDSNAP_FLAG_REPLY | DDSNAP_FLAG_ERROR) || flags == DDSNAP_FLAG_ERROR)
		return -EPROTO;
	if (flags)
		return take_reply(s, h, body, len);
	switch (type) {
	case DDSNAP_QUIESCE:
		if (len != sizeof(__le64))
			return -EPROTO;
		take_quiesce(s, id, le64_to_cpup(body));
		return 0;
	case DDSNAP_STATE:
		return len < sizeof(__le64) ? -EPROTO : take_state(s, body, len);
	case DDSNAP_UPDATE:
		if (len != sizeof(struct ddsnap_state))
			return -EPROTO;
		return o ? dds_origin_state(o, body, false) : 0;
	case DDSNAP_SETTLE:
		if (len != sizeof(*range))
			return -EPROTO;
		if (!o) {
			dds_answer(s, type, id, DDSNAP_E_CLOSED, "the origin has no target any more");
			return 0;
		}
		return dds_origin_settle(o, id, le64_to_cpu(range->first), le64_to_cpu(range->end));
	case DDSNAP_FIT:
		if (len != sizeof(__le64))
			return -EPROTO;
		if (!o || dds_origin_fits(o, le64_to_cpup(body)))
			dds_answer(s, type, id, 0, NULL);
		else
			dds_answer(s, type, id, DDSNAP_E_GEOMETRY, "the origin's device is smaller");
		return 0;
	}
	if (!id)
		return -EPROTO;
	dds_answer(s, type, id, DDSNAP_E_OTHER, "the kernel does not know this request");
	return 0;
}

/* ---- the connection ----------------------------------------------------------- */

static int store_greet(struct dds_store *s)
{
	struct ddsnap_hello hello = {
		.magic = cpu_to_le64(DDSNAP_MAGIC), .min_version = cpu_to_le16(DDSNAP_VERSION),
		.max_version = cpu_to_le16(DDSNAP_VERSION), .lock = cpu_to_le32(DDSNAP_LOCK_KERNEL),
		.features = cpu_to_le64(DDSNAP_FEATURE_FIT | DDSNAP_FEATURE_HOLD),
	};
	struct ddsnap_welcome w;
	u32 len;
	int err;

	err = dds_ask_wait(s, DDSNAP_HELLO, &hello, sizeof(hello), &w, sizeof(w), &len);
	if (err)
		return err;
	if (len != sizeof(w) || le64_to_cpu(w.magic) != DDSNAP_MAGIC || le16_to_cpu(w.version) != DDSNAP_VERSION)
		return DDSNAP_E_PROTOCOL;
	if (memcmp(w.uuid, s->uuid, sizeof(s->uuid)))
		return DDSNAP_E_STALE;
	return 0;
}

/* Has the snapshots be opened that are not on this connection. Returns whether all are. */
static bool store_open_snapshots(struct dds_store *s)
{
	struct dds_snapshot *v;
	bool all = true;

	list_for_each_entry(v, &s->snapshots, node) {
		if (!READ_ONCE(v->open)) {
			dds_kick(&v->vol);
			all = false;
		}
	}
	return all;
}

static void store_connect(struct work_struct *work)
{
	struct dds_store *s = container_of(to_delayed_work(work), struct dds_store, connect);
	struct dds_channel *c;
	int err = 0;

	mutex_lock(&s->targets);
	c = store_channel(s);
	if (!c || (!s->origin && list_empty(&s->snapshots)))
		goto out;
	if (!s->greeted) {
		err = store_greet(s);
		if (err) {
			DMERR_LIMIT("greeting the server: error %d", err);
			dds_channel_close(c);
			dds_store_unbind(s, c);
			goto out;
		}
		spin_lock_irq(&s->lock);
		s->greeted = s->channel == c;
		spin_unlock_irq(&s->lock);
	}
	if (store_open_snapshots(s) && !s->ready) {
		err = dds_tell(s, DDSNAP_READY, NULL, 0);
		s->ready = !err;
	}
	if (s->origin && !err)
		dds_origin_begin(s->origin);
out:
	if (c)
		dds_channel_put(c);
	mutex_unlock(&s->targets);
}

void dds_store_connect(struct dds_store *s)
{
	mod_delayed_work(s->io_wq, &s->connect, 0);
}

int dds_store_bind(struct dds_store *s, struct dds_channel *c)
{
	int err = -EBUSY;

	spin_lock_irq(&s->lock);
	if (!s->channel) {
		s->channel = c;
		c->store = s;
		s->greeted = s->ready = false;
		err = 0;
	}
	spin_unlock_irq(&s->lock);
	return err;
}

void dds_store_unbind(struct dds_store *s, struct dds_channel *c)
{
	struct dds_snapshot *v;
	struct dds_call *call;
	LIST_HEAD(ended);

	mutex_lock(&s->ending);
	spin_lock_irq(&s->lock);
	if (s->channel != c) {
		spin_unlock_irq(&s->lock);
		mutex_unlock(&s->ending);
		return;
	}
	s->channel = NULL;
	s->greeted = s->ready = false;
	list_splice_init(&s->calls, &ended);	/* not those of the next connection */
	list_for_each_entry(v, &s->snapshots, node)
		dds_snapshot_lost(v);
	if (s->origin)
		dds_origin_lost(s->origin);
	while (!list_empty(&ended)) {
		call = list_first_entry(&ended, struct dds_call, node);
		list_del_init(&call->node);
		spin_unlock_irq(&s->lock);
		call->done(call, -ENOTCONN, NULL, 0);
		spin_lock_irq(&s->lock);
	}
	spin_unlock_irq(&s->lock);
	mutex_unlock(&s->ending);
}

/* ---- stores ------------------------------------------------------------------- */

static void store_free(struct dds_store *s)
{
	if (s->dispatch_wq)
		destroy_workqueue(s->dispatch_wq);
	if (s->copy_wq)
		destroy_workqueue(s->copy_wq);
	if (s->io_wq)
		destroy_workqueue(s->io_wq);
	kfree(s);
}

static struct dds_store *store_new(const u8 *uuid)
{
	struct dds_store *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return NULL;
	memcpy(s->uuid, uuid, sizeof(s->uuid));
	mutex_init(&s->targets);
	mutex_init(&s->ending);
	spin_lock_init(&s->lock);
	INIT_LIST_HEAD(&s->snapshots);
	INIT_LIST_HEAD(&s->calls);
	INIT_DELAYED_WORK(&s->connect, store_connect);
	s->dispatch_wq = alloc_ordered_workqueue("ddsnap-take", WQ_MEM_RECLAIM);
	s->copy_wq = alloc_ordered_workqueue("ddsnap-copy", WQ_MEM_RECLAIM);
	s->io_wq = alloc_workqueue("ddsnap-io", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (s->dispatch_wq && s->copy_wq && s->io_wq)
		return s;
	store_free(s);
	return NULL;
}

static struct dds_store *store_find(const u8 *uuid)
{
	struct dds_store *s;

	list_for_each_entry(s, &dds_stores, node)
		if (!memcmp(s->uuid, uuid, DDS_UUID_SIZE))
			return s;
	return NULL;
}

struct dds_store *dds_store_get(const u8 *uuid)
{
	struct dds_store *s;

	mutex_lock(&dds_stores_lock);
	s = store_find(uuid);
	if (!s) {
		s = store_new(uuid);
		if (!s) {
			mutex_unlock(&dds_stores_lock);
			return ERR_PTR(-ENOMEM);
		}
		list_add(&s->node, &dds_stores);
	}
	s->users++;
	mutex_unlock(&dds_stores_lock);
	return s;
}

void dds_store_put(struct dds_store *s)
{
	mutex_lock(&dds_stores_lock);
	if (--s->users) {
		mutex_unlock(&dds_stores_lock);
		return;
	}
	list_del(&s->node);
	mutex_unlock(&dds_stores_lock);
	cancel_delayed_work_sync(&s->connect);
	store_free(s);
}

void dds_store_query(struct ddsnap_query *q)
{
	struct dds_snapshot *v;
	struct dds_store *s;

	q->flags = 0;
	q->snapshots = 0;
	memset(q->pad, 0, sizeof(q->pad));
	mutex_lock(&dds_stores_lock);
	s = store_find(q->uuid);
	if (s) {
		spin_lock_irq(&s->lock);
		if (s->channel)
			q->flags |= DDSNAP_HAS_SERVER;
		if (s->origin)
			q->flags |= DDSNAP_HAS_ORIGIN;
		if (s->origin && s->origin->has_session)
			q->flags |= DDSNAP_HAS_SESSION;
		list_for_each_entry(v, &s->snapshots, node)
			q->snapshots++;
		spin_unlock_irq(&s->lock);
	}
	mutex_unlock(&dds_stores_lock);
}
