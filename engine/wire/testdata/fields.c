// SPDX-License-Identifier: Apache-2.0
//
// Prints the fields of a message on standard input as kernel/include/ddsnap_wire.h
// sees them: fields NAME, where NAME is that of its example. For tests.
#include <stdio.h>
#include <string.h>
#include <stdint.h>
#include <endian.h>
#include "ddsnap_wire.h"

static unsigned char message[DDSNAP_MAX_BODY + sizeof(struct ddsnap_header)];
static const void *body = message + sizeof(struct ddsnap_header);
static size_t size; // of the body

static void number(const char *name, unsigned long long value) { printf("%s %llu\n", name, value); }

#define N16(s, f) number(#f, le16toh((s)->f))
#define N32(s, f) number(#f, le32toh((s)->f))
#define N64(s, f) number(#f, le64toh((s)->f))

static void bytes(const char *name, const unsigned char *p, size_t n)
{
	printf("%s ", name);
	while (n--)
		printf("%02x", *p++);
	printf("\n");
}

static void position(const struct ddsnap_position *p)
{
	N64(p, place);
	N64(p, seq);
}

static void state(const struct ddsnap_state *s)
{
	N64(s, generation);
	N64(s, newest);
	N64(s, size);
	N64(s, largest);
	N64(s, restoring);
	N32(s, flags);
}

static void snapshot_state(const struct ddsnap_snapshot_state *s)
{
	N64(s, generation);
	N64(s, size);
	N32(s, flags);
}

static void runs(const struct ddsnap_runs *r)
{
	for (unsigned i = 0; i < le32toh(r->number); i++) {
		N64(&r->runs[i], first);
		N64(&r->runs[i], slots);
	}
}

static void batch(const struct ddsnap_batch *b)
{
	const __le32 *crc = (const void *)&b->run[le32toh(b->runs)];

	N64(b, generation);
	N64(b, branch);
	for (unsigned i = 0; i < le32toh(b->runs); i++) {
		N64(&b->run[i], chunk);
		N64(&b->run[i], slot);
		N32(&b->run[i], length);
	}
	for (unsigned i = 0; i < le32toh(b->chunks); i++)
		number("crc", le32toh(crc[i]));
	number("rest", (const unsigned char *)body + size - (const unsigned char *)(crc + le32toh(b->chunks)));
}

static void hello(const struct ddsnap_hello *h)
{
	number("magic is", le64toh(h->magic) == DDSNAP_MAGIC);
	N16(h, min_version);
	N16(h, max_version);
	N32(h, lock);
	N64(h, features);
}

static void welcome(const struct ddsnap_welcome *w)
{
	number("magic is", le64toh(w->magic) == DDSNAP_MAGIC);
	N16(w, version);
	N64(w, features);
	bytes("uuid", w->uuid, sizeof(w->uuid));
}

static void session(const struct ddsnap_session *s)
{
	bytes("uuid", s->uuid, sizeof(s->uuid));
	number("placement", s->placement);
	number("chunk_shift", s->chunk_shift);
	N64(s, size);
	N64(s, data_offset);
	N64(s, slots);
	N64(s, journal_start);
	N64(s, journal_size);
	N64(s, epoch);
	position(&s->position);
	state(&s->state);
	runs(&s->leases);
}

static void progress(const struct ddsnap_progress *p)
{
	bytes("uuid", p->uuid, sizeof(p->uuid));
	N64(p, epoch);
	N64(p, generation);
	position(&p->position);
	N32(p, flags);
}

static void failure(const struct ddsnap_failure *f)
{
	const unsigned char *text = (const void *)(f + 1);

	progress(&f->progress);
	bytes("reason", text, le32toh(f->reason));
	runs((const void *)(text + le32toh(f->reason)));
}

static void report(const struct ddsnap_report *r)
{
	position(&r->position);
	N64(r, head);
	N32(r, flags);
	batch(&r->batch);
}

static void bitmap(const struct ddsnap_bitmap *b)
{
	N32(b, number);
	for (unsigned i = 0; i < (le32toh(b->number) + 63) / 64; i++)
		number("word", le64toh(b->words[i]));
}

static void open_snapshot(const struct ddsnap_snapshot_session *s)
{
	N64(s, handle);
	snapshot_state(&s->state);
	bytes("snapshot", s->snapshot, size - sizeof(*s));
}

static void open_(const struct ddsnap_open *o)
{
	N32(o, tag);
	N32(o, flags);
	bytes("name", o->name, size - sizeof(*o));
}

static void handle_range(const struct ddsnap_handle_range *r)
{
	N64(r, handle);
	number("first", le64toh(r->range.first));
	number("end", le64toh(r->range.end));
}

static void mappings(const struct ddsnap_mappings *m)
{
	for (unsigned i = 0; i < le32toh(m->number); i++) {
		const struct ddsnap_mapping *p = &m->mappings[i];

		N64(p, chunk);
		N64(p, chunks);
		N64(p, slot);
		number("kind", p->kind);
		number("owned", p->owned);
	}
}

static void written(const struct ddsnap_written *w)
{
	N64(w, handle);
	batch(&w->batch);
}

static void fault(const struct ddsnap_fault *f)
{
	N32(f, code);
	bytes("text", f->text, size - sizeof(*f));
}

static void fit(const __le64 *bytes_wanted) { number("size", le64toh(*bytes_wanted)); }

int main(int argc, char **argv)
{
	const struct ddsnap_header *h = (const void *)message;
	size_t n = fread(message, 1, sizeof(message), stdin);

	if (argc != 2 || n < sizeof(*h))
		return 2;
	size = n - sizeof(*h);
	N32(h, length);
	N16(h, type);
	N16(h, flags);
	N64(h, id);
#define ON(text, f) else if (!strcmp(argv[1], text)) f(body)
	if (le32toh(h->length) != size)
		return 3;
	ON("hello", hello);
	ON("welcome", welcome);
	ON("session", session);
	ON("resume", progress);
	ON("renew", failure);
	ON("runs", runs);
	ON("report", report);
	ON("report-lost", report);
	ON("position", position);
	ON("bitmap", bitmap);
	ON("open-snapshot", open_snapshot);
	ON("open", open_);
	ON("handle-range", handle_range);
	ON("mappings", mappings);
	ON("written", written);
	ON("state", state);
	ON("snapshot-state", snapshot_state);
	ON("fault", fault);
	ON("fit", fit);
	else
		return 4;
	return 0;
}
