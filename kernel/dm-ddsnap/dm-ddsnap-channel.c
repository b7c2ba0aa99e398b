// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/ddsnap: see ddsnap_dev.h. Nothing that the server can write is trusted: of each
 * ring the kernel keeps its own index, and a message is copied before it is looked at.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "dm-ddsnap.h"

#define LATER_MS 2	/* until the server is woken for a message that has no reply */

/* ---- rings -------------------------------------------------------------------- */

static void ring_put(struct dds_channel *c, const void *data, u32 len)
{
	u32 at = c->head & (c->out_size - 1);
	u32 first = min(len, c->out_size - at);

	memcpy(c->out + at, data, first);
	memcpy(c->out, data + first, len - first);
	c->head += len;
}

static void ring_get(struct dds_channel *c, void *data, u32 len)
{
	u32 at = c->tail & (c->in_size - 1);
	u32 first = min(len, c->in_size - at);

	memcpy(data, c->in + at, first);
	memcpy(data + first, c->in, len - first);
	c->tail += len;
}

/* Room in the ring to the server; U32_MAX: its tail is none. */
static u32 ring_room(struct dds_channel *c)
{
	/* The server has read what is before its tail; pairs with its release. */
	u32 used = c->head - smp_load_acquire(&c->rings->to_server.tail);

	return used > c->out_size ? U32_MAX : c->out_size - used;
}

static bool room_or_closed(struct dds_channel *c, u32 len)
{
	if (READ_ONCE(c->closed) || ring_room(c) >= len)
		return true;
	WRITE_ONCE(c->rings->to_server.writer_waits, 1);
	smp_mb();	/* the flag before looking again; pairs with the server's */
	return ring_room(c) >= len;
}

/*
 * Wakes a server that waits for messages. Only the server takes its flag back, for only it
 * knows that it was woken: by poll(), which drops a wakeup when there is nothing to read.
 */
static void channel_wake_reader(struct dds_channel *c)
{
	smp_mb();	/* the head before looking who waits; pairs with the server's */
	if (READ_ONCE(c->rings->to_server.reader_waits))
		wake_up_interruptible_poll(&c->readers, EPOLLIN | EPOLLRDNORM);
}

static void channel_wake_later(struct work_struct *work)
{
	struct dds_channel *c = container_of(to_delayed_work(work), struct dds_channel, wake);

	channel_wake_reader(c);
}

/*
 * What has no reply, as a report, is not worth waking the server for: it sees it when it
 * looks for any other reason, at the latest after a while.
 */
static void channel_wake(struct dds_channel *c, u64 id)
{
	if (id || ring_room(c) < c->out_size / 2)
		channel_wake_reader(c);
	else
		queue_delayed_work(c->store->io_wq, &c->wake, msecs_to_jiffies(LATER_MS));
}

int dds_channel_send(struct dds_channel *c, u16 type, u16 flags, u64 id,
		     const struct kvec *parts, unsigned int count)
{
	struct ddsnap_header h = { .type = cpu_to_le16(type), .flags = cpu_to_le16(flags), .id = cpu_to_le64(id) };
	u32 len = sizeof(h), i;
	int err = -ENOTCONN;

	for (i = 0; i < count; i++)
		len += parts[i].iov_len;
	h.length = cpu_to_le32(len - sizeof(h));
	if (WARN_ON_ONCE(len > c->out_size))
		return -EMSGSIZE;

	mutex_lock(&c->send_lock);
	wait_event_idle(c->writers, room_or_closed(c, len));
	if (ring_room(c) == U32_MAX)
		dds_channel_close(c);
	if (READ_ONCE(c->closed))
		goto out;
	ring_put(c, &h, sizeof(h));
	for (i = 0; i < count; i++)
		ring_put(c, parts[i].iov_base, parts[i].iov_len);
	smp_store_release(&c->rings->to_server.head, c->head);	/* after the bytes */
	channel_wake(c, id);
	err = 0;
out:
	mutex_unlock(&c->send_lock);
	return err;
}

