// SPDX-License-Identifier: GPL-2.0-only
/* Test corner cases, one after the other. */
#include "file.h"

static struct file f;

static bool next_change(struct gmem_attributes *ga, pgoff_t *s, pgoff_t *e,
			bool private)
{
	bool was_locked = write_locked, found;

	write_locked = true;
	found = gmem_attributes_next_change(ga, s, e, private);
	write_locked = was_locked;
	return found;
}

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

/* As large as a file can be, and a page past what 32 bits can count. */
static void huge_file(void)
{
	const pgoff_t sizes[] = {
		(1UL << 20) + 1, (1UL << 32) + 1, 1UL << 36, LONG_MAX >> PAGE_SHIFT
	};
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
		CHECK(next_change(ga, &s, &e, true));
		CHECK(s == nr_pages - 1 && e == nr_pages);

		write_locked = true;
		gmem_attributes_destroy(ga);
		write_locked = false;
	}
}

/* Set a range of chunks. */
static void set_chunks(pgoff_t start, pgoff_t end, bool private)
{
	file_set(&f, start * CHUNK_PAGES, end * CHUNK_PAGES, private);
	file_check(&f);
}

static void merge_left(void)
{
	file_open(&f, 16 * CHUNK_PAGES, false);
	set_chunks(2, 5, true);
	set_chunks(5, 9, true);
	CHECK(file_nr_entries(&f) == 3);
	set_chunks(12, 13, true);
	CHECK(file_nr_entries(&f) == 5);
	file_close(&f);
}

static void merge_right(void)
{
	file_open(&f, 16 * CHUNK_PAGES, false);
	set_chunks(5, 9, true);
	set_chunks(2, 5, true);
	CHECK(file_nr_entries(&f) == 3);
	file_close(&f);
}

static void merge_both(void)
{
	file_open(&f, 16 * CHUNK_PAGES - 5, false);
	set_chunks(2, 5, true);
	set_chunks(9, 12, true);
	set_chunks(5, 9, true);
	CHECK(file_nr_entries(&f) == 3);

	/* And with what reaches to both ends of the file. */
	set_chunks(2, 12, false);
	CHECK(file_nr_entries(&f) == 1);
	file_close(&f);
}

static void merge_overlapping(void)
{
	file_open(&f, 16 * CHUNK_PAGES, false);
	set_chunks(2, 6, true);
	set_chunks(9, 12, true);
	set_chunks(4, 10, true);
	CHECK(file_nr_entries(&f) == 3);
	file_close(&f);
}

/* A chunk with bits is not a neighbor to merge with, whatever its bits are. */
static void merge_not_with_chunk(void)
{
	file_open(&f, 4 * CHUNK_PAGES, false);
	file_set(&f, CHUNK_PAGES + 1, CHUNK_PAGES + 2, true);
	file_set(&f, CHUNK_PAGES + 1, CHUNK_PAGES + 2, false);
	CHECK(file_nr_entries(&f) == 3);
	set_chunks(0, 1, true);
	set_chunks(2, 3, true);
	set_chunks(2, 3, false);
	set_chunks(0, 1, false);
	CHECK(file_nr_entries(&f) == 3);

	/* It becomes a part of what covers it. */
	set_chunks(1, 2, true);
	CHECK(file_nr_entries(&f) == 3);
	set_chunks(1, 2, false);
	CHECK(file_nr_entries(&f) == 1);
	file_close(&f);
}

/* One of a range, at its beginning, in the middle, at its end, or all of it. */
static void split_out_chunk(void)
{
	pgoff_t chunk;

	for (chunk = 0; chunk < 4; chunk++) {
		file_open(&f, 4 * CHUNK_PAGES - 100, false);
		file_set(&f, chunk * CHUNK_PAGES + 5, chunk * CHUNK_PAGES + 6, true);
		file_check(&f);
		CHECK(file_nr_entries(&f) == (chunk % 3 ? 3 : 2));
		file_close(&f);

		file_open(&f, 4 * CHUNK_PAGES - 100, false);
		file_set(&f, chunk * CHUNK_PAGES,
			 min((chunk + 1) * CHUNK_PAGES, f.nr_pages), true);
		file_set(&f, chunk * CHUNK_PAGES + 5, chunk * CHUNK_PAGES + 6, false);
		file_check(&f);
		CHECK(file_nr_entries(&f) == (chunk % 3 ? 3 : 2));
		file_close(&f);
	}
}

