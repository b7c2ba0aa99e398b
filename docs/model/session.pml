/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes: an origin client, a server that may die alone and come back, a reader
 * and a writer of a snapshot. Reports, leases, mappings and the resumption of a
 * session: rules 3, 5, 7, 8, 9 and 12 of their order. Writes are durable at once here;
 * power.pml has what a power cut adds. Every alternative of the loop at the end is
 * a step that nothing interrupts. See README.md.
 */

#include "ordering.pml"

#ifndef WRITES
#define WRITES 3		/* of the origin */
#endif
#ifndef CRASHES
#define CRASHES 1		/* of the server */
#endif
#ifndef DEATHS
#define DEATHS 1		/* of the origin client */
#endif
#ifndef DELETES
#define DELETES 1
#endif
#ifndef READS
#define READS 1			/* of chunk 0 of snapshot 1 */
#endif

byte writes, crashes, deaths, deletes, reads, branch_writes;	/* done so far */
byte version = CHUNKS;						/* newest content that anyone wrote */

/* ---- Devices. ---- */

byte origin[CHUNKS];
byte data[SLOTS];

/* The log of batches, of one chunk each. */
typedef Record {
	byte epoch, gen, chunk, slot;
};
Record log[WRITES + 1];
byte log_end = 1;				/* number of the next record */

/* The newest checkpoint. The snapshot table and bmap are durable by the control
 * ring as soon as they change: ordering.pml's live, gen and bmap are on the device. */
typedef Image {
	byte exc[CHUNKS * SNAPS];
	byte position, epoch;
};
Image durable;

/* ---- Memory of the server. ---- */

bool server_lives, ready;			/* ready: it knows what its clients hold */
bool has_client;				/* an origin client's session is open, or held for it */
byte session;					/* epoch of that session */
byte position;					/* number of the next report */
bool changed;
bool reader_known;				/* the reader keeps snapshot 1 from being deleted */
chan reports = [2] of { byte };			/* numbers of batches; in the socket, lost with the server */
bool answered;					/* the answer is in the socket, lost with the server */

/* ---- Memory of the origin client. It holds a lock while it lives. ---- */

bool client_lives, connected;
bool asking;					/* to resume, and has no answer yet */
byte client_gen, client_newest;			/* its state: current generation, newest snapshot or 0 */
byte settled[CHUNKS];
byte lease;					/* slot + 1, or 0 */
byte writing;					/* the chunk being written */
bool quiet;					/* a snapshot is being made: no write begins */

#define IDLE     0
#define WAIT     1				/* for a lease */
#define COPIED   2				/* the batch is durable */
#define GO       3				/* the origin may be written */
#define LATE     4				/* without rule 8: written, not yet reported */
byte write_is;
byte copied;					/* number of the batch to be reported */
byte copied_epoch;				/* and the session that it was made in */

/* ---- Memory of the reader and the writer of snapshot 1. ---- */

#define CLOSED   0
#define OPENED   1
#define MAPPED   2				/* was told where to read */
#define SHARED   3				/* has read the origin */
#define DONE     4
byte reader_is, reader_at, reader_content;
byte branch_content;

inline check_branch()
{
	HOLDS(branch_reads_what_was_flushed, bmap == 0 || data[bmap - 1] == branch_content)
}

/* ---- Origin writes. ---- */

#ifndef NO_RULE_4_HOLD
#define HELD quiet		/* Rule 4: until it is told the new state, by whomever. */
#else
#define HELD (quiet && connected)
#endif
#define CAN_BEGIN (client_lives && write_is == IDLE && !HELD && writes < WRITES)
inline begin_write(chunk)
{
	writes++;
	writing = chunk;
	if
#ifndef NO_RULE_7
	:: client_newest == 0 || settled[chunk] == client_gen	/* Rule 7: see power.pml. */
#else
	:: client_newest == 0 || settled[chunk]
#endif
		-> write_is = GO
	:: else -> write_is = WAIT
	fi
}

