/* SPDX-License-Identifier: Apache-2.0
 *
 * What both models share: chunks, slots, generations, the rule of versions, and
 * the properties that must hold. See README.md.
 *
 * Contents are numbers: every write of the origin, and of a snapshot, has one of
 * its own, so equal numbers are equal bytes of the same chunk.
 */

#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef SNAPS
#define SNAPS 2			/* snapshots ever made, generations 1 to SNAPS */
#endif
#define CHUNKS 2
#define GARBAGE 255		/* what a torn write leaves in a slot */

/* What the server knows of a slot. */
#define FREE     0		/* may be leased */
#define LEASED   1		/* a client may write to it */
#define USED     2		/* an exception, or a write to a snapshot, has it */
#define FREED    3		/* nothing needs it any more; the checkpoint says otherwise */
#define FREEZING 4		/* freed by the checkpoint that is being written */

/* The server's memory. */
byte exc[CHUNKS * SNAPS];	/* exceptions: slot + 1, or 0 */
bool live[SNAPS + 1];		/* snapshots, by generation */
byte gen;			/* the origin's current generation */
byte slot_is[SLOTS];
byte bmap;			/* slot + 1 of what was written to chunk 0 of snapshot 1, or 0 */
#define EXC(c, g) exc[(c) * SNAPS + (g) - 1]

/* What snapshot s promised to hold, noted when it was made. No part of the system. */
byte promised[CHUNKS * (SNAPS + 1)];
#define PROMISED(s, c) promised[(s) * CHUNKS + (c)]

#if SLOTS == 3
#define ANY_SLOT(state) (slot_is[0] == (state) || slot_is[1] == (state) || slot_is[2] == (state))
#elif SLOTS == 4
#define ANY_SLOT(state) (slot_is[0] == (state) || slot_is[1] == (state) || slot_is[2] == (state) || slot_is[3] == (state))
#endif

/* The properties, by name: a violation is reported as "assertion violated NAME". */
hidden byte snapshot_reads_its_promise;
hidden byte snapshot_made_exists;	/* if making it was acknowledged */
hidden byte slot_has_one_owner;
hidden byte log_is_consistent;		/* recovery finds nothing that cannot be */
hidden byte branch_reads_what_was_flushed;
hidden byte origin_has_what_was_flushed;
#define HOLDS(name, condition) name = (condition); assert(name)

/* A step of the system, if the guard holds; a trail prints it. (The last skip: no
 * loop may end a d_step.) */
#define STEP(guard, action) d_step { guard -> printf(#action); printf("\n"); action; skip }

/* Scratch of d_steps: never carries anything from one step to another. */
hidden byte c, g, s, n, k, at, prev, room;
hidden byte needed;

/* at = slot + 1 of the exception of a chunk that serves a snapshot, 0 if it is
 * shared with the origin: the first one of its generation or a later one. */
inline lookup(snap, chunk)
{
	at = 0;
	for (g : 1 .. SNAPS) {
		if
		:: at == 0 && g >= snap && EXC(chunk, g) -> at = EXC(chunk, g)
		:: else
		fi
	}
}

/* needed = whether a chunk must be copied out before it is overwritten: there is a
 * live snapshot, and the newest one shares the chunk with the origin. */
inline need(chunk)
{
	n = 0;
	for (g : 1 .. SNAPS) {
		if
		:: live[g] -> n = g
		:: else
		fi
	}
	needed = false;
	if
	:: n -> lookup(n, chunk); needed = (at == 0)
	:: else
	fi
}

/* Drops the exceptions that no live snapshot needs. */
inline sweep()
{
	for (c : 0 .. CHUNKS - 1) {
		prev = 0;
		for (g : 1 .. SNAPS) {
			if
			:: EXC(c, g) ->
				needed = false;
				for (k : 1 .. SNAPS) {
					if
					:: k > prev && k <= g && live[k] -> needed = true
					:: else
					fi
				}
				if
				:: needed -> prev = g
				:: else -> release_slot(EXC(c, g) - 1); EXC(c, g) = 0
				fi
			:: else
			fi
		}
	}
	if
	:: bmap && !live[1] -> release_slot(bmap - 1); bmap = 0
	:: else
	fi
}

inline release_slot(place)
{
#ifndef NO_RULE_3
	slot_is[place] = FREED;	/* Rule 3: until the checkpoint that frees it is durable. */
#else
	slot_is[place] = FREE;
#endif
}

/* A slot gets an owner: recovery, replay and reports say that it holds a chunk. */
inline own(place, was)
{
	HOLDS(slot_has_one_owner, slot_is[place] == (was));
	slot_is[place] = USED;
}

/* room = the free slot to be given out next, plus 1. */
inline find_slot()
{
	room = 0;
	for (n : 0 .. SLOTS - 1) {
		if
		:: room == 0 && slot_is[n] == FREE -> room = n + 1
		:: else
		fi
	}
}
