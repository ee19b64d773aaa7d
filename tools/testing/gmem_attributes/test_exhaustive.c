// SPDX-License-Identifier: GPL-2.0-only
/* Do all short sequences of operations on small files. */
#include "file.h"

#define MAX_PAGES 6

static struct file f;
static struct op all[MAX_PAGES * (MAX_PAGES + 1)];
static unsigned int nr_all;

static void list_operations(pgoff_t nr_pages)
{
	pgoff_t start, end;

	nr_all = 0;
	for (start = 0; start < nr_pages; start++) {
		for (end = start + 1; end <= nr_pages; end++) {
			all[nr_all++] = (struct op) { start, end, false };
			all[nr_all++] = (struct op) { start, end, true };
		}
	}
}

/*
 * A sequence is a number with @length digits, each an operation.  Check after
 * the last: where the others lead, a shorter sequence has checked.
 */
static void run_sequence(pgoff_t nr_pages, bool private, unsigned int length,
			 unsigned long sequence)
{
	struct gmem_attributes_store store;
	struct op *op;

	file_open(&f, nr_pages, private);
	while (length--) {
		op = &all[sequence % nr_all];
		sequence /= nr_all;

		if (length) {
			file_set(&f, op->start, op->end, op->private);
			continue;
		}

		CHECK(!file_prepare(&f, &store, op->start, op->end, op->private,
				    GFP_KERNEL_ACCOUNT));
		file_check_entries(&f);
		file_commit(&f, &store);
	}
	file_check_all(&f);
	file_close(&f);
}

static void run_sequences(pgoff_t nr_pages, unsigned int max_length)
{
	unsigned long nr = 0, max = 1, sequence;
	unsigned int length;

	list_operations(nr_pages);
	for (length = 0; length <= max_length; length++, max *= nr_all) {
		for (sequence = 0; sequence < max && !test_failed; sequence++) {
			run_sequence(nr_pages, false, length, sequence);
			run_sequence(nr_pages, true, length, sequence);
			nr += 2;
		}
	}
	diag("%lu pages: all %lu sequences of up to %u operations", nr_pages,
	     nr, max_length);
}

static void sequences(void)
{
	run_sequences(1, 4);
	run_sequences(2, 4);
	run_sequences(3, 4);
	run_sequences(4, 3);
	run_sequences(5, 3);
	run_sequences(6, 3);
}

/*
 * The files above fit in one node.  So do every single operation on files that
 * take several nodes, to have it start and end at every offset of a node, split
 * and join nodes, and replace whole sub-trees.
 */
static void every_range(pgoff_t nr_pages, pgoff_t run)
{
	unsigned long nr = 0;
	pgoff_t start, end, i;
	bool private;

	for (start = 0; start < nr_pages; start++) {
		for (end = start + 1; end <= nr_pages && !test_failed; end++) {
			private = nr++ & 1;

			file_open(&f, nr_pages, private);
			for (i = 0; i < nr_pages; i += 2 * run)
				file_set(&f, i, min(i + run, nr_pages), !private);
			file_set(&f, start, end, private);
			file_check(&f);
			file_set(&f, start, end, !private);
			file_check(&f);
			file_close(&f);
		}
	}
	diag("%lu pages in runs of %lu: all %lu ranges", nr_pages, run, nr);
}

static void fragmented(void)
{
	every_range(17, 1);
	every_range(48, 1);
	every_range(96, 3);
}

/* Do operations and their opposites on one tree, whose nodes get fuller and emptier. */
static void every_range_in_turn(void)
{
	const pgoff_t nr_pages = 300;
	pgoff_t start, end;
	bool private;

	file_open(&f, nr_pages, false);
	file_fragment(&f);
	for (start = 0; start < nr_pages; start++) {
		for (end = start + 1; end <= nr_pages && !test_failed; end += 7) {
			private = (start ^ end) & 1;
			file_set(&f, start, end, private);
			file_check_entries(&f);
			file_set(&f, start, end, !private);
			file_check_entries(&f);
			file_fragment(&f);
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
