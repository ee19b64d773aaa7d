// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages of a guest_memfd are private.
 *
 * A maple tree maps every index in [0, nr_pages) to one of two entries, so that
 * what it costs depends on how fragmented the file is, and not on how large.
 * Two rules hold at all times:
 *
 *  - Every index of the file has an entry.  NULL means that the index is past
 *    the end, or that the tree is destroyed; readers take it for shared.
 *
 *  - Neighbours differ: a range that is stored takes in the equal ranges on both
 *    of its sides.  So a range is uniform if and only if one entry covers all of
 *    it, and the tree is as small as it can be.
 *
 * With only two entries, the second rule also means that a store that the tree
 * makes in place, without a new node, changes a single word: a boundary between
 * two ranges, or the only entry of a file that is uniform.  A lookup without the
 * lock sees that happen or not, and never half of it.
 */
#include <linux/bug.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/rcupdate.h>
#include <linux/xarray.h>

#include "gmem_attributes.h"

static void *gmem_attributes_entry(bool private)
{
	return xa_mk_value(private);
}

/*
 * Returns the state of @index, and the last index of the range around it that
 * is in the same state.
 */
static bool gmem_attributes_lookup(struct gmem_attributes *ga, pgoff_t index,
				   pgoff_t *last)
{
	MA_STATE(mas, &ga->mt, index, index);
	void *entry;

	rcu_read_lock();
	entry = mas_walk(&mas);
	rcu_read_unlock();

	/*
	 * Without the lock, the walk can read the boundary that it compared
	 * @index with again after a commit has moved it to before @index.
	 * Never go backwards.
	 */
	*last = max(mas.last, index);

	return entry == gmem_attributes_entry(true);
}

/*
 * Make [0, nr_pages) of an empty tree all private or all shared.  On failure the
 * tree is still empty.
 */
int gmem_attributes_fill(struct gmem_attributes *ga, pgoff_t nr_pages,
			 bool private)
{
	MA_STATE(mas, &ga->mt, 0, nr_pages - 1);
	void *entry = gmem_attributes_entry(private);
	int r;

	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	if (WARN_ON_ONCE(!nr_pages))
		return -EINVAL;

	/*
	 * Not mas_store_gfp(), which would use the flags, and with them
	 * __GFP_ACCOUNT, only after having failed to allocate with GFP_NOWAIT.
	 */
	r = mas_preallocate(&mas, entry, GFP_KERNEL_ACCOUNT);
	if (r)
		return r;

	mas_store_prealloc(&mas, entry);
	return 0;
}

/* From here on every index counts as shared. */
void gmem_attributes_destroy(struct gmem_attributes *ga)
{
	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	__mt_destroy(&ga->mt);
}

/* May be called with a spinlock held. */
bool gmem_attributes_is_private(struct gmem_attributes *ga, pgoff_t index)
{
	return mtree_load(&ga->mt, index) == gmem_attributes_entry(true);
}

/* Is all of [start, end) in the state @private? */
bool gmem_attributes_is_uniform(struct gmem_attributes *ga, pgoff_t start,
				pgoff_t end, bool private)
{
	return !gmem_attributes_next_change(ga, &start, &end, private);
}

/*
 * Find the first sub-range of [*start, *end) that is not in the state @private,
 * as long as it can be, and narrow *start and *end to it.  Without one, leave
 * both alone and return false.
 */
bool gmem_attributes_next_change(struct gmem_attributes *ga, pgoff_t *start,
				 pgoff_t *end, bool private)
{
	pgoff_t index, last;

	for (index = *start; index < *end; index = last + 1) {
		if (gmem_attributes_lookup(ga, index, &last) != private) {
			*start = index;
			*end = min(*end - 1, last) + 1;
			return true;
		}

		/* Past the end of the file, last + 1 would wrap to 0. */
		if (last >= *end - 1)
			break;
	}

	return false;
}

/*
 * Get ready to set [start, end) to @private: all that can fail happens here.
 * Nothing has changed until gmem_attributes_commit(), and lookups keep working
 * until then; gmem_attributes_abandon() calls it off.  The lock must be held for
 * writing until one of the two is called, as what is prepared fits only the tree
 * as it is now.
 */
int gmem_attributes_prepare(struct gmem_attributes *ga,
			    struct gmem_attributes_store *store,
			    pgoff_t start, pgoff_t end, bool private,
			    gfp_t gfp)
{
	void *entry = gmem_attributes_entry(private);
	struct ma_state *mas = &store->mas;
	pgoff_t first = start, last = end - 1;

	lockdep_assert(mt_write_lock_is_held(&ga->mt));

	mas_init(mas, &ga->mt, start);

	if (WARN_ON_ONCE(start >= end || !mtree_load(&ga->mt, last)))
		return -EINVAL;

	/*
	 * Take in the neighbours that are in the wanted state already, so that
	 * the store merges with them.  What lies around start - 1 or end can
	 * reach into the range itself, that makes no difference.
	 *
	 *	first    start     end      last
	 *	  | wanted | either | wanted |
	 *
	 * Nothing is to the left of index 0.  To the right of the last page
	 * there is NULL, which is not a state.
	 */
	if (start) {
		mas_set(mas, start - 1);
		if (mas_walk(mas) == entry)
			first = mas->index;
	}

	mas_set(mas, end);
	if (mas_walk(mas) == entry)
		last = mas->last;

	store->entry = entry;
	mas_set_range(mas, first, last);
	return mas_preallocate(mas, entry, gfp);
}

/* Make the prepared change.  Does not sleep. */
void gmem_attributes_commit(struct gmem_attributes_store *store)
{
	lockdep_assert(mt_write_lock_is_held(store->mas.tree));

	mas_store_prealloc(&store->mas, store->entry);
}

/* Give back what gmem_attributes_prepare() has allocated. */
void gmem_attributes_abandon(struct gmem_attributes_store *store)
{
	mas_destroy(&store->mas);
}
