// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages of a guest_memfd are private.
 *
 * A maple tree maps every index in [0, nr_pages) to an entry, which is one of
 *
 *  - a uniform range: any number of chunks that are all private or all shared;
 *
 *  - a chunk: 512 pages, aligned, with a bit for each page.
 *
 *	| shared ........ | chunk: 1010... | private .... | chunk: 1110... | shared |
 *	0                 n * 512          (n + 1) * 512                     nr_pages
 *
 * What the tree costs thus depends on how fragmented the file is, and is limited
 * by its size.  These rules hold at all times:
 *
 *  - Every index of the file has an entry.  NULL means that the index is past
 *    the end, or that the tree is destroyed; readers take it for shared.
 *
 *  - Entries begin and end where chunks do.  The last chunk ends with the file.
 *
 *  - Every entry is a pointer to an object of its own, which is freed, by RCU,
 *    when nothing of the entry is left in the tree.
 *
 *  - An object doesn't change once it's in the tree, but for a chunk's bits, which
 *    are written by whole words.
 *
 * A chunk whose bits have become equal is legal, and so are equal neighbors.  A
 * chunk stays one until a change covers all of it: converting single pages, to
 * and fro, which is what guests do most, touches nothing but bits.  And it's what
 * allows to split a range before it changes, which nobody can see.  A change that
 * does cover chunks makes one range of them and of what's equal next to them.
 *
 * Lookups without the lock rely on there being but two states.  The tree makes a
 * store in place, without a new node, only if it replaces one entry, or one and
 * a part of its neighbor, which is in the other state or else would have been
 * taken in as a whole.  Halfway through the latter, an index of that part can be
 * seen with the object of either entry, and so in one of the two states: the one
 * that it leaves or the one that it gets.  But the object may be a chunk that the
 * index isn't in: derive the bit from the index alone, modulo the chunk's size.
 */
#include <linux/align.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/bug.h>
#include <linux/build_bug.h>
#include <linux/container_of.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "gmem_attributes.h"

#define GMEM_CHUNK_PAGES	512UL

/* What an entry points to.  All of a range is freed by one kfree_rcu(). */
struct gmem_range {
	union {
		struct rcu_head rcu;

		/* While the writer is about to free it. */
		struct gmem_range *next;
	};

	bool is_chunk;

	/* Of a uniform range. */
	bool private;

	/* Of a chunk. */
	unsigned long bits[];
};

/*
 * Objects are charged to whoever makes the tree grow, but the nodes of the tree
 * mostly aren't: several at a time come from a sheaf, which knows no cgroups.  A
 * node has 256 bytes, and 8 to 16 entries on 64-bit, i.e. an entry takes up to
 * 32 bytes of it, and a bit of the nodes above.  So that fragmenting a file by
 * ranges can't take much more than what it is charged for, have a range, which
 * needs 32 bytes, be charged for as many again.  A chunk is larger anyway.
 */
#define GMEM_UNIFORM_SIZE	64
#define GMEM_CHUNK_SIZE		(sizeof(struct gmem_range) + GMEM_CHUNK_PAGES / 8)

/* How many entries to take out of a tree at a time when it is destroyed. */
#define GMEM_DESTROY_BATCH	4096

static pgoff_t gmem_chunk_start(pgoff_t index)
{
	return ALIGN_DOWN(index, GMEM_CHUNK_PAGES);
}

/* The end of the chunk that @index is in. */
static pgoff_t gmem_chunk_end(struct gmem_attributes *ga, pgoff_t index)
{
	return min(gmem_chunk_start(index) + GMEM_CHUNK_PAGES, ga->nr_pages);
}

static struct gmem_range *gmem_alloc_uniform(bool private, gfp_t gfp)
{
	struct gmem_range *range;

	BUILD_BUG_ON(sizeof(*range) > GMEM_UNIFORM_SIZE);
	BUILD_BUG_ON(GMEM_CHUNK_SIZE < GMEM_UNIFORM_SIZE);

	range = kmalloc(GMEM_UNIFORM_SIZE, gfp);
	if (!range)
		return NULL;

	range->is_chunk = false;
	range->private = private;
	return range;
}

static struct gmem_range *gmem_alloc_chunk(bool private, gfp_t gfp)
{
	struct gmem_range *chunk;

	chunk = kmalloc(GMEM_CHUNK_SIZE, gfp);
	if (!chunk)
		return NULL;

	chunk->is_chunk = true;
	memset(chunk->bits, private ? 0xff : 0, GMEM_CHUNK_PAGES / 8);
	return chunk;
}

/* Free a list of objects that are no longer in the tree. */
static void gmem_free_ranges(struct gmem_range *range)
{
	struct gmem_range *next;

	for (; range; range = next) {
		next = range->next;
		kfree_rcu(range, rcu);
		cond_resched();
	}
}