#ifndef NO_RULE_12
#define MAY_COMMIT (!asking)	/* Rule 12: the server may have begun a session already. */
#else
#define MAY_COMMIT true
#endif
/* Copies the chunk to the leased slot. No server is needed. */
inline copy_out()
{
	data[lease - 1] = origin[writing];
	log[log_end].epoch = copied_epoch;
	log[log_end].gen = client_gen;
	log[log_end].chunk = writing;
	log[log_end].slot = lease;
	copied = log_end;
	log_end++;
	lease = 0;
	write_is = COPIED;
	check_branch()
}

/* Queues the report. Without a server it is dropped: the log has it. */
#define HAS_ROOM (!connected || len(reports) < 2)
#ifndef NO_RULE_8
#define CAN_REPORT (write_is == COPIED && HAS_ROOM)
#define NEXT_STATE GO		/* Rule 8: the report is queued before the origin write is released. */
#else
#define CAN_REPORT (write_is == LATE && HAS_ROOM)
#define NEXT_STATE IDLE
#endif
inline report()
{
	if
	:: connected -> reports!copied
	:: else
	fi;
	write_is = NEXT_STATE;
	copied = 0
}

#ifndef NO_RULE_8
#define CAN_END (write_is == GO)
#else
#define CAN_END (write_is == GO || write_is == COPIED)
#endif
inline end_write()
{
	version++;
	origin[writing] = version;
	settled[writing] = client_gen;
	if
	:: write_is == COPIED -> write_is = LATE
	:: else -> write_is = IDLE
	fi;
	writing = 0
}

inline forget_client()
{
	client_lives = false;
	connected = false;
	client_gen = 0;
	client_newest = 0;
	settled[0] = 0;
	settled[1] = 0;
	lease = 0;
	writing = 0;
	quiet = false;
	write_is = IDLE;
	copied = 0;
	copied_epoch = 0;
	asking = false;
	answered = false
}

inline update_client()
{
	n = 0;
	for (g : 1 .. SNAPS) {
		if
		:: live[g] -> n = g
		:: else
		fi
	}
	client_gen = gen;
	client_newest = n;
	quiet = false
}

/* ---- The server at work. ---- */

/* Takes a report, if it is of the session that stands. */
inline account()
{
	reports?k;
	if
#ifndef NO_RULE_7_REPORT
	:: log[k].epoch == session ->	/* Rule 7: an older session's report is refused, by number. */
#else
	:: true ->
#endif
		HOLDS(log_is_consistent, k == position);
		take_batch(k, LEASED);
		sweep();
		changed = true
	:: else
	fi
}

inline take_batch(number, was_in)
{
	own(log[number].slot - 1, was_in);
	EXC(log[number].chunk, log[number].gen) = log[number].slot;
	position = number + 1
}

/* Takes what the log has of this session beyond what is known. A slot is leased as
 * far as this server knows of the lease. */
inline replay()
{
	for (k : 1 .. WRITES) {
		if
		:: k == position && k < log_end && log[k].epoch == session ->
			slot_is[log[k].slot - 1] = (slot_is[log[k].slot - 1] == LEASED -> FREE : slot_is[log[k].slot - 1]);
			take_batch(k, FREE)
		:: else
		fi
	}
	sweep()
}

inline checkpoint()
{
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		durable.exc[n] = exc[n]
	}
	durable.position = position;
	durable.epoch = session;
	for (n : 0 .. SLOTS - 1) {
		if
		:: slot_is[n] == FREED -> slot_is[n] = FREE
		:: else
		fi
	}
	changed = false
}

#ifndef NO_RULE_9
#define MAY_GIVE ready		/* Rule 9: it knows what a living client may still write to. */
#else
#define MAY_GIVE true
#endif
#define CAN_LEASE (server_lives && MAY_GIVE && connected && lease == 0 && ANY_SLOT(FREE))
inline give_lease()
{
	find_slot();
	slot_is[room - 1] = LEASED;
	lease = room
}

/* ---- Death and return of the server. ---- */

inline crash()
{
	crashes++;
	server_lives = false;
	ready = false;
	connected = false;
	has_client = false;
	session = 0;
	position = 0;
	changed = false;
	reader_known = false;
	answered = false;
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		exc[n] = 0
	}
	for (n : 0 .. SLOTS - 1) {
		slot_is[n] = FREE
	}
	do
	:: len(reports) > 0 -> reports?k
	:: else -> break
	od
}

