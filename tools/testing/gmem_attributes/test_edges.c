// SPDX-License-Identifier: GPL-2.0-only
/* Test corner cases, one after the other. */
#include "file.h"

static struct file f;

static void one_page_file(void)
{
	bool private;

	for (private = false; ; private = true) {
		file_open(&f, 1, private);
		file_check_all(&f);

		file_set(&f, 0, 1, private);
		file_check_all(&f);
		file_set(&f, 0, 1, !private);
		file_check_all(&f);
		file_set(&f, 0, 1, private);
		file_check_all(&f);
		file_close(&f);

		if (private)
			break;
	}
}

static void offset_zero(void)
{
	file_open(&f, 8, false);
	file_set(&f, 0, 1, true);
	file_check_all(&f);
	file_set(&f, 0, 3, true);
	file_check_all(&f);
	file_set(&f, 0, 2, false);
	file_check_all(&f);
	file_set(&f, 0, 3, false);
	file_check_all(&f);
	file_close(&f);
}

static void last_page(void)
{
	file_open(&f, 8, true);
	file_set(&f, 7, 8, false);
	file_check_all(&f);
	file_set(&f, 5, 8, false);
	file_check_all(&f);
	file_set(&f, 6, 8, true);
	file_check_all(&f);
	file_set(&f, 5, 8, true);
	file_check_all(&f);
	file_close(&f);
}

static void whole_file(void)
{
	file_open(&f, 1000, true);
	file_set(&f, 0, 1000, false);
	file_check(&f);
	file_fragment(&f);
	file_check(&f);
	file_set(&f, 0, 1000, false);
	file_check(&f);
	file_fragment(&f);
	file_set(&f, 0, 1000, true);
	file_check(&f);
	file_close(&f);
}

/* As large as a file can be, and a page past what 32 bits can count in bytes. */
static void huge_file(void)
{
	const pgoff_t sizes[] = { (1UL << 20) + 1, LONG_MAX >> PAGE_SHIFT };
	struct gmem_attributes_store store;
	struct gmem_attributes *ga = &f.ga;
	pgoff_t nr_pages, s, e;
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		nr_pages = sizes[i];

		CHECK(!attributes_create(ga, nr_pages, true));
		CHECK(gmem_attributes_is_private(ga, nr_pages - 1));
		CHECK(!gmem_attributes_is_private(ga, nr_pages));
		CHECK(gmem_attributes_is_uniform(ga, 0, nr_pages, true));

		write_locked = true;
		CHECK(!gmem_attributes_prepare(ga, &store, nr_pages - 1,
					       nr_pages, false, GFP_KERNEL));
		gmem_attributes_commit(&store);
		write_locked = false;

		CHECK(gmem_attributes_is_uniform(ga, 0, nr_pages - 1, true));
		CHECK(!gmem_attributes_is_uniform(ga, 0, nr_pages, true));

		s = 0;
		e = nr_pages;
		CHECK(gmem_attributes_next_change(ga, &s, &e, true));
		CHECK(s == nr_pages - 1 && e == nr_pages);

		write_locked = true;
		gmem_attributes_destroy(ga);
		write_locked = false;
	}
}

static void merge_left(void)
{
	file_open(&f, 16, false);
	file_set(&f, 2, 5, true);
	file_set(&f, 5, 9, true);
	file_check_all(&f);
	file_set(&f, 12, 13, true);
	file_check_all(&f);
	file_close(&f);
}

static void merge_right(void)
{
	file_open(&f, 16, false);
	file_set(&f, 5, 9, true);
	file_set(&f, 2, 5, true);
	file_check_all(&f);
	file_close(&f);
}

static void merge_both(void)
{
	file_open(&f, 16, false);
	file_set(&f, 2, 5, true);
	file_set(&f, 9, 12, true);
	file_set(&f, 5, 9, true);
	file_check_all(&f);

	/* And with what reaches to both ends of the file. */
	file_set(&f, 2, 12, false);
	file_check_all(&f);
	file_close(&f);
}

static void merge_overlapping(void)
{
	file_open(&f, 16, false);
	file_set(&f, 2, 6, true);
	file_set(&f, 9, 12, true);
	file_set(&f, 4, 10, true);
	file_check_all(&f);
	file_close(&f);
}

static void already_there(void)
{
	unsigned long nr;

	file_open(&f, 16, false);
	file_set(&f, 4, 8, true);

	/* All of a run, parts of it, and parts of it with its end. */
	nr = nr_allocs;
	file_set(&f, 4, 8, true);
	file_set(&f, 5, 7, true);
	file_set(&f, 4, 6, true);
	file_set(&f, 6, 8, true);
	file_set(&f, 0, 4, false);
	file_set(&f, 8, 16, false);
	file_set(&f, 15, 16, false);
	CHECK(nr_allocs == nr);
	file_check_all(&f);
	file_close(&f);
}

static void nothing_until_commit(void)
{
	struct gmem_attributes_store store;

	file_open(&f, 64, false);
	file_fragment(&f);

	CHECK(!file_prepare(&f, &store, 10, 50, true, GFP_KERNEL));
	file_check_all(&f);
	file_commit(&f, &store);
	file_check_all(&f);

	CHECK(!file_prepare(&f, &store, 0, 64, false, GFP_KERNEL));
	file_check_all(&f);
	gmem_attributes_abandon(&store);
	file_check_all(&f);
	file_close(&f);
}

/* Change the tree in the body of a walk, which keeps nothing between steps. */
static void walk_and_store(void)
{
	unsigned int nr = 0;
	pgoff_t s, e;

	file_open(&f, 200, false);
	file_fragment(&f);
	gmem_attributes_for_each_change(&f.ga, 11, 181, true, s, e) {
		CHECK(e - s == 1);
		file_set(&f, s, e, true);
		file_check(&f);
		nr++;
	}
	CHECK(nr == 85);
	CHECK(gmem_attributes_is_uniform(&f.ga, 10, 181, true));
	file_close(&f);
}

