// SPDX-License-Identifier: GPL-2.0-only
/*
 * Between the maple tree and the allocator of tools/testing/shared: watch the
 * requests for nodes, and make them fail.
 *
 * That allocator fails only what must not reclaim.  Take __GFP_DIRECT_RECLAIM away,
 * so that any allocation can fail, at any of its nodes.
 */
#include "file.h"

unsigned long nr_allocs;
gfp_t alloc_gfp;

static bool failing;
static unsigned int nr_left;

void alloc_fail_after(unsigned int nr)
{
	failing = true;
	nr_left = nr;
}

void alloc_fail_never(void)
{
	failing = false;
}

static gfp_t alloc_hook(struct kmem_cache *s, gfp_t gfp)
{
	alloc_gfp = nr_allocs++ ? alloc_gfp & gfp : gfp;

	if (failing) {
		gfp &= ~__GFP_DIRECT_RECLAIM;
		kmem_cache_set_non_kernel(s, nr_left);
	}
	return gfp;
}

void *__wrap_kmem_cache_alloc_lru(struct kmem_cache *cachep,
				  struct list_lru *lru, int gfp)
{
	return __real_kmem_cache_alloc_lru(cachep, lru,
					   alloc_hook(cachep, gfp));
}

struct slab_sheaf *__wrap_kmem_cache_prefill_sheaf(struct kmem_cache *s,
						   gfp_t gfp,
						   unsigned int size)
{
	return __real_kmem_cache_prefill_sheaf(s, alloc_hook(s, gfp), size);
}

long nodes_allocated(void)
{
	rcu_barrier();

	/*
	 * The maple tree frees some of its nodes with kfree(), which counts
	 * them down elsewhere.
	 */
	return uatomic_read(&nr_allocated) + uatomic_read(&kmalloc_nr_allocated);
}