/* Starts again: checkpoint and log. Whether an origin client lives it sees by the
 * lock. If so it waits for it, ready for little. */
inline start()
{
	server_lives = true;
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		exc[n] = durable.exc[n];
		if
		:: exc[n] -> own(exc[n] - 1, FREE)
		:: else
		fi
	}
	if
	:: bmap -> own(bmap - 1, FREE)
	:: else
	fi;
	position = durable.position;
	session = durable.epoch;
	replay();
	if
	:: client_lives ->
		has_client = true;
#ifdef NO_RULE_9_EPOCH
		session++;
		checkpoint()	/* Rule 9: the client's epoch stands until it has resumed. */
#endif
	:: else -> open_session()
	fi
}

inline next_session()
{
	session++;
	ready = true;
#ifndef NO_RULE_2_SESSION
	checkpoint()		/* Rule 2: an epoch is durable before a batch carries it. */
#else
	changed = true
#endif
}

/* Begins a session without a client: leases are free again, old reports are refused. */
inline open_session()
{
	for (n : 0 .. SLOTS - 1) {
		if
		:: slot_is[n] == LEASED -> slot_is[n] = FREE
		:: else
		fi
	}
	has_client = false;
	next_session()
}

/* The client comes back to a server that was restarted, with its lease and its
 * position, which is the log's end. The server begins a session before its answer is
 * heard, and may die between; the client then asks the next one. */
#define CAN_RESUME (server_lives && client_lives && !connected && has_client && !ready)
inline resume()
{
	replay();
	if
	:: lease -> HOLDS(slot_has_one_owner, slot_is[lease - 1] == FREE); slot_is[lease - 1] = LEASED
	:: else
	fi;
	next_session();
	asking = true;
	answered = true;
	check_mapped()
}

inline hear()
{
	connected = true;
	asking = false;
	answered = false;
	copied_epoch = session;
	update_client()
}

/* What the server knows is what the log has: a shared chunk is shared. */
inline check_mapped()
{
	for (s : 1 .. SNAPS) {
		for (c : 0 .. CHUNKS - 1) {
			if
			:: live[s] ->
				lookup(s, c);
				HOLDS(snapshot_reads_its_promise, (at && data[at - 1] == PROMISED(s, c)) || (!at && origin[c] == PROMISED(s, c)))
			:: else
			fi
		}
	}
}

/* The client is dead: the lock is free. */
#define CAN_TAKE_BACK (server_lives && has_client && !client_lives)
inline take_back()
{
	replay();
	open_session();
	check_mapped()
}

#define CAN_ATTACH (server_lives && ready && !has_client && !client_lives)
inline attach()
{
	client_lives = true;
	connected = true;
	has_client = true;
	update_client();
	copied_epoch = session;
	for (c : 0 .. CHUNKS - 1) {
		need(c);
		settled[c] = (needed -> 0 : gen)
	}
}

/* ---- Snapshots. ---- */

#define CAN_MAKE (server_lives && ready && gen < SNAPS && (!has_client || connected) && write_is == IDLE && !quiet)
/* The snapshot's record is durable. The client has said before that it is quiet, and
 * hears of it later, by STEP(connected && quiet). */
inline make_snapshot()
{
	gen++;
	live[gen] = true;
	for (c : 0 .. CHUNKS - 1) {
		PROMISED(gen, c) = origin[c]
	}
	quiet = connected
}

#define CAN_DELETE(snap) (server_lives && live[snap] && deletes < DELETES && READER_KNOWN && UNUSED(snap))
#ifndef NO_RULE_3_READER
#define UNUSED(snap) (snap != 1 || !reader_known)	/* Rule 3: never while a reader may be in its slots. */
#else
#define UNUSED(snap) true
#endif
#ifndef NO_RULE_9_READER
#define READER_KNOWN (reader_is == CLOSED || reader_known)	/* Rule 9: by its lock, a reader that lives. */
#else
#define READER_KNOWN true
#endif
inline delete_snapshot(snap)
{
	deletes++;
	live[snap] = false;
	sweep();
	changed = true;
	if
	:: connected -> update_client()
	:: else
	fi
}