/* Every bit by itself, and from and to everywhere. */
static void every_bit(void)
{
	const pgoff_t base = CHUNK_PAGES;
	pgoff_t i;

	file_open(&f, 3 * CHUNK_PAGES, false);
	for (i = 0; i < CHUNK_PAGES; i++) {
		file_set(&f, base + i, base + i + 1, true);
		file_check_range(&f, 0, f.nr_pages, false);
		file_set(&f, base + i, base + i + 1, false);
		file_check_range(&f, 0, f.nr_pages, false);
		if (!i)
			continue;
		file_set(&f, base + i, 2 * base, true);
		file_check_range(&f, 0, f.nr_pages, true);
		file_set(&f, base, base + i, true);
		file_check_range(&f, 0, f.nr_pages, false);
		file_set(&f, base, base + i, false);
		file_check_range(&f, 0, f.nr_pages, false);
		file_set(&f, base + i, 2 * base, false);
		file_check_range(&f, 0, f.nr_pages, true);
	}
	file_check(&f);
	file_close(&f);
}

/* Runs go on across chunks, ranges, and equal entries side by side. */
static void runs_are_joined(void)
{
	pgoff_t s, e;

	file_open(&f, 8 * CHUNK_PAGES, false);
	set_chunks(2, 4, true);
	file_set(&f, 2 * CHUNK_PAGES - 5, 2 * CHUNK_PAGES, true);
	file_set(&f, 4 * CHUNK_PAGES, 4 * CHUNK_PAGES + 3, true);

	/* The chunks next to each other, and all of their bits equal. */
	file_set(&f, 5 * CHUNK_PAGES, 5 * CHUNK_PAGES + 1, true);
	file_set(&f, 6 * CHUNK_PAGES, 6 * CHUNK_PAGES + 1, true);
	file_set(&f, 5 * CHUNK_PAGES, 5 * CHUNK_PAGES + 1, false);
	file_set(&f, 6 * CHUNK_PAGES, 6 * CHUNK_PAGES + 1, false);
	file_check(&f);

	s = 0;
	e = f.nr_pages;
	CHECK(next_change(&f.ga, &s, &e, false));
	CHECK(s == 2 * CHUNK_PAGES - 5 && e == 4 * CHUNK_PAGES + 3);
	s = e;
	e = f.nr_pages;
	CHECK(gmem_attributes_is_uniform(&f.ga, s, e, false));
	CHECK(next_change(&f.ga, &s, &e, true));
	CHECK(s == 4 * CHUNK_PAGES + 3 && e == f.nr_pages);
	file_close(&f);
}

static void already_there(void)
{
	unsigned long nr;

	file_open(&f, 16 * CHUNK_PAGES, false);
	set_chunks(4, 8, true);
	file_set(&f, 9 * CHUNK_PAGES + 1, 9 * CHUNK_PAGES + 4, true);

	/* All of a run, parts of it, parts of it with its end, and of a chunk. */
	nr = nr_allocs;
	set_chunks(4, 8, true);
	set_chunks(5, 7, true);
	set_chunks(4, 6, true);
	set_chunks(6, 8, true);
	set_chunks(0, 4, false);
	set_chunks(8, 9, false);
	set_chunks(15, 16, false);
	file_set(&f, 3, 3 * CHUNK_PAGES + 7, false);
	file_set(&f, 4 * CHUNK_PAGES + 9, 8 * CHUNK_PAGES, true);
	file_set(&f, 9 * CHUNK_PAGES + 1, 9 * CHUNK_PAGES + 4, true);
	file_set(&f, 8 * CHUNK_PAGES + 2, 9 * CHUNK_PAGES + 1, false);
	CHECK(nr_allocs == nr);
	file_check(&f);
	file_close(&f);
}