/* Takes the next whole message off the ring. 0: there is none; <0: it is malformed. */
static int ring_next(struct dds_channel *c, struct ddsnap_header *h, u32 *len)
{
	/* What is before the head is there; pairs with the server's release. */
	u32 have = smp_load_acquire(&c->rings->to_kernel.head) - c->tail;
	u32 before = c->tail;

	if (have > c->in_size)
		return -EPROTO;
	if (have < sizeof(*h))
		return 0;
	ring_get(c, h, sizeof(*h));
	*len = le32_to_cpu(h->length);
	if (*len > DDS_MAX_MESSAGE || *len + sizeof(*h) > c->in_size)
		return -EPROTO;
	if (have < sizeof(*h) + *len) {
		c->tail = before;
		return 0;
	}
	ring_get(c, c->message, *len);
	smp_store_release(&c->rings->to_kernel.tail, c->tail);	/* the bytes were copied */
	smp_mb();	/* the tail before looking who waits; pairs with the server's */
	if (READ_ONCE(c->rings->to_kernel.writer_waits))
		wake_up_interruptible_poll(&c->readers, EPOLLOUT | EPOLLWRNORM);
	return 1;
}

static void channel_dispatch(struct work_struct *work)
{
	struct dds_channel *c = container_of(work, struct dds_channel, dispatch);
	struct ddsnap_header h;
	u32 len;
	int got;

	while (!READ_ONCE(c->closed)) {
		got = ring_next(c, &h, &len);
		if (!got) {
			WRITE_ONCE(c->rings->to_kernel.reader_waits, 1);
			smp_mb();	/* before looking again; pairs with the server's */
			got = ring_next(c, &h, &len);
		}
		if (got > 0)
			got = dds_store_take(c->store, &h, c->message, len) ?: 1;
		if (got < 0) {
			DMERR_LIMIT("malformed message of type %u from the server: its connection ends", le16_to_cpu(h.type));
			dds_channel_close(c);
			dds_store_unbind(c->store, c);
		}
		if (!got)
			break;
		cond_resched();
	}
	dds_channel_put(c);
}

static void channel_wake_dispatch(struct dds_channel *c)
{
	dds_channel_get(c);
	if (!queue_work(c->store->dispatch_wq, &c->dispatch))
		dds_channel_put(c);
}

void dds_channel_close(struct dds_channel *c)
{
	WRITE_ONCE(c->closed, true);
	if (c->rings)
		WRITE_ONCE(c->rings->closed, 1);
	wake_up_all(&c->writers);
	wake_up_interruptible_poll(&c->readers, EPOLLIN | EPOLLOUT | EPOLLHUP);
}

void dds_channel_get(struct dds_channel *c)
{
	kref_get(&c->ref);
}

static void channel_free(struct kref *ref)
{
	struct dds_channel *c = container_of(ref, struct dds_channel, ref);

	vfree(c->memory);
	kvfree(c->message);
	kfree(c);
}

void dds_channel_put(struct dds_channel *c)
{
	kref_put(&c->ref, channel_free);
}

/* ---- the character device ----------------------------------------------------- */

static int ddsnap_open(struct inode *inode, struct file *file)
{
	struct dds_channel *c;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	c = kzalloc(sizeof(*c), GFP_KERNEL);
	if (!c)
		return -ENOMEM;
	kref_init(&c->ref);
	mutex_init(&c->send_lock);
	init_waitqueue_head(&c->readers);
	init_waitqueue_head(&c->writers);
	INIT_WORK(&c->dispatch, channel_dispatch);
	INIT_DELAYED_WORK(&c->wake, channel_wake_later);
	file->private_data = c;
	return nonseekable_open(inode, file);
}

static int ddsnap_release(struct inode *inode, struct file *file)
{
	struct dds_channel *c = file->private_data;
	struct dds_store *s = c->store;

	dds_channel_close(c);
	if (s) {
		dds_store_unbind(s, c);
		mutex_lock(&c->send_lock);	/* who sends has seen that it is closed, or is done */
		mutex_unlock(&c->send_lock);
		cancel_delayed_work_sync(&c->wake);
		flush_workqueue(s->dispatch_wq);
		dds_store_put(s);
	}
	dds_channel_put(c);
	return 0;
}

