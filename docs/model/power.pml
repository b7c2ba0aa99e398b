/* SPDX-License-Identifier: Apache-2.0
 *
 * The store and power cuts: batches, checkpoints, snapshots and recovery, on
 * devices with volatile caches. Rules 1, 2, 3, 4, 6 and 7 of their order. Every
 * alternative of the loop at the end is a step that nothing interrupts; a power
 * cut comes between any two. See README.md.
 */

#include "ordering.pml"

#ifndef WRITES
#define WRITES 3		/* of the origin */
#endif
#ifndef CUTS
#define CUTS 2
#endif
#ifndef DELETES
#define DELETES 1
#endif
#ifndef BRANCH_WRITES
#define BRANCH_WRITES 0		/* writes to chunk 0 of snapshot 1 */
#endif
#ifndef FAILS
#define FAILS 0			/* batches that cannot be made durable; not with BRANCH_WRITES */
#endif
#define PLACES 2		/* of the log's ring */

byte writes, cuts, deletes, branch_writes, fails;	/* done so far */
byte version = CHUNKS;				/* newest content that anyone wrote */

/* ---- Devices: what is on the medium, and what a reader of the device gets. ---- */

byte origin_disk[CHUNKS], origin[CHUNKS];
byte origin_flushed[CHUNKS];			/* noted at each flush */
byte data_disk[SLOTS], data[SLOTS];		/* contents of slots */

/* The log: a ring of records on the store device. Number 0 is no valid record. */
typedef Record {
	byte number, epoch, gen;
	byte slot[CHUNKS];			/* slot + 1 of each chunk, or 0 */
	byte sum[CHUNKS];			/* checksum of each chunk: its content */
};
Record log_disk[PLACES], log[PLACES];

/* The metadata device: the newest checkpoint, and facts in the control ring. A
 * record of the control ring is flushed before the next one is written, so the
 * ring is a set of facts here. Fact 1: written; 2: durable. */
typedef Image {
	byte exc[CHUNKS * SNAPS];
	byte bmap;
	byte position;				/* number of the first batch not in it */
	byte epoch;
};
Image durable, frozen;				/* the newest checkpoint; the one being written */
bool freezing, changed;
byte made[SNAPS + 1], gone[SNAPS + 1];		/* facts: snapshot made, deleted */
byte branch_record;				/* fact: slot + 1 of bmap */

/* ---- Memory of the client. ---- */

#define IDLE 0
#define WAIT 1					/* a write waits for its copy-out */
#define GO   2					/* a write may go to the origin */
byte write_is[CHUNKS];
byte settled[CHUNKS];				/* the generation in which a chunk was settled */
#define NO_WRITE (write_is[0] == IDLE && write_is[1] == IDLE)

#define READ    1				/* has read its chunks and waits for its turn */
#define WRITTEN 2				/* descriptor and chunks are in the device's cache */
typedef Batch {
	byte is, number;
	byte slot[CHUNKS], sum[CHUNKS];
};
Batch batch[2];					/* one being read while one is committed */
byte next_number = 1;				/* of the next batch that is read */
byte position = 1;				/* of the next batch that is reported */
byte epoch = 1;
bool renewing;					/* a batch has failed, and no other session has begun */

bool acknowledged[SNAPS + 1];			/* the user was told that the snapshot exists */

/* ---- Memory of the writer of snapshot 1. ---- */

byte branch_content, branch_flushed;		/* newest content; newest that a flush covered */
byte branch_data_flushed;			/* a flush under way: content that it covers */
bool branch_overwritten;			/* in place, since the last flush */

/* Every live snapshot reads what it promised, now. */
inline check_snapshots()
{
	for (s : 1 .. SNAPS) {
		for (c : 0 .. CHUNKS - 1) {
			if
			:: live[s] ->
				lookup(s, c);
				if
				:: at -> HOLDS(snapshot_reads_its_promise, data[at - 1] == PROMISED(s, c))
				:: else -> HOLDS(snapshot_reads_its_promise, origin[c] == PROMISED(s, c))
				fi
			:: else
			fi
		}
	}
}

/* ---- Origin writes. ---- */

/* A write comes in. From here to its end it is on this side of any snapshot. */
#define CAN_BEGIN(chunk) (write_is[chunk] == IDLE && writes < WRITES)
inline begin_write(chunk)
{
	writes++;
	need(chunk);
	if
#ifndef NO_RULE_7
	:: settled[chunk] == gen	/* Rule 7: a settled bit counts in its own generation. */
#else
	:: settled[chunk]
#endif
		-> write_is[chunk] = GO
	:: else ->
		if
		:: needed -> write_is[chunk] = WAIT
		:: else -> write_is[chunk] = GO
		fi
	fi
}

