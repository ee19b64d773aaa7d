// SPDX-License-Identifier: GPL-2.0-only
/* Do random operations on a large file, until its tree is five levels deep. */
#include "file.h"

static struct file f;

static pgoff_t random_size(unsigned long *state)
{
	switch (random_below(state, 4096)) {
	case 0:
		/* Anything up to the whole file. */
		return 1UL << random_below(state, 21);
	case 1 ... 15:
		return 1 + random_below(state, 4096);
	case 16 ... 511:
		return 1 + random_below(state, 64);
	default:
		return 1 + random_below(state, 2);
	}
}

static void random_operations(void)
{
	unsigned long state = random_seed, nr;
	unsigned int max_height = 0;
	pgoff_t start, end, s, e;
	bool private;

	file_open(&f, 1UL << 20, random_below(&state, 2));

	for (nr = 1; nr <= nr_random_ops && !test_failed; nr++) {
		start = random_below(&state, f.nr_pages);
		end = min(start + random_size(&state), f.nr_pages);
		private = random_below(&state, 2);

		file_set(&f, start, end, private);

		/* What has changed, and what is next to it. */
		s = start ? start - 1 : 0;
		e = min(end + 1, f.nr_pages);
		file_check_index(&f, s);
		file_check_index(&f, e - 1);
		file_check_range(&f, start, end, private);
		file_check_range(&f, s, e, !private);

		/* And something elsewhere. */
		s = random_below(&state, f.nr_pages);
		file_check_index(&f, s);
		e = min(s + random_size(&state), f.nr_pages);
		if (e - s < 4096)
			file_check_range(&f, s, e, private);

		max_height = max(max_height, mt_height(&f.ga.mt));
		if (!(nr & 0x7fff))
			file_check_entries(&f);
		if (!(nr & 0x3ffff))
			file_check(&f);
	}

	file_check(&f);
	file_close(&f);
	diag("seed %lu: %lu operations, a tree of up to %u levels", random_seed,
	     nr - 1, max_height);
}

/*
 * Fragment all of a large file, page by page, and then convert it at once or close
 * it, as a guest can make its host do.
 */
static void fragment_and_collapse(void)
{
	long nodes;

	file_open(&f, 1UL << 17, true);
	nodes = nodes_allocated();

	file_fragment(&f);
	CHECK(mt_height(&f.ga.mt) >= 4);
	file_check_entries(&f);

	file_set(&f, 0, f.nr_pages, false);
	file_check_entries(&f);
	CHECK(nodes_allocated() == nodes);

	file_fragment(&f);
	file_set(&f, 1, f.nr_pages - 1, true);
	file_check_entries(&f);
	CHECK(nodes_allocated() == nodes);
	file_close(&f);
}

static void fragment_and_destroy(void)
{
	file_open(&f, 1UL << 17, false);
	file_fragment(&f);
	CHECK(mt_height(&f.ga.mt) >= 4);
	file_check_entries(&f);
	file_close(&f);
}

const struct test random_tests[] = {
	{ "random_operations", random_operations },
	{ "fragment_and_collapse", fragment_and_collapse },
	{ "fragment_and_destroy", fragment_and_destroy },
	{ }
};
