/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/ddsnap: how a metadata server serves the device-mapper targets of a store.
 *
 * The device carries the messages of ddsnap_wire.h, as a Unix socket does, in two
 * rings of bytes that the server maps. A server opens the device, which takes
 * CAP_SYS_ADMIN, and binds it to one store by its uuid; each store has one server at a
 * time. Once the store has a target, the kernel sends its hello; from then on it is
 * one client that may be the origin's and have any number of snapshots open.
 *
 * Closing the file, or the end of the process, ends the connection: targets hold what
 * needs the server, and go on with the next one that binds.
 */
#ifndef DDSNAP_DEV_H
#define DDSNAP_DEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DDSNAP_DEVICE		"ddsnap"	/* in /dev, and the module's misc device */
#define DDSNAP_DEV_VERSION	1

/*
 * The lock number in the hello of the kernel (see PROTOCOL.md, "When a side goes
 * away"). There is no such lock: the kernel lives while DDSNAP_IOC_QUERY says that it
 * has a target of the store.
 */
#define DDSNAP_LOCK_KERNEL	2

/*
 * One ring. Head and tail count bytes and wrap at 2^32; the ring is full when they
 * are its size apart, and the byte n is at n modulo the size. Each is written by one
 * side only, with release order after the bytes; the other reads it with acquire order.
 *
 * Who is to be woken says so: the reader sets "reader_waits" to 1, looks at head once
 * more (with a full barrier between), and then waits; the writer, after it moved head
 * and a full barrier, wakes it if the flag is set. The same with "writer_waits" and tail
 * when the ring was full. The kernel wakes through poll(), and leaves the flag to the
 * server: it is to take it back when it goes on. The server wakes by DDSNAP_IOC_KICK, and
 * may take the kernel's flag back: the kernel then looks, and sets it again before it waits.
 */
struct ddsnap_ring {
	__u32 head;		/* moved by the writer */
	__u32 reader_waits;
	__u32 pad0[14];
	__u32 tail;		/* moved by the reader */
	__u32 writer_waits;
	__u32 pad1[14];
};

/* What mmap() at offset 0 begins with: a page. Then come the rings' bytes. */
struct ddsnap_rings {
	struct ddsnap_ring to_server;	/* the kernel writes */
	struct ddsnap_ring to_kernel;	/* the server writes */
	__u32 closed;			/* the kernel has ended the connection: nothing more comes */
	__u32 pad[63];
};

/* Limits of a ring's size, a power of two, in bytes. */
#define DDSNAP_RING_MIN		(64u << 10)
#define DDSNAP_RING_MAX		(16u << 20)

/*
 * struct ddsnap_bind - makes the file the connection of a store's server
 *
 * The bytes of the ring to the server are mapped at offset 4096, those of the ring to
 * the kernel after them; the whole is mapped at once. A message must fit into its ring.
 *
 * Errors: EBUSY the store has a server already, or the file is bound; EINVAL a size or
 * the version; ENOMEM.
 */
struct ddsnap_bind {
	__u32 version;			/* DDSNAP_DEV_VERSION */
	__u32 flags;			/* zero */
	__u8 uuid[16];
	__u32 to_server_size;
	__u32 to_kernel_size;
};

/* struct ddsnap_query - what the kernel has of a store. The file need not be bound. */
struct ddsnap_query {
	__u8 uuid[16];			/* in */
	__u32 flags;			/* out: DDSNAP_HAS_ */
	__u32 snapshots;		/* out: targets of snapshots */
	__u32 pad[6];
};

#define DDSNAP_HAS_ORIGIN	1u	/* a target of the origin */
#define DDSNAP_HAS_SESSION	2u	/* which has a session: writes may have been let go that no server knows of */
#define DDSNAP_HAS_SERVER	4u	/* a file is bound */

#define DDSNAP_IOC_QUERY	_IOWR(0xdd, 1, struct ddsnap_query)
#define DDSNAP_IOC_BIND		_IOW(0xdd, 2, struct ddsnap_bind)
#define DDSNAP_IOC_KICK		_IO(0xdd, 3)	/* wakes the kernel's end */

#endif