inline end_write(chunk)
{
	version++;
	origin[chunk] = version;
	write_is[chunk] = IDLE;
	check_snapshots()
}

inline flush_origin()
{
	for (c : 0 .. CHUNKS - 1) {
		origin_disk[c] = origin[c];
		origin_flushed[c] = origin[c]
	}
}

/* ---- Batches. ---- */

#define WAITS(chunk) (write_is[chunk] == WAIT && !batch[0].slot[chunk] && !batch[1].slot[chunk])
#ifndef NO_RULE_2_RENEW
#define IN_SESSION (!renewing)	/* Rule 2: where the log goes on after a gap is durable before anything is written there. */
#else
#define IN_SESSION true
#endif
#define CAN_READ(b) (IN_SESSION && batch[b].is == IDLE && batch[1 - b].is != READ && (WAITS(0) || WAITS(1)) && ANY_SLOT(FREE))

/* The leader takes all that waits, gives each chunk a slot, and reads it. */
inline read_batch(b)
{
	for (c : 0 .. CHUNKS - 1) {
		find_slot();
		if
		:: WAITS(c) && room ->
			slot_is[room - 1] = LEASED;
			batch[b].slot[c] = room;
			batch[b].sum[c] = origin[c]
		:: else
		fi
	}
	batch[b].is = READ;
	batch[b].number = next_number;
	next_number++
}

/* The batch goes to the device's cache, from where any part of it may reach the
 * medium at any time. */
#ifndef NO_RULE_1_EARLIER
#define IS_NEXT(b) (batch[b].number == position)	/* Rule 1: every earlier batch is durable. */
#else
#define IS_NEXT(b) true
#endif
#ifndef NO_RULE_3_RECORD
#define HAS_PLACE(b) (batch[b].number < durable.position + PLACES)	/* Rule 3, for records of the log */
#else
#define HAS_PLACE(b) true
#endif
#define CAN_WRITE(b) (batch[b].is == READ && IS_NEXT(b) && HAS_PLACE(b))
inline write_batch(b)
{
	n = batch[b].number % PLACES;
	log[n].number = batch[b].number;
	log[n].epoch = epoch;
	log[n].gen = gen;
	for (c : 0 .. CHUNKS - 1) {
		log[n].slot[c] = batch[b].slot[c];
		log[n].sum[c] = batch[b].sum[c];
		if
		:: batch[b].slot[c] -> data[batch[b].slot[c] - 1] = batch[b].sum[c]
		:: else
		fi
	}
	batch[b].is = WRITTEN;
	check_snapshots()
}

inline flush_store()
{
	for (n : 0 .. SLOTS - 1) {
		data_disk[n] = data[n]
	}
	for (n : 0 .. PLACES - 1) {
		copy_record(log_disk[n], log[n])
	}
}

inline copy_record(to, from)
{
	to.number = from.number;
	to.epoch = from.epoch;
	to.gen = from.gen;
	to.slot[0] = from.slot[0];
	to.slot[1] = from.slot[1];
	to.sum[0] = from.sum[0];
	to.sum[1] = from.sum[1]
}

/* The flush returns, the batch is reported, and its origin writes are released. A
 * cut between these looks to recovery like a cut before the flush in which all of
 * the batch had reached the medium, so they are one step. */
inline commit_batch(b)
{
#ifndef NO_RULE_1
	flush_store();		/* Rule 1: the batch is durable before its writes go. */
#endif
	for (c : 0 .. CHUNKS - 1) {
		if
		:: batch[b].slot[c] ->
			own(batch[b].slot[c] - 1, LEASED);
			EXC(c, gen) = batch[b].slot[c];
			settled[c] = gen;
			write_is[c] = GO;
			batch[b].slot[c] = 0;
			batch[b].sum[c] = 0
		:: else
		fi
	}
	sweep();		/* its snapshot may be gone */
	if
	:: batch[b].number >= position -> position = batch[b].number + 1
	:: else
	fi
	batch[b].number = 0;
	batch[b].is = IDLE;
	changed = true
}

/* A batch cannot be made durable: each part of it is on the medium, or not, or torn, and
 * no later flush changes that. Its number is given up, and what was read meanwhile; the
 * log goes on after it. Its writes begin anew: until then, snapshots may be made. */