/* Is @index, which @range is around, private? */
static bool gmem_range_is_private(const struct gmem_range *range, pgoff_t index)
{
	if (!range)
		return false;

	return range->is_chunk ? test_bit(index % GMEM_CHUNK_PAGES, range->bits) :
				 range->private;
}

/* Find out what's around @index. */
static void gmem_lookup(struct gmem_attributes *ga, struct gmem_span *span,
			pgoff_t index)
{
	MA_STATE(mas, &ga->mt, index, index);

	span->range = mas_walk(&mas);

	/*
	 * Without the lock, the walk can read the boundary that it compared
	 * @index with again after a commit has moved it to before @index.
	 * Never go backwards.  And never reach ULONG_MAX, which is no index.
	 */
	span->start = min(mas.index, index);
	span->end = clamp(mas.last, index, ULONG_MAX - 1) + 1;
}

/*
 * Returns the first page of [start, end) of @chunk in the state @private, or @end.
 *
 * Not find_next_bit(), which may read a word more than once: without the lock,
 * gmem_commit_part() may write it in between.
 */
static pgoff_t gmem_find_in_chunk(const struct gmem_range *chunk, pgoff_t start,
				  pgoff_t end, bool private)
{
	unsigned long mask = BITMAP_FIRST_WORD_MASK(start), word;
	pgoff_t i;

	for (i = BIT_WORD(start); i * BITS_PER_LONG < end; i++) {
		word = READ_ONCE(chunk->bits[i]);
		word = (private ? word : ~word) & mask;
		if (word)
			return min(i * BITS_PER_LONG + __ffs(word), end);

		mask = ~0UL;
	}

	return end;
}

/*
 * Returns the first index in [index, end) in the state @private, or @end.  Leaves
 * in @span what is around the last index that it has looked at.
 */
static pgoff_t gmem_find(struct gmem_attributes *ga, struct gmem_span *span,
			 pgoff_t index, pgoff_t end, bool private)
{
	const struct gmem_range *range;
	pgoff_t base, next;

	for (; index < end; index = next) {
		if (index < span->start || index >= span->end)
			gmem_lookup(ga, span, index);

		range = span->range;
		if (gmem_range_is_private(range, index) == private)
			return index;

		next = min(span->end, end);
		if (!range || !range->is_chunk)
			continue;

		/* There are no more bits, whatever a lookup without the lock says. */
		base = gmem_chunk_start(index);
		next = min(next, base + GMEM_CHUNK_PAGES);
		index = base + gmem_find_in_chunk(range, index - base, next - base,
						  private);
		if (index < next)
			return index;
	}

	return end;
}

/*
 * Find the first sub-range of [*start, *end) that is not in the state @private,
 * as long as it can be, and narrow *start and *end to it.  Without one, leave
 * both alone and return false.
 */
bool gmem_attributes_next_change(struct gmem_attributes *ga, pgoff_t *start,
				 pgoff_t *end, bool private)
{
	pgoff_t s;

	/* Or else what has been looked up last may be gone. */
	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	s = gmem_find(ga, &ga->last, *start, *end, !private);
	if (s >= *end)
		return false;

	*end = gmem_find(ga, &ga->last, s + 1, *end, private);
	*start = s;
	return true;
}

/* Returns the first index in [start, end) in the state @private, or @end. */
pgoff_t gmem_attributes_find(struct gmem_attributes *ga, pgoff_t start,
			     pgoff_t end, bool private)
{
	struct gmem_span span = {};
	pgoff_t index;

	rcu_read_lock();
	index = gmem_find(ga, &span, start, end, private);
	rcu_read_unlock();

	return index;
}

/* May be called with a spinlock held. */
bool gmem_attributes_is_private(struct gmem_attributes *ga, pgoff_t index)
{
	bool private;

	rcu_read_lock();
	private = gmem_range_is_private(mtree_load(&ga->mt, index), index);
	rcu_read_unlock();

	return private;
}

/* Store @range, or, on failure, free it. */
static int gmem_store(struct gmem_attributes *ga, pgoff_t start, pgoff_t end,
		      struct gmem_range *range, gfp_t gfp)
{
	MA_STATE(mas, &ga->mt, start, end - 1);
	int r;

	if (!range)
		return -ENOMEM;

	/*
	 * Not mas_store_gfp(), which would use the flags, and with them
	 * __GFP_ACCOUNT, only after having failed to allocate with GFP_NOWAIT.
	 */
	r = mas_preallocate(&mas, range, gfp);
	if (r) {
		kfree(range);
		return r;
	}

	mas_store_prealloc(&mas, range);
	ga->last.end = 0;
	return 0;
}

/*
 * Make [0, nr_pages) of an empty tree all private or all shared.  On failure the
 * tree is still empty.
 */
