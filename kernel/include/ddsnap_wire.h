/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The messages between clients and the metadata server of a store, as in
 * engine/wire/PROTOCOL.md, which says what they mean. All numbers are little-endian;
 * all fields lie at multiples of their size. engine/wire/testdata/ has an example of
 * each, which tests hold against this header.
 */
#ifndef DDSNAP_WIRE_H
#define DDSNAP_WIRE_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#else
#include <assert.h>
#endif
#include <linux/types.h>

#define DDSNAP_MAGIC		0x006470616e736464ull	/* "ddsnapd\0" */
#define DDSNAP_VERSION		1
#define DDSNAP_MAX_BODY		(2u << 20)
#define DDSNAP_MAX_RUNS		4096u
#define DDSNAP_MAX_MAPPINGS	16384u
#define DDSNAP_MAX_UNSETTLED	4096u
#define DDSNAP_MAX_TEXT		4096u

enum ddsnap_type {
	DDSNAP_HELLO = 1,
	DDSNAP_ATTACH,
	DDSNAP_RESUME,
	DDSNAP_DETACH,
	DDSNAP_LEASE,
	DDSNAP_REPORT,
	DDSNAP_CHECKPOINT,
	DDSNAP_UNSETTLED,
	DDSNAP_OPEN_SNAPSHOT,
	DDSNAP_CLOSE_SNAPSHOT,
	DDSNAP_MAP,
	DDSNAP_LEASE_BRANCH,
	DDSNAP_REPORT_BRANCH,
	DDSNAP_SYNC_BRANCH,
	DDSNAP_RESTORED,
	DDSNAP_RESTORE_BRANCH,
	DDSNAP_READY,
	DDSNAP_AWAIT_SPACE,
	DDSNAP_MAP_RESTORING,
	DDSNAP_RENEW,

	DDSNAP_QUIESCE = 32,
	DDSNAP_STATE,
	DDSNAP_UPDATE,
	DDSNAP_SETTLE,
	DDSNAP_FIT,
	DDSNAP_MANAGE,
};

#define DDSNAP_FLAG_REPLY	1u
#define DDSNAP_FLAG_ERROR	2u

struct ddsnap_header {
	__le32 length;		/* of the body, at most DDSNAP_MAX_BODY */
	__le16 type;
	__le16 flags;
	__le64 id;
};

#define DDSNAP_FEATURE_FIT	1u
#define DDSNAP_FEATURE_MANAGE	2u
#define DDSNAP_FEATURE_RESTORE	4u
#define DDSNAP_FEATURE_HOLD	8u

struct ddsnap_hello {
	__le64 magic;
	__le16 min_version;
	__le16 max_version;
	__le32 lock;
	__le64 features;
};

struct ddsnap_welcome {
	__le64 magic;
	__le16 version;
	__u8 zero[6];
	__le64 features;
	__u8 uuid[16];
};

struct ddsnap_position {
	__le64 place;
	__le64 seq;
};

#define DDSNAP_STATE_REVOKED	1u
#define DDSNAP_STATE_FAILED	2u
#define DDSNAP_STATE_WRITABLE	4u
#define DDSNAP_STATE_SQUASHED	8u
#define DDSNAP_STATE_REMEMBER	16u

struct ddsnap_state {
	__le64 generation;
	__le64 newest;
	__le64 size;
	__le64 largest;
	__le64 restoring;
	__le32 flags;
	__le32 zero;
};

struct ddsnap_snapshot_state {
	__le64 generation;
	__le64 size;
	__le32 flags;
	__le32 zero;
};

struct ddsnap_run {
	__le64 first;
	__le64 slots;
};

struct ddsnap_runs {
	__le32 number;
	__le32 zero;
	struct ddsnap_run runs[];
};

struct ddsnap_session {
	__u8 uuid[16];
	__u8 placement;
	__u8 chunk_shift;
	__u8 zero[6];
	__le64 size;
	__le64 data_offset;
	__le64 slots;
	__le64 journal_start;
	__le64 journal_size;
	__le64 epoch;
	struct ddsnap_position position;
	struct ddsnap_state state;
	struct ddsnap_runs leases;
};

struct ddsnap_progress {
	__u8 uuid[16];
	__le64 epoch;
	__le64 generation;
	struct ddsnap_position position;
	__le32 flags;		/* DDSNAP_PROGRESS_* */
	__le32 zero;
};

#define DDSNAP_PROGRESS_FAILED	1u	/* the batch at position was written and failed: the log may have it */

/* A batch that could not be made durable. The reason's text follows, then its slots as runs. */
struct ddsnap_failure {
	struct ddsnap_progress progress;
	__le32 reason;		/* bytes of the text */
	__le32 zero;
};

/* The body of a batch's record (FORMAT.md): runs, then a CRC32C a chunk. */
struct ddsnap_batch_run {
	__le64 chunk;
	__le64 slot;
	__le32 length;
	__le32 zero;
};

struct ddsnap_batch {
	__le64 generation;
	__le64 branch;
	__le32 runs;
	__le32 chunks;
	struct ddsnap_batch_run run[];
};

struct ddsnap_report {
	struct ddsnap_position position;
	__le64 head;
	__le32 flags;		/* 1: it has a descriptor */
	__le32 zero;
	struct ddsnap_batch batch;
};

/* A log record's header (FORMAT.md). A descriptor begins with it. */
#define DDSNAP_RECORD_MAGIC	0x6372737au	/* "zsrc" */
#define DDSNAP_RECORD_BATCH	1
#define DDSNAP_LOST_SLOT	0x7fffffffffffffffull	/* no slot: the chunk could not be read */

