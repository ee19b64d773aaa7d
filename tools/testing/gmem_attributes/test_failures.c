// SPDX-License-Identifier: GPL-2.0-only
/* Have every allocation fail once. */
#include "file.h"

/* More nodes and objects than any store takes. */
#define MAX_NODES 64

static struct file f;
static unsigned int max_nodes;

/*
 * Have prepare fail at its first node, its second, and so on until it does not
 * need that many.  Nothing may change, and nothing may be lost.
 */
static void fail_prepare(pgoff_t start, pgoff_t end, bool private, bool commit)
{
	struct gmem_attributes_store store;
	unsigned int nr;
	int r = -ENOMEM;

	for (nr = 0; nr < MAX_NODES && !test_failed; nr++) {
		alloc_fail_after(nr);
		r = file_prepare(&f, &store, start, end, private,
				 GFP_KERNEL_ACCOUNT);
		alloc_fail_never();
		if (!r)
			break;

		CHECK(r == -ENOMEM);
		file_check_entries(&f);

		/* To abandon it isn't needed after a failure, but has to work. */
		if (nr & 1)
			gmem_attributes_abandon(&store);
	}
	if (!CHECK(!r))
		return;
	max_nodes = max(max_nodes, nr);

	file_check_range(&f, 0, f.nr_pages, private);

	if (commit)
		file_commit(&f, &store);
	else
		gmem_attributes_abandon(&store);
	file_check_entries(&f);
	file_check_range(&f, start, end, private);
}

static void fail_init(void)
{
	unsigned int nr, i;
	bool private;

	/* An object, and a node, which a single page doesn't need. */
	for (i = 0; i < 4; i++) {
		const pgoff_t nr_pages = i & 2 ? 16 : 1;

		private = i & 1;
		for (nr = 0; nr < (nr_pages > 1 ? 2 : 1); nr++) {
			alloc_fail_after(nr);
			CHECK(attributes_create(&f.ga, nr_pages, private) == -ENOMEM);
			CHECK(!gmem_attributes_is_private(&f.ga, 0));
			write_locked = true;
			gmem_attributes_destroy(&f.ga);
			write_locked = false;
		}

		alloc_fail_after(nr);
		CHECK(!attributes_create(&f.ga, nr_pages, private));
		CHECK(gmem_attributes_is_uniform(&f.ga, 0, nr_pages, private));
		write_locked = true;
		gmem_attributes_destroy(&f.ga);
		write_locked = false;
	}
}

static void reopen(pgoff_t nr_pages)
{
	if (f.nr_pages)
		file_close(&f);
	file_open(&f, nr_pages, false);
	file_fragment_chunks(&f);
	if (nr_pages > 7 * CHUNK_PAGES)
		file_set(&f, 5, 7 * CHUNK_PAGES - 3, true);
}

/* Prepare and abandon all kinds of operations. */
static void fail_and_abandon(void)
{
	const pgoff_t sizes[] = { 1, 2, 7, 15, 16, 17, 40 };
	pgoff_t start, end, nr_pages;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		f.nr_pages = 0;
		nr_pages = sizes[i] * CHUNK_PAGES - 10;
		for (start = 0; start < nr_pages; start += 200) {
			reopen(nr_pages);
			for (end = start + 100; end <= nr_pages && !test_failed;
			     end += sizes[i] > 17 ? 3 * CHUNK_PAGES + 412 : 412) {
				fail_prepare(start, end, false, false);
				fail_prepare(start, end, true, false);
			}
			/* What is left behind is entries, of which there are limits. */
			CHECK(file_nr_entries(&f) <= sizes[i]);
		}
		CHECK(objects_allocated() == file_nr_entries(&f));
		file_close(&f);
	}
}

/* Retry random operations with more and more memory until they work. */
static void fail_and_retry(void)
{
	const pgoff_t sizes[] = { 1, 2, 17, 300, 3000 };
	unsigned long state = random_seed, nr;
	pgoff_t start, end;
	unsigned int i;

	max_nodes = 0;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		file_open(&f, sizes[i] * CHUNK_PAGES, false);
		file_fragment_chunks(&f);

		for (nr = 0; nr < 300 && !test_failed; nr++) {
			start = random_below(&state, f.nr_pages);
			end = start + 1 + random_below(&state, nr % 8 ?
						min(f.nr_pages - start, 3 * CHUNK_PAGES) :
						f.nr_pages - start);
			if (nr % 3 == 0) {
				start = round_down(start, CHUNK_PAGES);
				end = round_up(end, CHUNK_PAGES);
			}
			fail_prepare(start, end, random_below(&state, 2), true);
			if (nr % 50 == 49)
				file_fragment_chunks(&f);
		}
		CHECK(objects_allocated() == file_nr_entries(&f));
		file_check(&f);
		file_close(&f);
	}
	diag("up to %u nodes and objects for a store", max_nodes);

	/* Verify that there were stores that take several nodes. */
	CHECK(max_nodes > 6);
}

/* Verify that the allocator gets the caller's flags, so that nodes can be charged. */
static void gfp_flags(void)
{
	struct gmem_attributes_store store;

	nr_allocs = 0;
	file_open(&f, 20 * CHUNK_PAGES, false);
	CHECK(nr_allocs);
	CHECK(alloc_gfp == GFP_KERNEL_ACCOUNT);

	nr_allocs = 0;
	file_fragment_chunks(&f);
	CHECK(nr_allocs);
	CHECK(alloc_gfp == GFP_KERNEL_ACCOUNT);

	nr_allocs = 0;
	file_set(&f, 5 * CHUNK_PAGES + 5, 8 * CHUNK_PAGES - 5, true);
	CHECK(nr_allocs);
	CHECK(alloc_gfp == GFP_KERNEL_ACCOUNT);

	nr_allocs = 0;
	CHECK(file_prepare(&f, &store, 0, 3 * CHUNK_PAGES, true,
			   GFP_NOWAIT | __GFP_ACCOUNT) == -ENOMEM);
	CHECK(nr_allocs);
	CHECK(alloc_gfp == (GFP_NOWAIT | __GFP_ACCOUNT));
	file_close(&f);
}

const struct test failure_tests[] = {
	{ "fail_init", fail_init },
	{ "fail_and_abandon", fail_and_abandon },
	{ "fail_and_retry", fail_and_retry },
	{ "gfp_flags", gfp_flags },
	{ }
};