int gmem_attributes_fill(struct gmem_attributes *ga, pgoff_t nr_pages,
			 bool private)
{
	int r;

	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	if (WARN_ON_ONCE(!nr_pages))
		return -EINVAL;

	r = gmem_store(ga, 0, nr_pages,
		       gmem_alloc_uniform(private, GFP_KERNEL_ACCOUNT),
		       GFP_KERNEL_ACCOUNT);
	if (r)
		return r;

	ga->nr_pages = nr_pages;
	return 0;
}

/* From here on every index counts as shared. */
void gmem_attributes_destroy(struct gmem_attributes *ga)
{
	MA_STATE(mas, &ga->mt, 0, 0);
	struct gmem_range *range, *old = NULL;
	unsigned long nr = 0;
	pgoff_t last;

	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	mas_for_each(&mas, range, ULONG_MAX) {
		range->next = old;
		old = range;
		cond_resched();

		if (++nr % GMEM_DESTROY_BATCH)
			continue;

		/*
		 * Take a large tree away piece by piece, as it may be a guest
		 * that has made it large, and both the tree and RCU free the
		 * nodes of a piece without a break.  If there's no memory for
		 * that, the piece is taken away with the next one.
		 */
		last = mas.last;
		mas_set_range(&mas, 0, last);
		if (!mas_store_gfp(&mas, NULL, GFP_KERNEL)) {
			gmem_free_ranges(old);
			old = NULL;
		}
		mas_set(&mas, last + 1);
	}

	__mt_destroy(&ga->mt);
	gmem_free_ranges(old);
	ga->nr_pages = 0;
	ga->last.end = 0;
}

/*
 * Get ready to store over [start, end), whole chunks, without moving an object:
 * if there's a range that would be left on both sides, have an object of its own
 * on the right side.
 */
static int gmem_split(struct gmem_attributes *ga, pgoff_t start, pgoff_t end,
		      gfp_t gfp)
{
	MA_STATE(mas, &ga->mt, start, start);
	struct gmem_range *range = mas_walk(&mas);

	if (mas.index >= start || mas.last < end)
		return 0;

	return gmem_store(ga, end, mas.last + 1,
			  gmem_alloc_uniform(range->private, gfp), gfp);
}

/*
 * Get ready to change [start, end), a part of a chunk.  If the chunk has no bits
 * yet, and needs them, make it one that does, all of them as they were.
 */
static int gmem_prepare_part(struct gmem_attributes *ga, struct gmem_part *part,
			     pgoff_t start, pgoff_t end, bool private, gfp_t gfp)
{
	const pgoff_t chunk_start = gmem_chunk_start(start);
	const pgoff_t chunk_end = gmem_chunk_end(ga, start);
	struct gmem_range *chunk;
	struct gmem_span old;
	int r;

	if (gmem_find(ga, &ga->last, start, end, !private) >= end)
		return 0;

	old = ga->last;
	chunk = old.range;

	if (!chunk->is_chunk) {
		r = gmem_split(ga, chunk_start, chunk_end, gfp);
		if (r)
			return r;

		chunk = gmem_alloc_chunk(!private, gfp);
		r = gmem_store(ga, chunk_start, chunk_end, chunk, gfp);
		if (r)
			return r;

		if (old.start == chunk_start && old.end == chunk_end)
			kfree_rcu(old.range, rcu);
	}

	part->chunk = chunk;
	part->start = start - chunk_start;
	part->end = end - chunk_start;
	return 0;
}

/* Get ready to change [start, end), whole chunks. */
static int gmem_prepare_chunks(struct gmem_attributes *ga,
			       struct gmem_attributes_store *store,
			       pgoff_t start, pgoff_t end, bool private, gfp_t gfp)
{
	struct ma_state *mas = &store->mas;
	struct gmem_range *range;
	pgoff_t first = start, last = end - 1;
	int r;

	if (gmem_find(ga, &ga->last, start, end, !private) >= end)
		return 0;

	mas_init(mas, &ga->mt, start);

	/*
	 * Take in the neighbors that are in the wanted state already, so that
	 * the store merges with them.  What lies around start - 1 or end can
	 * reach into the range itself, that makes no difference.
	 *
	 *	first    start     end      last
	 *	  | wanted | either | wanted |
	 *
	 * Nothing is to the left of index 0, and to the right of the last page.
	 */
	if (start) {
		mas_set(mas, start - 1);
		range = mas_walk(mas);
		if (!range->is_chunk && range->private == private)
			first = mas->index;
	}

	mas_set(mas, end);
	range = mas_walk(mas);
	if (range && !range->is_chunk && range->private == private)
		last = mas->last;

	r = gmem_split(ga, first, last + 1, gfp);
	if (r)
		return r;

	range = gmem_alloc_uniform(private, gfp);
	if (!range)
		return -ENOMEM;

	mas_set_range(mas, first, last);
	r = mas_preallocate(mas, range, gfp);
	if (r) {
		kfree(range);
		return r;
	}

	store->range = range;
	return 0;
}