struct ddsnap_record {
	__le32 magic;
	__le16 version;		/* 1 */
	__u8 kind;
	__u8 zero;
	__le32 length;		/* of the body */
	__le32 crc;		/* CRC32C of header and body, with this field zero */
	__u8 uuid[16];
	__le64 epoch;
	__le64 seq;
	__le64 durable;
	__le64 next;
};

struct ddsnap_range {
	__le64 first;
	__le64 end;
};

struct ddsnap_bitmap {
	__le32 number;
	__le32 zero;
	__le64 words[];
};

#define DDSNAP_OPEN_WRITE	1u
#define DDSNAP_OPEN_NAME	2u

struct ddsnap_open {
	__le32 tag;
	__le32 flags;
	__u8 name[];
};

struct ddsnap_snapshot_session {
	__le64 handle;
	struct ddsnap_snapshot_state state;
	__u8 snapshot[];	/* the body of the snapshot's record */
};

struct ddsnap_handle_range {
	__le64 handle;
	struct ddsnap_range range;
};

struct ddsnap_handle_want {
	__le64 handle;
	__le64 want;
};

#define DDSNAP_STORED		0
#define DDSNAP_SHARED		1
#define DDSNAP_LOST		2

struct ddsnap_mapping {
	__le64 chunk;
	__le64 chunks;
	__le64 slot;
	__u8 kind;
	__u8 owned;
	__u8 zero[6];
};

struct ddsnap_mappings {
	__le32 number;
	__le32 zero;
	struct ddsnap_mapping mappings[];
};

struct ddsnap_written {
	__le64 handle;
	struct ddsnap_batch batch;
};

/* What *state* carries after the handle: that of the origin, or of a snapshot. */
struct ddsnap_handle_state {
	__le64 handle;
	union {
		struct ddsnap_state origin;
		struct ddsnap_snapshot_state snapshot;
	};
};

enum ddsnap_code {
	DDSNAP_E_OTHER = 1,
	DDSNAP_E_PROTOCOL,
	DDSNAP_E_DENIED,
	DDSNAP_E_AWAY,
	DDSNAP_E_STALE,
	DDSNAP_E_NO_SPACE,
	DDSNAP_E_LEASES,
	DDSNAP_E_NO_SNAPSHOT,
	DDSNAP_E_SNAPSHOT_EXISTS,
	DDSNAP_E_IN_USE,
	DDSNAP_E_READ_ONLY,
	DDSNAP_E_STORE_FAILED,
	DDSNAP_E_ATTACHED,
	DDSNAP_E_HELD,
	DDSNAP_E_HAS_SNAPSHOTS,
	DDSNAP_E_SQUASHED,
	DDSNAP_E_NAME,
	DDSNAP_E_NO_GROUP,
	DDSNAP_E_GEOMETRY,
	DDSNAP_E_CORRUPT,
	DDSNAP_E_CLOSED,
	DDSNAP_E_CANCELED,
	DDSNAP_E_RESTORING,
	DDSNAP_E_SIZE,
	DDSNAP_E_LOST,
	DDSNAP_E_RESIZING,
	DDSNAP_E_TOO_SMALL,
	DDSNAP_E_NO_ORIGIN,
};

struct ddsnap_fault {
	__le32 code;
	__le32 zero;
	__u8 text[];		/* UTF-8, not terminated */
};

#define DDSNAP_ASSERT_SIZE(type, size) \
	static_assert(sizeof(struct type) == (size), #type " has another size on the wire")

DDSNAP_ASSERT_SIZE(ddsnap_header, 16);
DDSNAP_ASSERT_SIZE(ddsnap_hello, 24);
DDSNAP_ASSERT_SIZE(ddsnap_welcome, 40);
DDSNAP_ASSERT_SIZE(ddsnap_position, 16);
DDSNAP_ASSERT_SIZE(ddsnap_state, 48);
DDSNAP_ASSERT_SIZE(ddsnap_snapshot_state, 24);
DDSNAP_ASSERT_SIZE(ddsnap_runs, 8);
DDSNAP_ASSERT_SIZE(ddsnap_run, 16);
DDSNAP_ASSERT_SIZE(ddsnap_session, 144);
DDSNAP_ASSERT_SIZE(ddsnap_progress, 56);
DDSNAP_ASSERT_SIZE(ddsnap_failure, 64);
DDSNAP_ASSERT_SIZE(ddsnap_batch_run, 24);
DDSNAP_ASSERT_SIZE(ddsnap_batch, 24);
DDSNAP_ASSERT_SIZE(ddsnap_report, 56);
DDSNAP_ASSERT_SIZE(ddsnap_record, 64);
DDSNAP_ASSERT_SIZE(ddsnap_range, 16);
DDSNAP_ASSERT_SIZE(ddsnap_bitmap, 8);
DDSNAP_ASSERT_SIZE(ddsnap_open, 8);
DDSNAP_ASSERT_SIZE(ddsnap_snapshot_session, 32);
DDSNAP_ASSERT_SIZE(ddsnap_handle_range, 24);
DDSNAP_ASSERT_SIZE(ddsnap_mapping, 32);
DDSNAP_ASSERT_SIZE(ddsnap_mappings, 8);
DDSNAP_ASSERT_SIZE(ddsnap_written, 32);
DDSNAP_ASSERT_SIZE(ddsnap_handle_state, 56);
DDSNAP_ASSERT_SIZE(ddsnap_fault, 8);

#endif
