/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_GMEM_ATTRIBUTES_H__
#define __KVM_GMEM_ATTRIBUTES_H__

#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/types.h>

/*
 * Which pages of a guest_memfd are private, by index.  The rest is shared.
 *
 * Writers, that is gmem_attributes_fill(), gmem_attributes_prepare(),
 * gmem_attributes_commit() and gmem_attributes_destroy(), need the lock that's
 * given to gmem_attributes_init(), from prepare to commit without a break.
 *
 * Readers need no lock: every lookup is an RCU read-side critical section of
 * its own and sees some state of the tree from before or after a commit.  For
 * an answer to stay true, or for two lookups to belong together, the caller
 * holds the lock, or has another way to keep off, or to notice, a commit.
 */
struct gmem_attributes {
	struct maple_tree mt;
};

/* A prepared change, see gmem_attributes_prepare(). */
struct gmem_attributes_store {
	struct ma_state mas;
	void *entry;
};

/* An empty tree: all is shared, and it may be destroyed like any other. */
static inline void gmem_attributes_init(struct gmem_attributes *ga,
					struct mutex *lock)
{
	mt_init_flags(&ga->mt, MT_FLAGS_LOCK_EXTERN | MT_FLAGS_USE_RCU);
	mt_set_external_lock(&ga->mt, lock);
}

int gmem_attributes_fill(struct gmem_attributes *ga, pgoff_t nr_pages,
			 bool private);
void gmem_attributes_destroy(struct gmem_attributes *ga);

bool gmem_attributes_is_private(struct gmem_attributes *ga, pgoff_t index);
bool gmem_attributes_is_uniform(struct gmem_attributes *ga, pgoff_t start,
				pgoff_t end, bool private);
bool gmem_attributes_next_change(struct gmem_attributes *ga, pgoff_t *start,
				 pgoff_t *end, bool private);

int gmem_attributes_prepare(struct gmem_attributes *ga,
			    struct gmem_attributes_store *store,
			    pgoff_t start, pgoff_t end, bool private,
			    gfp_t gfp);
void gmem_attributes_commit(struct gmem_attributes_store *store);
void gmem_attributes_abandon(struct gmem_attributes_store *store);

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
 * @private, each as long as it can be, in ascending order.  Nothing is held or
 * kept between two steps but the index to go on from: the body may sleep.
 */
#define gmem_attributes_for_each_change(ga, start, end, private, s, e)	\
	for (pgoff_t __next = (start);					\
	     gmem_attributes_iter(ga, &__next, end, private, &(s), &(e));)

#endif /* __KVM_GMEM_ATTRIBUTES_H__ */
