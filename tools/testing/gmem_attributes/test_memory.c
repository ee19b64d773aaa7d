// SPDX-License-Identifier: GPL-2.0-only
/* What a file costs, how much of that is charged, and what is given back, and when. */
#include <linux/align.h>

#include "file.h"

#define NODE_BYTES	sizeof(struct maple_node)

static struct file f;
static long objects, bytes, nodes;

static void begin(pgoff_t nr_pages, bool private)
{
	objects = objects_allocated();
	bytes = object_bytes;
	nodes = nodes_allocated();
	file_open(&f, nr_pages, private);
}

/* As the kernel rounds up. */
static long slab_bytes(long nr_bytes, long nr, long size)
{
	return size == UNIFORM_BYTES ? nr * UNIFORM_BYTES :
	       nr_bytes / size * MAX_CHUNK_BYTES;
}

/* Print and verify what the file takes, if all its entries are of one kind. */
static void costs(const char *what, long size)
{
	long nr = objects_allocated() - objects, charged, total;
	unsigned long permille;

	CHECK(nr == file_nr_entries(&f));
	CHECK(object_bytes - bytes == nr * size);

	charged = slab_bytes(object_bytes - bytes, nr, size);
	total = charged + (nodes_allocated() - nodes) * NODE_BYTES;
	permille = total * 1000 / f.nr_pages;
	diag("%s: %ld entries, 0.%03lu bytes a page, %ld%% of them in charged objects",
	     what, nr, permille, charged * 100 / total);

	CHECK(permille <= 300);
	CHECK(charged * 100 / total >= 60);
}

static void costs_of_pages(void)
{
	MA_STATE(mas, &f.ga.mt, 0, 0);
	pgoff_t first;
	long size;

	begin(1UL << 20, false);
	file_fragment(&f);
	rcu_read_lock();
	size = object_size(mas_walk(&mas));
	rcu_read_unlock();
	CHECK(size <= MAX_CHUNK_BYTES && size >= UNIFORM_BYTES);
	costs("every other page", size);
	file_check_entries(&f);
	file_close(&f);

	begin(1UL << 20, true);
	for (first = f.nr_pages; first; first -= CHUNK_PAGES)
		file_set(&f, first - 1, first, false);
	costs("a page of every chunk, from behind", size);
	file_close(&f);
}

static void costs_of_chunks(void)
{
	unsigned long state = random_seed, nr;
	pgoff_t i;

	begin(1UL << 20, false);
	file_fragment_chunks(&f);
	costs("every other chunk", UNIFORM_BYTES);
	file_close(&f);

	begin(1UL << 20, false);
	for (i = f.nr_pages; i; i -= 2 * CHUNK_PAGES)
		file_set(&f, i - CHUNK_PAGES, i, true);
	costs("every other chunk, from behind", UNIFORM_BYTES);
	file_close(&f);

	begin(1UL << 20, false);
	for (nr = 0; nr < 20000; nr++) {
		i = random_below(&state, f.nr_pages / CHUNK_PAGES);
		file_set(&f, i * CHUNK_PAGES, (i + 1) * CHUNK_PAGES,
			 random_below(&state, 2));
	}
	costs("random chunks", UNIFORM_BYTES);
	file_close(&f);
}

/* Small conversions in a chunk take no memory, however often, and give none back. */
static void bits_cost_nothing(void)
{
	unsigned long state = random_seed, nr, allocs;
	pgoff_t start, end, nr_pages = 3 * CHUNK_PAGES - 9;

	file_open(&f, nr_pages, false);
	for (start = 0; start < nr_pages; start += CHUNK_PAGES)
		file_set(&f, start, start + 1, true);
	objects = objects_allocated();
	nodes = nodes_allocated();
	allocs = nr_allocs;

	/* No memory at all is left. */
	alloc_fail_after(0);
	for (nr = 0; nr < 100000 && !test_failed; nr++) {
		start = random_below(&state, nr_pages - 1);
		end = start + 1 + random_below(&state, nr % 2 ? 3 : CHUNK_PAGES);
		end = min(end, nr_pages);
		/* Up to two chunks, none of them as a whole. */
		if (IS_ALIGNED(start, CHUNK_PAGES))
			start++;
		if (IS_ALIGNED(end, CHUNK_PAGES) || end == nr_pages)
			end--;
		if (start >= end)
			continue;
		file_set(&f, start, end, random_below(&state, 2));
		file_check_range(&f, start, end, nr % 2);
		if (!(nr % 100))
			file_check_range(&f, 0, nr_pages, nr % 2);
	}
	alloc_fail_never();

	/* Neither are equal bits a reason to do anything. */
	for (start = 1; start + 1 < nr_pages; start++)
		file_set(&f, start, start + 1, true);
	CHECK(nr_allocs == allocs);
	CHECK(objects_allocated() == objects);
	CHECK(nodes_allocated() == nodes);
	file_check(&f);
	file_close(&f);
}