inline give_up_batch(b)
{
	renewing = true;
	changed = true;
	position = batch[b].number + 1;
	next_number = position;
	for (n : 0 .. 1) {
		for (c : 0 .. CHUNKS - 1) {
			if
			:: batch[n].slot[c] -> release_slot(batch[n].slot[c] - 1)
			:: else
			fi;
			batch[n].slot[c] = 0;
			batch[n].sum[c] = 0
		}
		batch[n].is = IDLE;
		batch[n].number = 0
	}
	for (c : 0 .. CHUNKS - 1) {
		if
		:: write_is[c] == WAIT -> write_is[c] = IDLE; writes--
		:: else
		fi
	}
}

/* ---- Snapshots. ---- */

#ifndef NO_RULE_4_QUIESCE
#define SIDES_ARE_CLEAR NO_WRITE	/* Rule 4: writes in flight belong to one side. */
#else
#define SIDES_ARE_CLEAR true
#endif
#define CAN_MAKE (gen < SNAPS && SIDES_ARE_CLEAR)
inline make_snapshot()
{
#ifndef NO_RULE_4_SHARED
	flush_origin();		/* Rule 4: what the snapshot shares is durable before it is. */
#endif
	gen++;
	for (c : 0 .. CHUNKS - 1) {
		PROMISED(gen, c) = origin[c]
	}
#ifndef NO_RULE_4
	made[gen] = 2;		/* Rule 4: durable before it is acknowledged and writes go on. */
#else
	made[gen] = 1;		/* made durable by a later step, make_durable */
#endif
	live[gen] = true;
	acknowledged[gen] = true;
	changed = true;
	check_snapshots()
}

#define CAN_DELETE(snap) (live[snap] && deletes < DELETES)
inline delete_snapshot(snap)
{
	deletes++;
	gone[snap] = 2;
	live[snap] = false;
	acknowledged[snap] = false;
	if
	:: snap == 1 -> forget_branch()
	:: else
	fi
	sweep();
	changed = true
}

/* ---- Writes to snapshot 1. ---- */

#define CAN_WRITE_BRANCH (live[1] && branch_writes < BRANCH_WRITES && (bmap || ANY_SLOT(FREE)))
inline write_branch()
{
	branch_writes++;
	version++;
	branch_content = version;
	if
	:: bmap == 0 -> find_slot(); bmap = room; slot_is[room - 1] = USED
	:: else -> branch_overwritten = true
	fi
	data[bmap - 1] = version;
	changed = true;
	check_snapshots()
}

inline forget_branch()
{
	branch_content = 0;
	branch_flushed = 0;
	branch_data_flushed = 0;
	branch_overwritten = false;
	branch_record = 0
}

/* A flush has two steps: data, then the mapping. */
#define CAN_FLUSH_DATA (bmap && branch_flushed != branch_content && branch_data_flushed != branch_content)
inline flush_branch_data()
{
#ifndef NO_RULE_6_DATA
	flush_store();		/* Rule 6: recovery believes the mapping, so what it leads to is durable. */
#endif
	branch_data_flushed = branch_content
}

#define CAN_FLUSH_MAP (branch_data_flushed)
inline flush_branch_map()
{
#ifndef NO_RULE_6
	branch_record = bmap;	/* Rule 6: the mapping is durable before the flush returns. */
#endif
	branch_flushed = branch_data_flushed;
	branch_overwritten = (branch_content != branch_flushed);
	branch_data_flushed = 0
}

/* ---- Checkpoints. ---- */

inline copy_image(to, from)
{
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		to.exc[n] = from.exc[n]
	}
	to.bmap = from.bmap;
	to.position = from.position;
	to.epoch = from.epoch
}

inline freeze()
{
#ifndef NO_RULE_6_CHECKPOINT
	if
	:: bmap -> flush_store()	/* Rule 6: the same holds for a mapping in a checkpoint. */
	:: else
	fi;
#endif
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		frozen.exc[n] = exc[n]
	}
	frozen.bmap = bmap;
	frozen.position = position;
	frozen.epoch = epoch;
	for (n : 0 .. SLOTS - 1) {
		if
		:: slot_is[n] == FREED -> slot_is[n] = FREEZING
		:: else
		fi
	}
	freezing = true;
	changed = false
}

inline thaw()
{
	copy_image(durable, frozen);
	renewing = (renewing && durable.position != position);
	for (n : 0 .. SLOTS - 1) {
		if
		:: slot_is[n] == FREEZING -> slot_is[n] = FREE
		:: else
		fi
	}
	forget_frozen()
}

inline forget_frozen()
{
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		frozen.exc[n] = 0
	}
	frozen.bmap = 0;
	frozen.position = 0;
	frozen.epoch = 0;
	freezing = false
}