/* ---- The writer of snapshot 1: one write, durable with its mapping. ---- */

#define CAN_WRITE_BRANCH (server_lives && MAY_GIVE && live[1] && branch_writes == 0 && ANY_SLOT(FREE))
inline write_branch()
{
	branch_writes++;
	find_slot();
	slot_is[room - 1] = USED;
	bmap = room;
	version++;
	branch_content = version;
	data[room - 1] = version
}

/* ---- The reader of chunk 0 of snapshot 1, as the parent had it. ---- */

#define CAN_OPEN (server_lives && ready && reader_is == CLOSED && live[1] && reads < READS)
inline open_reader()
{
	reads++;
	reader_is = OPENED;
	reader_known = true
}

#ifndef NO_RULE_8_DRAIN
#define DRAINED (len(reports) == 0)	/* Rule 8: a Map answers after all that was queued before. */
#else
#define DRAINED true
#endif
#ifndef NO_RULE_9_MAP
#define MAY_MAP ready		/* Rule 9: until then, what is shared is not known. */
#else
#define MAY_MAP true
#endif
#define CAN_MAP (server_lives && MAY_MAP && reader_known && DRAINED)
inline map()
{
	lookup(1, 0);
	if
	:: at == 0 && reader_is == SHARED -> reader_is = DONE	/* still shared: it was read in time */
	:: else -> reader_at = at; reader_is = MAPPED
	fi
}

inline read_mapped()
{
	if
	:: reader_at -> reader_content = data[reader_at - 1]; reader_is = DONE
	:: else ->
		reader_content = origin[0];
#ifndef NO_RULE_5
		reader_is = SHARED	/* Rule 5: ask again. */
#else
		reader_is = DONE
#endif
	fi
}

inline close_reader()
{
	HOLDS(snapshot_reads_its_promise, reader_content == PROMISED(1, 0));
	reader_is = CLOSED;
	reader_known = false;
	reader_at = 0;
	reader_content = 0
}

#define FULL (!ANY_SLOT(FREE) && !ANY_SLOT(FREED))

active proctype world()
{
	d_step {
		for (c : 0 .. CHUNKS - 1) {
			origin[c] = c + 1
		}
		durable.position = 1;
		durable.epoch = 1;
		server_lives = true;
		ready = true;
		session = 1;
		position = 1;
		attach();
		skip
	}
	do
	:: STEP(CAN_BEGIN, begin_write(0))
	:: STEP(CAN_BEGIN, begin_write(1))
	:: STEP(write_is == WAIT && lease && MAY_COMMIT, copy_out())
	:: STEP(CAN_REPORT, report())
	:: STEP(CAN_END, end_write())
	:: STEP(client_lives && deaths < DEATHS, deaths++; forget_client())

	:: STEP(server_lives && len(reports) > 0, account())
	:: STEP(server_lives && changed, checkpoint())
	:: STEP(CAN_LEASE, give_lease())
	:: STEP(server_lives && crashes < CRASHES, crash())
	:: STEP(!server_lives, start())
	:: STEP(CAN_RESUME, resume())
	:: STEP(answered, hear())
	:: STEP(CAN_TAKE_BACK, take_back())
	:: STEP(CAN_ATTACH, attach())

	:: STEP(CAN_MAKE, make_snapshot())
	:: STEP(connected && quiet, update_client())
	:: STEP(CAN_DELETE(1), delete_snapshot(1))
	:: STEP(CAN_DELETE(2), delete_snapshot(2))
	:: STEP(CAN_WRITE_BRANCH, write_branch())

	:: STEP(CAN_OPEN, open_reader())
	:: STEP(server_lives && reader_is != CLOSED && !reader_known, reader_known = true)
	:: STEP(CAN_MAP && (reader_is == OPENED || reader_is == SHARED), map())
	:: STEP(reader_is == MAPPED, read_mapped())
	:: STEP(reader_is == DONE, close_reader())

	/* The end: nothing is left to be done. A write may wait only for room. */
	:: server_lives && ready && !changed && len(reports) == 0 && reader_is == CLOSED && !quiet && !asking &&
	   (write_is == IDLE || (write_is == WAIT && FULL)) -> break
	od
}