/* What a store replaces is given back, but not before those who look at it are gone. */
static void freed_by_rcu(void)
{
	long now;

	begin(64 * CHUNK_PAGES, false);
	file_fragment(&f);
	CHECK(objects_allocated() - objects == 64);

	rcu_read_lock();
	now = nr_objects;
	file_set(&f, 0, f.nr_pages, true);
	/* There's one more, and nothing less. */
	CHECK(nr_objects == now + 1);
	rcu_read_unlock();
	CHECK(objects_allocated() - objects == 1);

	/* A range that becomes a chunk. */
	file_fragment_chunks(&f);
	CHECK(objects_allocated() - objects == 64);
	rcu_read_lock();
	now = nr_objects;
	file_set(&f, 5 * CHUNK_PAGES + 7, 5 * CHUNK_PAGES + 9, true);
	CHECK(nr_objects == now + 1);
	rcu_read_unlock();
	CHECK(objects_allocated() - objects == 64);

	rcu_read_lock();
	now = nr_objects;
	file_close(&f);
	CHECK(nr_objects == now);
	rcu_read_unlock();
	CHECK(objects_allocated() == objects);
}

/* Every chunk of a TiB has its bits. */
static void huge_open(pgoff_t nr_pages)
{
	pgoff_t i;

	begin(nr_pages, true);
	for (i = 0; i < nr_pages; i += CHUNK_PAGES)
		file_set(&f, i + i / CHUNK_PAGES % CHUNK_PAGES,
			 i + i / CHUNK_PAGES % CHUNK_PAGES + 1, false);
	CHECK(file_nr_entries(&f) == nr_pages / CHUNK_PAGES);
	diag("%ld objects, %ld nodes, %u levels", objects_allocated() - objects,
	     nodes_allocated() - nodes, mt_height(&f.ga.mt));
}

static void huge_collapse(void)
{
	long nr_nodes;

	huge_open(1UL << 28);
	nr_nodes = nodes_allocated();
	file_set(&f, 0, f.nr_pages, false);
	CHECK(file_nr_entries(&f) == 1);
	CHECK(objects_allocated() - objects == 1);
	CHECK(nodes_allocated() < nr_nodes / 1000);
	CHECK(gmem_attributes_is_uniform(&f.ga, 0, f.nr_pages, false));
	file_close(&f);

	/* All but the ends, which stay as they are. */
	huge_open(1UL << 22);
	file_set(&f, 17, f.nr_pages - 33, true);
	CHECK(objects_allocated() - objects == 3);
	file_check_entries(&f);
	file_check_range(&f, 0, f.nr_pages, true);
	file_close(&f);
}

static void huge_destroy(void)
{
	huge_open(1UL << 28);
	file_close(&f);
	CHECK(objects_allocated() == objects);
	CHECK(nodes_allocated() == nodes);

	/* Without memory, it goes at once. */
	huge_open(1UL << 24);
	alloc_fail_after(0);
	file_close(&f);
	alloc_fail_never();
	CHECK(objects_allocated() == objects);
	CHECK(nodes_allocated() == nodes);

	/* And with memory for the first piece only. */
	huge_open(1UL << 24);
	alloc_fail_after(20);
	file_close(&f);
	alloc_fail_never();
	CHECK(objects_allocated() == objects);
	CHECK(nodes_allocated() == nodes);
}

const struct test memory_tests[] = {
	{ "costs_of_pages", costs_of_pages },
	{ "costs_of_chunks", costs_of_chunks },
	{ "bits_cost_nothing", bits_cost_nothing },
	{ "freed_by_rcu", freed_by_rcu },
	{ "huge_collapse", huge_collapse },
	{ "huge_destroy", huge_destroy },
	{ }
};
