// SPDX-License-Identifier: GPL-2.0-only
/* Do random operations on a large file, until its tree is five levels deep. */
#include "file.h"

static struct file f;

static pgoff_t random_size(unsigned long *state)
{
	switch (random_below(state, 4096)) {
	case 0:
		/* Anything up to the whole file. */
		return 1UL << random_below(state, 24);
	case 1 ... 31:
		return 1 + random_below(state, 1UL << 14);
	case 32 ... 511:
		return 1 + random_below(state, 2 * CHUNK_PAGES);
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

	file_open(&f, (1UL << 22) - 100, random_below(&state, 2));

	for (nr = 1; nr <= nr_random_ops && !test_failed; nr++) {
		start = random_below(&state, f.nr_pages);
		end = min(start + random_size(&state), f.nr_pages);
		private = random_below(&state, 2);

		/* Whole chunks are rare, unless asked for. */
		if (!random_below(&state, 4)) {
			start = round_down(start, CHUNK_PAGES);
			end = min(round_up(end, CHUNK_PAGES), f.nr_pages);
		}

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

const struct test random_tests[] = {
	{ "random_operations", random_operations },
	{ }
};