static void nothing_until_commit(void)
{
	const struct op changes[] = {
		{ 10, 50, true }, { 0, 64, false }, { 100, 900, true },
		{ 512, 1536, true }, { 0, 5000, false }, { 700, 4000, true },
		{ 4608, 5000, true }, { 1023, 1025, true }, { 0, 4096, true },
	};
	struct gmem_attributes_store store;
	int i;

	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		file_open(&f, 5000, false);
		file_set(&f, 2048, 3072, true);
		file_set(&f, 2049, 2050, false);

		CHECK(!file_prepare(&f, &store, changes[i].start, changes[i].end,
				    changes[i].private, GFP_KERNEL));
		file_check(&f);
		gmem_attributes_abandon(&store);
		file_check(&f);
		gmem_attributes_abandon(&store);

		/* What has been split stays so, and can be used. */
		CHECK(!file_prepare(&f, &store, changes[i].start, changes[i].end,
				    changes[i].private, GFP_KERNEL));
		file_check(&f);
		file_commit(&f, &store);
		file_check(&f);
		CHECK(gmem_attributes_is_uniform(&f.ga, changes[i].start,
						 changes[i].end,
						 changes[i].private));
		file_close(&f);
	}
}

/* Change the tree in the body of a walk, which keeps nothing between steps. */
static void walk_and_store(void)
{
	unsigned int nr = 0;
	pgoff_t s, e;

	file_open(&f, 3 * CHUNK_PAGES, false);
	file_fragment(&f);
	write_locked = true;
	gmem_attributes_for_each_change(&f.ga, 11, 1181, true, s, e) {
		write_locked = false;
		CHECK(e - s == (s < 1024 ? 1 : 1181 - 1024));
		file_set(&f, s, e, true);
		file_check_range(&f, 0, f.nr_pages, true);

		/* With nothing left of what the walk has seen. */
		if (nr++ == 200) {
			file_set(&f, 512, 1024, true);
			file_set(&f, 1024, 1536, false);
			rcu_barrier();
		}
		write_locked = true;
	}
	write_locked = false;
	CHECK(nr == 252);
	CHECK(gmem_attributes_is_uniform(&f.ga, 10, 1181, true));
	file_check(&f);
	file_close(&f);
}

static void walk_evaluates_once(void)
{
	pgoff_t start = 2, end = 13, s, e;
	unsigned int nr = 0;

	file_open(&f, 16, false);
	file_set(&f, 4, 6, true);
	file_set(&f, 8, 10, true);
	write_locked = true;
	gmem_attributes_for_each_change(&f.ga, start++, end, false, s, e) {
		CHECK(nr ? s == 8 && e == 10 : s == 4 && e == 6);
		nr++;
		/* Overwrite the variables, which the walk must not read. */
		s = 0;
		e = 0;
	}
	write_locked = false;
	CHECK(nr == 2);
	CHECK(start == 3);
	file_close(&f);
}

static void out_parameters_left_alone(void)
{
	pgoff_t s = 3, e = 9;

	file_open(&f, 16, false);
	CHECK(!next_change(&f.ga, &s, &e, false));
	CHECK(s == 3 && e == 9);
	CHECK(next_change(&f.ga, &s, &e, true));
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
	CHECK(next_change(&f.ga, &s, &e, true));
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
	CHECK(next_change(&ga, &s, &e, true));
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
	pgoff_t s, e;

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
	gmem_attributes_for_each_change(&ga, 0, 16, true, s, e)
		break;
	CHECK(nr_lock_violations == 3);
	gmem_attributes_destroy(&ga);
	CHECK(nr_lock_violations == 4);
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
	{ "merge_not_with_chunk", merge_not_with_chunk },
	{ "split_out_chunk", split_out_chunk },
	{ "every_bit", every_bit },
	{ "runs_are_joined", runs_are_joined },
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