/*
 * Get ready to set [start, end) to @private: all that can fail happens here.
 * Nothing that can be seen has changed until gmem_attributes_commit(), and
 * lookups keep working until then; gmem_attributes_abandon() calls it off.  The
 * lock must be held until one of the two is called, as what is prepared fits only
 * the tree as it is now.
 *
 * Whole chunks get a range, those that change in part need bits:
 *
 *	     start first                 last  end
 *	|......|#####|#####|#####|#####|#####|###.........|
 *	|    part    |        chunks         |    part    |
 *
 * On failure, the tree may be split in more entries than before.
 */
int gmem_attributes_prepare(struct gmem_attributes *ga,
			    struct gmem_attributes_store *store,
			    pgoff_t start, pgoff_t end, bool private,
			    gfp_t gfp)
{
	pgoff_t first, last;
	int r;

	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	store->private = private;
	store->parts[0].chunk = NULL;
	store->parts[1].chunk = NULL;
	store->range = NULL;
	store->mas.tree = &ga->mt;

	if (WARN_ON_ONCE(start >= end || end > ga->nr_pages))
		return -EINVAL;

	first = gmem_chunk_start(start) == start ? start : gmem_chunk_end(ga, start);
	last = end == ga->nr_pages ? end : gmem_chunk_start(end);

	if (start < first || last < first) {
		r = gmem_prepare_part(ga, &store->parts[0], start, min(first, end),
				      private, gfp);
		if (r)
			return r;
	}

	if (first <= last && last < end) {
		r = gmem_prepare_part(ga, &store->parts[1], last, end, private, gfp);
		if (r)
			return r;
	}

	if (first < last)
		return gmem_prepare_chunks(ga, store, first, last, private, gfp);

	return 0;
}

/* Lookups may be reading the bits: change each word at once. */
static pgoff_t gmem_commit_part(struct gmem_part *part, bool private)
{
	unsigned long mask, old, new;
	unsigned int start, end, i;
	pgoff_t nr = 0;

	for (start = part->start; start < part->end; start = end) {
		i = BIT_WORD(start);
		end = min_t(unsigned int, (i + 1) * BITS_PER_LONG, part->end);

		mask = BITMAP_FIRST_WORD_MASK(start) & BITMAP_LAST_WORD_MASK(end);
		old = part->chunk->bits[i];
		new = private ? old | mask : old & ~mask;
		WRITE_ONCE(part->chunk->bits[i], new);
		nr += hweight_long(old ^ new);
	}

	return nr;
}

/* How many pages of [start, end), which is in @range, are not in the state @private? */
static pgoff_t gmem_count(const struct gmem_range *range, pgoff_t start, pgoff_t end,
			  bool private)
{
	unsigned int nr;

	if (!range->is_chunk)
		return range->private == private ? 0 : end - start;

	/* Leave out the bits behind the file's end. */
	nr = bitmap_weight(range->bits, end - start);
	return private ? end - start - nr : nr;
}

static pgoff_t gmem_commit_chunks(struct gmem_attributes_store *store)
{
	struct gmem_attributes *ga = container_of(store->mas.tree,
						  struct gmem_attributes, mt);
	const pgoff_t first = store->mas.index, last = store->mas.last;
	struct gmem_range *range, *old = NULL;
	struct ma_state mas;
	pgoff_t nr = 0;

	mas_init(&mas, &ga->mt, first);

	/* Free what the store replaces, but not what it only cuts off. */
	mas_for_each(&mas, range, last) {
		nr += gmem_count(range, max(mas.index, first), min(mas.last, last) + 1,
				 store->private);
		if (mas.index >= first && mas.last <= last) {
			range->next = old;
			old = range;
		}
		cond_resched();
	}

	mas_store_prealloc(&store->mas, store->range);
	ga->last.end = 0;
	gmem_free_ranges(old);
	return nr;
}

/* Make the prepared change.  Returns how many pages it has changed. */
pgoff_t gmem_attributes_commit(struct gmem_attributes_store *store)
{
	pgoff_t nr = 0;
	int i;

	lockdep_assert(mt_write_lock_is_held(store->mas.tree));

	for (i = 0; i < ARRAY_SIZE(store->parts); i++) {
		if (store->parts[i].chunk)
			nr += gmem_commit_part(&store->parts[i], store->private);
	}

	if (store->range)
		nr += gmem_commit_chunks(store);

	return nr;
}

/* Give back what gmem_attributes_prepare() has allocated and not yet used. */
void gmem_attributes_abandon(struct gmem_attributes_store *store)
{
	if (!store->range)
		return;

	mas_destroy(&store->mas);
	kfree(store->range);
	store->range = NULL;
}
