/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_GMEM_ATTRIBUTES_H__
#define __KVM_GMEM_ATTRIBUTES_H__

#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/types.h>

struct gmem_range;

/*
 * Which pages of a guest_memfd are private, by index.  The rest is shared.
 *
 * gmem_attributes_is_private(), gmem_attributes_find() and
 * gmem_attributes_is_uniform() need no lock: a lookup is an RCU read-side critical
 * section of its own, and says of every page what was true before or after a
 * commit.  For an answer to stay true, or for what's said of two pages to belong
 * together, the caller holds the lock, or has another way to keep off, or to
 * notice, a commit.
 *
 * All else needs the lock that's given to gmem_attributes_init(), from prepare to
 * commit without a break.  gmem_attributes_fill(), gmem_attributes_prepare(),
 * gmem_attributes_commit() and gmem_attributes_destroy() may sleep, i.e. want
 * process context, and no spinlock held; the walks don't.
 */
struct gmem_attributes {
	struct maple_tree mt;
	pgoff_t nr_pages;

	/* What has been looked up last with the lock held, empty if unknown. */
	struct gmem_span {
		pgoff_t start;
		pgoff_t end;
		struct gmem_range *range;
	} last;
};

/* A prepared change, see gmem_attributes_prepare(). */
struct gmem_attributes_store {
	bool private;

	/* What changes of the chunks at both ends, nothing if there's no chunk. */
	struct gmem_part {
		struct gmem_range *chunk;
		unsigned int start;
		unsigned int end;
	} parts[2];

	/* What to store over the chunks between them, NULL if nothing. */
	struct gmem_range *range;
	struct ma_state mas;
};

/* An empty tree: all is shared, and it may be destroyed like any other. */
static inline void gmem_attributes_init(struct gmem_attributes *ga,
					struct mutex *lock)
{
	mt_init_flags(&ga->mt, MT_FLAGS_LOCK_EXTERN | MT_FLAGS_USE_RCU);
	mt_set_external_lock(&ga->mt, lock);
	ga->nr_pages = 0;
	ga->last.end = 0;
}

int gmem_attributes_fill(struct gmem_attributes *ga, pgoff_t nr_pages,
			 bool private);
void gmem_attributes_destroy(struct gmem_attributes *ga);

bool gmem_attributes_is_private(struct gmem_attributes *ga, pgoff_t index);
pgoff_t gmem_attributes_find(struct gmem_attributes *ga, pgoff_t start,
			     pgoff_t end, bool private);
bool gmem_attributes_next_change(struct gmem_attributes *ga, pgoff_t *start,
				 pgoff_t *end, bool private);

int gmem_attributes_prepare(struct gmem_attributes *ga,
			    struct gmem_attributes_store *store,
			    pgoff_t start, pgoff_t end, bool private,
			    gfp_t gfp);
pgoff_t gmem_attributes_commit(struct gmem_attributes_store *store);
void gmem_attributes_abandon(struct gmem_attributes_store *store);

/* Is all of [start, end) in the state @private? */
static inline bool gmem_attributes_is_uniform(struct gmem_attributes *ga,
					      pgoff_t start, pgoff_t end,
					      bool private)
{
	return gmem_attributes_find(ga, start, end, !private) >= end;
}

static inline bool gmem_attributes_iter(struct gmem_attributes *ga,
					pgoff_t *next, pgoff_t end,
					bool private, pgoff_t *s, pgoff_t *e)
{
	*s = *next;
	*e = end;
	if (!gmem_attributes_next_change(ga, s, e, private))
		return false;

	*next = *e;
	return true;
}

/*
 * Walk the sub-ranges [s, e) of [start, end) that are not in the state
 * @private, each as long as it can be, in ascending order.  Nothing is kept
 * between two steps but the index to go on from: the body may sleep.
 */
#define gmem_attributes_for_each_change(ga, start, end, private, s, e)	\
	for (pgoff_t __next = (start), __end = (end);			\
	     __next < __end &&						\
	     gmem_attributes_iter(ga, &__next, __end, private, &(s), &(e));)

#endif /* __KVM_GMEM_ATTRIBUTES_H__ */
