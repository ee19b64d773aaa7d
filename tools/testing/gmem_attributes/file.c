// SPDX-License-Identifier: GPL-2.0-only
#include <stdarg.h>

#include <linux/bitmap.h>
#include <linux/xarray.h>

#include "file.h"

unsigned int nr_warnings;
unsigned int nr_lock_violations;
bool test_failed;
bool write_locked;

/* The file that check_failed() describes. */
static struct file *current_file;

static void write_lock(void)
{
	CHECK(!write_locked);
	write_locked = true;
}

static void write_unlock(void)
{
	CHECK(write_locked);
	write_locked = false;
}

int attributes_create(struct gmem_attributes *ga, pgoff_t nr_pages, bool private)
{
	int r;

	gmem_attributes_init(ga, NULL);
	write_lock();
	r = gmem_attributes_fill(ga, nr_pages, private);
	write_unlock();
	return r;
}

void file_open(struct file *f, pgoff_t nr_pages, bool private)
{
	memset(f, 0, sizeof(*f));
	f->nr_pages = nr_pages;
	f->private = calloc(BITS_TO_LONGS(nr_pages), sizeof(*f->private));
	assert(f->private);
	if (private)
		bitmap_set(f->private, 0, nr_pages);
	current_file = f;

	CHECK(!attributes_create(&f->ga, nr_pages, private));
}

void file_close(struct file *f)
{
	write_lock();
	gmem_attributes_destroy(&f->ga);
	write_unlock();

	CHECK(!gmem_attributes_is_private(&f->ga, 0));
	CHECK(!gmem_attributes_is_private(&f->ga, f->nr_pages - 1));

	free(f->private);
	current_file = NULL;
}

int file_prepare(struct file *f, struct gmem_attributes_store *store,
		 pgoff_t start, pgoff_t end, bool private, gfp_t gfp)
{
	int r;

	f->ops[f->nr_ops++ % ARRAY_SIZE(f->ops)] = (struct op) {
		.start = start, .end = end, .private = private,
	};

	write_lock();
	r = gmem_attributes_prepare(&f->ga, store, start, end, private, gfp);
	write_unlock();
	return r;
}

/* What is at @index, and all that it covers. */
static void *file_entry(struct file *f, pgoff_t index, pgoff_t *first,
			pgoff_t *last)
{
	MA_STATE(mas, &f->ga.mt, index, index);
	void *entry;

	rcu_read_lock();
	entry = mas_walk(&mas);
	rcu_read_unlock();

	*first = mas.index;
	*last = mas.last;
	return entry;
}

static bool entry_is_chunk(void *entry)
{
	return object_size(entry) != UNIFORM_BYTES;
}

/* Is there a uniform range at @index that is @private? */
static bool file_has_uniform(struct file *f, pgoff_t index, bool private)
{
	pgoff_t first, last;

	return index < f->nr_pages &&
	       !entry_is_chunk(file_entry(f, index, &first, &last)) &&
	       test_bit(index, f->private) == private;
}

/* A store has made one range of whole chunks and of what's equal next to them. */
static void file_check_merged(struct file *f, struct op *op)
{
	pgoff_t start = round_up(op->start, CHUNK_PAGES), end = op->end;
	pgoff_t first, last;
	void *entry;

	if (end != f->nr_pages)
		end = round_down(end, CHUNK_PAGES);
	if (!CHECK(start < end))
		return;

	entry = file_entry(f, start, &first, &last);
	CHECK(!entry_is_chunk(entry));
	CHECK(first <= start && last >= end - 1);
	CHECK(!first || !file_has_uniform(f, first - 1, op->private));
	CHECK(!file_has_uniform(f, last + 1, op->private));
}

static pgoff_t file_count_private(struct file *f, pgoff_t start, pgoff_t end)
{
	pgoff_t nr = 0, next;

	while ((start = find_next_bit(f->private, end, start)) < end) {
		next = find_next_zero_bit(f->private, end, start);
		nr += next - start;
		start = next;
	}

	return nr;
}

void file_commit(struct file *f, struct gmem_attributes_store *store)
{
	struct op *op = &f->ops[(f->nr_ops - 1) % ARRAY_SIZE(f->ops)];
	pgoff_t nr_private = file_count_private(f, op->start, op->end);
	unsigned long nr = nr_allocs;
	bool stores = store->range;
	pgoff_t nr_changed;

	write_lock();
	nr_changed = gmem_attributes_commit(store);
	write_unlock();

	/* All allocation is in the first step. */
	CHECK(nr_allocs == nr);

	if (op->private) {
		bitmap_set(f->private, op->start, op->end - op->start);
		CHECK(nr_changed == op->end - op->start - nr_private);
	} else {
		bitmap_clear(f->private, op->start, op->end - op->start);
		CHECK(nr_changed == nr_private);
	}

	if (stores && !f->split)
		file_check_merged(f, op);
}

void file_set(struct file *f, pgoff_t start, pgoff_t end, bool private)
{
	struct gmem_attributes_store store;

	if (CHECK(!file_prepare(f, &store, start, end, private,
				GFP_KERNEL_ACCOUNT)))
		file_commit(f, &store);
}

void file_fragment(struct file *f)
{
	pgoff_t i;

	for (i = 0; i < f->nr_pages; i++) {
		if (test_bit(i, f->private) == (i & 1))
			file_set(f, i, i + 1, !(i & 1));
	}
}