static bool ring_size_ok(u32 size)
{
	return is_power_of_2(size) && size >= DDSNAP_RING_MIN && size <= DDSNAP_RING_MAX;
}

static long ddsnap_bind(struct dds_channel *c, const struct ddsnap_bind __user *arg)
{
	struct ddsnap_bind b;
	struct dds_store *s;
	int err;

	if (copy_from_user(&b, arg, sizeof(b)))
		return -EFAULT;
	if (b.version != DDSNAP_DEV_VERSION || b.flags || !ring_size_ok(b.to_server_size) || !ring_size_ok(b.to_kernel_size))
		return -EINVAL;
	mutex_lock(&c->send_lock);
	err = -EBUSY;
	if (c->store)
		goto out;
	err = -ENOMEM;
	c->message = c->message ?: kvmalloc(DDS_MAX_MESSAGE, GFP_KERNEL);
	c->memory = c->memory ?: vmalloc_user(PAGE_SIZE + b.to_server_size + b.to_kernel_size);
	if (!c->message || !c->memory)
		goto out;
	c->rings = c->memory;
	c->out = c->memory + PAGE_SIZE;
	c->in = c->out + b.to_server_size;
	c->out_size = b.to_server_size;
	c->in_size = b.to_kernel_size;
	WRITE_ONCE(c->rings->to_kernel.reader_waits, 1);
	s = dds_store_get(b.uuid);
	err = PTR_ERR_OR_ZERO(s);
	if (err)
		goto out;
	err = dds_store_bind(s, c);
	if (err)
		dds_store_put(s);
out:
	if (err && !c->store && c->memory) {
		vfree(c->memory);
		c->memory = NULL;
		c->rings = NULL;
	}
	mutex_unlock(&c->send_lock);
	if (!err)
		dds_store_connect(s);
	return err;
}

static long ddsnap_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dds_channel *c = file->private_data;
	struct ddsnap_query q;

	switch (cmd) {
	case DDSNAP_IOC_QUERY:
		if (copy_from_user(&q, (void __user *)arg, sizeof(q)))
			return -EFAULT;
		dds_store_query(&q);
		return copy_to_user((void __user *)arg, &q, sizeof(q)) ? -EFAULT : 0;
	case DDSNAP_IOC_BIND:
		return ddsnap_bind(c, (const struct ddsnap_bind __user *)arg);
	case DDSNAP_IOC_KICK:
		if (!READ_ONCE(c->store))
			return -ENOTCONN;
		channel_wake_dispatch(c);
		wake_up_all(&c->writers);
		return 0;
	}
	return -ENOTTY;
}

static __poll_t ddsnap_poll(struct file *file, poll_table *wait)
{
	struct dds_channel *c = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &c->readers, wait);
	if (!READ_ONCE(c->store))
		return 0;
	if (READ_ONCE(c->closed))
		mask |= EPOLLHUP;
	if (READ_ONCE(c->rings->to_server.head) != READ_ONCE(c->rings->to_server.tail))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(c->rings->to_kernel.head) - READ_ONCE(c->rings->to_kernel.tail) < c->in_size)
		mask |= EPOLLOUT | EPOLLWRNORM;
	return mask;
}

static int ddsnap_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dds_channel *c = file->private_data;
	int err = -ENXIO;

	mutex_lock(&c->send_lock);
	if (c->store)
		err = remap_vmalloc_range(vma, c->memory, vma->vm_pgoff);
	mutex_unlock(&c->send_lock);
	return err;
}

static const struct file_operations ddsnap_fops = {
	.owner		= THIS_MODULE,
	.open		= ddsnap_open,
	.release	= ddsnap_release,
	.unlocked_ioctl	= ddsnap_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.poll		= ddsnap_poll,
	.mmap		= ddsnap_mmap,
};

static struct miscdevice ddsnap_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= DDSNAP_DEVICE,
	.fops	= &ddsnap_fops,
	.mode	= 0600,
};

int dds_channel_init(void)
{
	BUILD_BUG_ON(sizeof(struct ddsnap_rings) > PAGE_SIZE);
	return misc_register(&ddsnap_misc);
}

void dds_channel_exit(void)
{
	misc_deregister(&ddsnap_misc);
}