/* ---- Power cuts and recovery. ---- */

inline lose_origin(chunk)
{
	if
	:: origin[chunk] = origin_disk[chunk]
	:: origin[chunk] != origin_disk[chunk] -> printf("  chunk %d of the origin survives\n", chunk); origin_disk[chunk] = origin[chunk]
	fi
}

inline lose_slot(place)
{
	if
	:: data[place] = data_disk[place]
	:: data[place] != data_disk[place] -> printf("  slot %d survives\n", place); data_disk[place] = data[place]
	:: data[place] != data_disk[place] -> printf("  slot %d is torn\n", place); data[place] = GARBAGE; data_disk[place] = GARBAGE
	fi
}

#define DIFFERS(p) (log[p].number != log_disk[p].number || log[p].epoch != log_disk[p].epoch || \
	log[p].gen != log_disk[p].gen || log[p].slot[0] != log_disk[p].slot[0] || log[p].slot[1] != log_disk[p].slot[1])
inline lose_place(p)
{
	if
	:: d_step { copy_record(log[p], log_disk[p]) }
	:: d_step { DIFFERS(p) -> printf("  record %d survives\n", log[p].number); copy_record(log_disk[p], log[p]) }
	:: d_step { DIFFERS(p) -> printf("  record %d is torn\n", log[p].number); log[p].number = 0; copy_record(log_disk[p], log[p]) }
	fi
}

inline lose_fact(fact)
{
	if
	:: fact != 1
	:: fact == 1 -> fact = 0
	:: fact == 1 -> printf("  a control record survives\n"); fact = 2
	fi
}

inline lose_checkpoint()
{
	if
	:: true
	:: d_step { freezing -> printf("  the checkpoint being written survives\n"); copy_image(durable, frozen) }
	fi
}

/* All memory is gone. */
inline forget()
{
	forget_frozen();
	for (c : 0 .. CHUNKS - 1) {
		write_is[c] = IDLE;
		settled[c] = 0
	}
	for (n : 0 .. 1) {
		batch[n].is = IDLE;
		batch[n].number = 0;
		for (c : 0 .. CHUNKS - 1) {
			batch[n].slot[c] = 0;
			batch[n].sum[c] = 0
		}
	}
	branch_data_flushed = 0;
	renewing = false;
	changed = false
}

/* Takes the checkpoint, then the facts of the control ring. */
inline load()
{
	for (n : 0 .. SLOTS - 1) {
		slot_is[n] = FREE
	}
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		exc[n] = durable.exc[n];
		if
		:: exc[n] -> own(exc[n] - 1, FREE)
		:: else
		fi
	}
	bmap = durable.bmap;
	if
	:: branch_record -> bmap = branch_record
	:: else
	fi
	gen = 0;
	for (s : 1 .. SNAPS) {
		live[s] = (made[s] == 2 && gone[s] != 2);
		if
		:: made[s] == 2 -> gen = s
		:: else
		fi
	}
	if
	:: bmap -> own(bmap - 1, FREE)
	:: else
	fi
	position = durable.position;
	epoch = durable.epoch
}

#ifndef NO_RULE_2
#define EXPECTED(p, wanted) (log[p].number == (wanted) && log[p].epoch == epoch)	/* Rule 2: the exact next one */
#else
#define EXPECTED(p, wanted) (log[p].number != 0)
#endif
#define WHOLE(p, chunk) (log[p].slot[chunk] == 0 || data[log[p].slot[chunk] - 1] == log[p].sum[chunk])

/* Takes batches in order, up to the first that is not whole. A record says that all
 * before it were durable when it was written: their chunks are not looked at. */
inline replay()
{
	for (k : 0 .. PLACES - 1) {
		n = position % PLACES;
		if
		:: EXPECTED(n, position) && (EXPECTED((position + 1) % PLACES, position + 1) || (WHOLE(n, 0) && WHOLE(n, 1))) ->
			HOLDS(log_is_consistent, log[n].gen <= gen);
			for (c : 0 .. CHUNKS - 1) {
				if
				:: log[n].slot[c] ->
					own(log[n].slot[c] - 1, FREE);
					EXC(c, log[n].gen) = log[n].slot[c]
				:: else
				fi
			}
			position++
		:: else -> break
		fi
	}
}

/* Makes the result the next checkpoint, in the next epoch. Until it is durable,
 * recovery writes nothing that a second recovery would miss: one step. */