static void walk_evaluates_once(void)
{
	pgoff_t start = 2, end = 13, s, e;
	unsigned int nr = 0;

	file_open(&f, 16, false);
	file_set(&f, 4, 6, true);
	file_set(&f, 8, 10, true);
	gmem_attributes_for_each_change(&f.ga, start++, end, false, s, e) {
		CHECK(nr ? s == 8 && e == 10 : s == 4 && e == 6);
		nr++;
		/* Overwrite the variables, which the walk must not read. */
		s = 0;
		e = 0;
	}
	CHECK(nr == 2);
	CHECK(start == 3);
	file_close(&f);
}

static void out_parameters_left_alone(void)
{
	pgoff_t s = 3, e = 9;

	file_open(&f, 16, false);
	CHECK(!gmem_attributes_next_change(&f.ga, &s, &e, false));
	CHECK(s == 3 && e == 9);
	CHECK(gmem_attributes_next_change(&f.ga, &s, &e, true));
	CHECK(s == 3 && e == 9);
	file_close(&f);
}

static void shared_past_the_end(void)
{
	pgoff_t s = 16, e = ULONG_MAX;

	file_open(&f, 16, true);
	CHECK(!gmem_attributes_is_private(&f.ga, 16));
	CHECK(!gmem_attributes_is_private(&f.ga, ULONG_MAX));
	CHECK(gmem_attributes_is_uniform(&f.ga, 16, ULONG_MAX, false));
	CHECK(!gmem_attributes_is_uniform(&f.ga, 15, 17, true));
	CHECK(gmem_attributes_next_change(&f.ga, &s, &e, true));
	CHECK(s == 16 && e == ULONG_MAX);
	file_close(&f);
}

static void shared_after_destroy(void)
{
	struct gmem_attributes ga;
	pgoff_t s = 0, e = 16;

	CHECK(!attributes_create(&ga, 16, true));
	write_locked = true;
	gmem_attributes_destroy(&ga);
	CHECK(!gmem_attributes_is_private(&ga, 0));
	CHECK(gmem_attributes_is_uniform(&ga, 0, 16, false));
	CHECK(gmem_attributes_next_change(&ga, &s, &e, true));
	CHECK(s == 0 && e == 16);

	/* Destroy it again, and use it again: both have to work. */
	gmem_attributes_destroy(&ga);
	write_locked = false;

	CHECK(!attributes_create(&ga, 16, true));
	CHECK(gmem_attributes_is_uniform(&ga, 0, 16, true));
	write_locked = true;
	gmem_attributes_destroy(&ga);
	write_locked = false;
}

static void bad_ranges(void)
{
	const struct op bad[] = {
		{ 0, 0 }, { 5, 5 }, { 16, 16 }, { 6, 5 }, { 0, 17 },
		{ 15, 17 }, { 16, 17 }, { 0, ULONG_MAX }, { ULONG_MAX, 0 },
	};
	struct gmem_attributes_store store;
	struct gmem_attributes ga;
	unsigned int i;

	file_open(&f, 16, false);
	file_set(&f, 5, 7, true);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK(file_prepare(&f, &store, bad[i].start, bad[i].end, true,
				   GFP_KERNEL) == -EINVAL);
		CHECK(nr_warnings == i + 1);
		gmem_attributes_abandon(&store);
		file_check_all(&f);
	}
	file_close(&f);

	CHECK(attributes_create(&ga, 0, true) == -EINVAL);
	CHECK(nr_warnings == i + 1);
	nr_warnings = 0;
}

/* Change the tree without the lock, and verify that lockdep would complain. */
static void writers_need_the_lock(void)
{
	struct gmem_attributes_store store;
	struct gmem_attributes ga;

	CHECK(!attributes_create(&ga, 16, false));
	gmem_attributes_is_private(&ga, 0);
	gmem_attributes_is_uniform(&ga, 0, 16, false);
	CHECK(!nr_lock_violations);

	CHECK(gmem_attributes_fill(&ga, 0, false) == -EINVAL);
	CHECK(nr_lock_violations == 1 && nr_warnings == 1);
	nr_lock_violations = 0;
	nr_warnings = 0;

	CHECK(!gmem_attributes_prepare(&ga, &store, 0, 1, true, GFP_KERNEL));
	CHECK(nr_lock_violations == 1);
	gmem_attributes_commit(&store);
	CHECK(nr_lock_violations == 2);
	gmem_attributes_destroy(&ga);
	CHECK(nr_lock_violations == 3);
	nr_lock_violations = 0;
}

const struct test edge_tests[] = {
	{ "one_page_file", one_page_file },
	{ "offset_zero", offset_zero },
	{ "last_page", last_page },
	{ "whole_file", whole_file },
	{ "huge_file", huge_file },
	{ "merge_left", merge_left },
	{ "merge_right", merge_right },
	{ "merge_both", merge_both },
	{ "merge_overlapping", merge_overlapping },
	{ "already_there", already_there },
	{ "nothing_until_commit", nothing_until_commit },
	{ "walk_and_store", walk_and_store },
	{ "walk_evaluates_once", walk_evaluates_once },
	{ "out_parameters_left_alone", out_parameters_left_alone },
	{ "shared_past_the_end", shared_past_the_end },
	{ "shared_after_destroy", shared_after_destroy },
	{ "bad_ranges", bad_ranges },
	{ "writers_need_the_lock", writers_need_the_lock },
	{ }
};