void file_fragment_chunks(struct file *f)
{
	pgoff_t i;

	for (i = 0; i < f->nr_pages; i += CHUNK_PAGES)
		file_set(f, i, min(i + CHUNK_PAGES, f->nr_pages),
			 !(i & CHUNK_PAGES));
}

unsigned long file_nr_entries(struct file *f)
{
	MA_STATE(mas, &f->ga.mt, 0, 0);
	unsigned long nr = 0;
	void *entry;

	rcu_read_lock();
	mas_for_each(&mas, entry, ULONG_MAX)
		nr++;
	rcu_read_unlock();
	return nr;
}

pgoff_t file_next(struct file *f, pgoff_t start, pgoff_t end, bool private)
{
	return private ? find_next_bit(f->private, end, start) :
			 find_next_zero_bit(f->private, end, start);
}

bool file_check_index(struct file *f, pgoff_t index)
{
	return CHECK(gmem_attributes_is_private(&f->ga, index) ==
		     test_bit(index, f->private));
}

/* Is [start, end) uniform, and what would have to change to make it so? */
bool file_check_range(struct file *f, pgoff_t start, pgoff_t end, bool private)
{
	pgoff_t next = file_next(f, start, end, !private);
	bool uniform = next == end, ok = true, found;
	pgoff_t s, e;

	if (!CHECK(gmem_attributes_is_uniform(&f->ga, start, end, private) ==
		   uniform))
		return false;

	s = start;
	e = end;
	write_lock();
	found = gmem_attributes_next_change(&f->ga, &s, &e, private);
	write_unlock();
	if (!CHECK(found != uniform) ||
	    !CHECK(s == (uniform ? start : next)) ||
	    !CHECK(e == (uniform ? end : file_next(f, s, end, private))))
		return false;

	write_lock();
	gmem_attributes_for_each_change(&f->ga, start, end, private, s, e) {
		ok = CHECK(s == next) && CHECK(e == file_next(f, s, end, private));
		if (!ok)
			break;
		next = file_next(f, e, end, !private);
	}
	write_unlock();
	return ok && CHECK(next == end);
}

/* The rules for entries, see gmem_attributes.c. */
bool file_check_entries(struct file *f)
{
	MA_STATE(mas, &f->ga.mt, 0, 0);
	void *entry, *prev[2] = {};
	pgoff_t index = 0;
	bool ok = true;

	mt_validate(&f->ga.mt);

	rcu_read_lock();
	mas_for_each(&mas, entry, ULONG_MAX) {
		ok = CHECK(mas.index == index) &&
		     CHECK(mas.last < f->nr_pages) &&
		     CHECK(IS_ALIGNED(index, CHUNK_PAGES));
		if (!ok)
			break;

		/* That all objects are different is for file_close() to tell. */
		index = mas.last + 1;
		ok = CHECK(IS_ALIGNED(index, CHUNK_PAGES) ||
			   index == f->nr_pages) &&
		     CHECK(entry != prev[0] && entry != prev[1]);
		if (!ok)
			break;
		prev[1] = prev[0];
		prev[0] = entry;

		if (entry_is_chunk(entry))
			ok = CHECK(index - mas.index <= CHUNK_PAGES);
		else
			ok = CHECK(file_next(f, mas.index, index,
					     !test_bit(mas.index, f->private)) ==
				   index);
		if (!ok)
			break;
	}
	rcu_read_unlock();

	return ok && CHECK(index == f->nr_pages);
}

/* The whole file in each of the ways to ask. */
bool file_check(struct file *f)
{
	pgoff_t i;

	if (!file_check_entries(f) ||
	    !file_check_range(f, 0, f->nr_pages, false) ||
	    !file_check_range(f, 0, f->nr_pages, true))
		return false;

	for (i = 0; i < f->nr_pages; i++) {
		if (!file_check_index(f, i))
			return false;
	}

	return CHECK(!gmem_attributes_is_private(&f->ga, f->nr_pages)) &&
	       CHECK(!gmem_attributes_is_private(&f->ga, ULONG_MAX));
}

/* And every sub-range of it: for small files. */
bool file_check_all(struct file *f)
{
	pgoff_t start, end;

	if (!file_check(f))
		return false;

	for (start = 0; start < f->nr_pages; start++) {
		for (end = start + 1; end <= f->nr_pages; end++) {
			if (!file_check_range(f, start, end, false) ||
			    !file_check_range(f, start, end, true))
				return false;
		}
	}
	return true;
}

void diag(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("# ");
	vprintf(fmt, args);
	printf("\n");
	va_end(args);
}

void check_failed(const char *file, int line, const char *what)
{
	static unsigned int nr_told;
	struct file *f = current_file;
	unsigned long i;

	/* Print the first failures only. */
	if (!test_failed)
		nr_told = 0;
	test_failed = true;
	if (nr_told++ >= 5)
		return;

	diag("%s:%d: failed: %s", file, line, what);
	if (!f)
		return;

	diag("  %lu pages, operation %lu; the last ones:", f->nr_pages,
	     f->nr_ops);
	i = f->nr_ops < ARRAY_SIZE(f->ops) ? 0 : f->nr_ops - ARRAY_SIZE(f->ops);
	for (; i < f->nr_ops; i++) {
		struct op *op = &f->ops[i % ARRAY_SIZE(f->ops)];

		diag("  [%lu, %lu) to %s", op->start, op->end,
		     op->private ? "private" : "shared");
	}
}