inline open()
{
	sweep();
	for (n : 0 .. SLOTS - 1) {
		if
		:: slot_is[n] == FREED -> slot_is[n] = FREE
		:: else
		fi
	}
#ifndef NO_RULE_2_REUSE
	epoch++;		/* Rule 2: numbers are never used again. */
#else
	position = 1;
#endif
	next_number = position;
	for (n : 0 .. CHUNKS * SNAPS - 1) {
		durable.exc[n] = exc[n]
	}
	durable.bmap = bmap;
	durable.position = position;
	durable.epoch = epoch;
	branch_record = 0
}

inline check_recovered()
{
	for (s : 1 .. SNAPS) {
		HOLDS(snapshot_made_exists, !acknowledged[s] || live[s]);
		acknowledged[s] = live[s]
	}
	check_snapshots();
	for (c : 0 .. CHUNKS - 1) {
		HOLDS(origin_has_what_was_flushed, origin[c] >= origin_flushed[c])
	}
	check_branch()
}

/* What a flush covered is there, or something newer. Before any flush the chunk
 * may still be the parent's. Only what was overwritten in place may be torn. */
inline check_branch()
{
	at = 0;
	if
	:: bmap -> at = data[bmap - 1]
	:: else
	fi;
	HOLDS(branch_reads_what_was_flushed, !live[1] || at == branch_flushed ||
		(at > branch_flushed && at <= branch_content) || (at == GARBAGE && branch_overwritten));
	if
	:: at == GARBAGE -> at = 1; data[bmap - 1] = 1; data_disk[bmap - 1] = 1	/* bytes like others, from here on */
	:: else
	fi;
	branch_flushed = at;
	branch_content = at;
	branch_overwritten = false
}

#define FULL (!ANY_SLOT(FREE) && !ANY_SLOT(FREED) && !ANY_SLOT(FREEZING))

active proctype world()
{
	d_step {
		for (c : 0 .. CHUNKS - 1) {
			origin[c] = c + 1;
			origin_disk[c] = c + 1
		}
		durable.position = 1;
		durable.epoch = 1
	}
	do
	:: STEP(CAN_BEGIN(0), begin_write(0))
	:: STEP(CAN_BEGIN(1), begin_write(1))
	:: STEP(write_is[0] == GO, end_write(0))
	:: STEP(write_is[1] == GO, end_write(1))
	:: STEP(origin[0] != origin_disk[0] || origin[1] != origin_disk[1], flush_origin())

	:: STEP(CAN_READ(0), read_batch(0))
	:: STEP(CAN_READ(1), read_batch(1))
	:: STEP(CAN_WRITE(0), write_batch(0))
	:: STEP(CAN_WRITE(1), write_batch(1))
	:: STEP(batch[0].is == WRITTEN, commit_batch(0))
	:: STEP(batch[1].is == WRITTEN, commit_batch(1))

	:: STEP(CAN_MAKE, make_snapshot())
#ifdef NO_RULE_4
	:: STEP(gen && made[gen] == 1, made[gen] = 2)
#endif
	:: STEP(CAN_DELETE(1), delete_snapshot(1))
	:: STEP(CAN_DELETE(2), delete_snapshot(2))
	:: STEP(CAN_WRITE_BRANCH, write_branch())
	:: STEP(CAN_FLUSH_DATA, flush_branch_data())
	:: STEP(CAN_FLUSH_MAP, flush_branch_map())

	:: STEP(changed && !freezing, freeze())
	:: STEP(freezing, thaw())

	:: atomic {
		fails < FAILS && (batch[0].is == WRITTEN || batch[1].is == WRITTEN) ->
		fails++;
		printf("a batch fails, of which:\n");
		lose_slot(0); lose_slot(1); lose_slot(2);
		lose_place(0); lose_place(1);
		if
		:: d_step { batch[0].is == WRITTEN -> give_up_batch(0); skip }
		:: d_step { batch[1].is == WRITTEN -> give_up_batch(1); skip }
		fi
	   }

	:: atomic {
		cuts < CUTS ->
		cuts++;
		printf("power cut, of what was not flushed:\n");
		lose_origin(0); lose_origin(1);
		lose_slot(0); lose_slot(1); lose_slot(2);
		lose_place(0); lose_place(1);
		lose_fact(made[1]); lose_fact(made[2]);
		lose_checkpoint();
		d_step { forget(); load(); replay(); open(); check_recovered(); skip }
	   }

	/* The end: nothing is left to be done. A write may wait only for room. */
	:: (NO_WRITE || FULL) && batch[0].is == IDLE && batch[1].is == IDLE && !freezing && !changed -> break
	od
}
