// SPDX-License-Identifier: GPL-2.0-only
/* Do all short sequences of operations on small files. */
#include "file.h"

#define MAX_CUTS 6

/* Operations begin and end in these places, the last is the end of the file. */
struct layout {
	unsigned int length;
	unsigned int nr_cuts;
	pgoff_t cuts[MAX_CUTS];
};

static const struct layout layouts[] = {
	/* A chunk that is short, or full, and one page more. */
	{ 4, 2, { 0, 1 } },
	{ 3, 4, { 0, 1, 2, 3 } },
	{ 3, 4, { 0, 1, 510, 511 } },
	{ 3, 4, { 0, 64, 511, 512 } },
	{ 3, 4, { 0, 511, 512, 513 } },

	/* Chunks as a whole: splitting and merging. */
	{ 3, 6, { 0, 512, 1024, 1536, 2048, 2560 } },
	{ 3, 5, { 0, 512, 1024, 1536, 1537 } },

	/* And in part. */
	{ 3, 6, { 0, 1, 512, 1000, 1024, 1536 } },
	{ 3, 6, { 0, 512, 700, 1024, 1535, 1536 } },
	{ 3, 6, { 0, 320, 1024, 1536, 1601, 1700 } },
	{ 3, 5, { 0, 100, 600, 1100, 1600 } },
};

static struct file f;
static struct op all[MAX_CUTS * (MAX_CUTS - 1)];
static unsigned int nr_all;

static void list_operations(const struct layout *l)
{
	int i, j;

	nr_all = 0;
	for (i = 0; i < l->nr_cuts; i++) {
		for (j = i + 1; j < l->nr_cuts; j++) {
			all[nr_all++] = (struct op) { l->cuts[i], l->cuts[j], false };
			all[nr_all++] = (struct op) { l->cuts[i], l->cuts[j], true };
		}
	}
}

static void check_cuts(const struct layout *l)
{
	int i, j;

	file_check_entries(&f);
	for (i = 0; i < l->nr_cuts; i++) {
		if (l->cuts[i])
			file_check_index(&f, l->cuts[i] - 1);
		if (l->cuts[i] < f.nr_pages)
			file_check_index(&f, l->cuts[i]);

		for (j = i + 1; j < l->nr_cuts; j++) {
			file_check_range(&f, l->cuts[i], l->cuts[j], false);
			file_check_range(&f, l->cuts[i], l->cuts[j], true);
		}
	}
}

/*
 * A sequence is a number with @length digits, each an operation.  Check around
 * the last: where the others lead, a shorter sequence has checked.
 */
static void run_sequence(const struct layout *l, bool private,
			 unsigned int length, unsigned long sequence)
{
	struct gmem_attributes_store store;
	struct op *op;

	file_open(&f, l->cuts[l->nr_cuts - 1], private);
	while (length--) {
		op = &all[sequence % nr_all];
		sequence /= nr_all;

		if (length) {
			file_set(&f, op->start, op->end, op->private);
			continue;
		}

		CHECK(!file_prepare(&f, &store, op->start, op->end, op->private,
				    GFP_KERNEL_ACCOUNT));
		check_cuts(l);
		file_commit(&f, &store);
	}
	check_cuts(l);
	file_close(&f);
}

static void sequences(void)
{
	unsigned long nr = 0, max, sequence;
	const struct layout *l;
	unsigned int length;

	for (l = layouts; l < layouts + ARRAY_SIZE(layouts); l++) {
		list_operations(l);
		max = 1;
		for (length = 0; length <= l->length; length++, max *= nr_all) {
			for (sequence = 0; sequence < max && !test_failed;
			     sequence++) {
				run_sequence(l, nr++ & 1, length, sequence);
			}
		}
	}
	diag("%lu tried", nr);
}

/*
 * The files above fit in one node.  So do every single operation on files that
 * take several nodes, to have it start and end at every offset of a node, split
 * and join nodes, and replace whole sub-trees.
 */
static void every_range(pgoff_t nr_chunks, pgoff_t run, pgoff_t head, pgoff_t tail)
{
	const pgoff_t nr_pages = nr_chunks * CHUNK_PAGES;
	unsigned long nr = 0;
	pgoff_t start, end, i;
	bool private;

	for (start = head; start < nr_pages; start += CHUNK_PAGES) {
		for (end = start - head + CHUNK_PAGES - tail;
		     end <= nr_pages && !test_failed; end += CHUNK_PAGES) {
			if (end <= start)
				continue;
			private = nr++ & 1;

			file_open(&f, nr_pages, private);
			for (i = 0; i < nr_chunks; i += 2 * run)
				file_set(&f, i * CHUNK_PAGES,
					 min(i + run, nr_chunks) * CHUNK_PAGES,
					 !private);
			file_set(&f, start, end, private);
			file_check_entries(&f);
			file_check_range(&f, 0, nr_pages, private);
			file_set(&f, start, end, !private);
			file_check_entries(&f);
			file_check_range(&f, 0, nr_pages, private);
			file_close(&f);
		}
	}
	diag("%lu chunks in runs of %lu: all %lu ranges", nr_chunks, run, nr);
}

static void fragmented(void)
{
	every_range(17, 1, 0, 0);
	every_range(48, 1, 0, 0);
	every_range(48, 1, 1, 511);
	every_range(40, 3, 0, 3);
	every_range(40, 3, 100, 0);
}

/* Do operations and their opposites on one tree, whose nodes get fuller and emptier. */
static void every_range_in_turn(void)
{
	const pgoff_t nr_chunks = 100;
	pgoff_t start, end;
	bool private;

	file_open(&f, nr_chunks * CHUNK_PAGES - 1, false);
	file_fragment_chunks(&f);
	for (start = 0; start < nr_chunks; start++) {
		for (end = start + 1; end < nr_chunks && !test_failed; end += 7) {
			private = (start ^ end) & 1;
			file_set(&f, start * CHUNK_PAGES + end % 2,
				 end * CHUNK_PAGES + start % 2, private);
			file_check_entries(&f);
			file_set(&f, start * CHUNK_PAGES, end * CHUNK_PAGES,
				 !private);
			file_check_entries(&f);
			file_fragment_chunks(&f);
		}
	}
	file_check(&f);
	file_close(&f);
}

const struct test exhaustive_tests[] = {
	{ "sequences", sequences },
	{ "fragmented", fragmented },
	{ "every_range_in_turn", every_range_in_turn },
	{ }
};
